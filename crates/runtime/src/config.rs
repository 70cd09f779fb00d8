//! Reading a configuration file: first step of every process.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Largest configuration file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The configuration cannot be used. The process ends with [`crate::exit::USAGE`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is larger than any configuration.
    #[error("{path}: larger than 1 MiB")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not TOML, a key that does not exist, or a value of the wrong type.
    #[error("{path}: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A value that parses but cannot be used.
    #[error("{key}: {reason}")]
    Invalid {
        /// The key, dotted.
        key: String,
        /// Why.
        reason: String,
    },
}

impl ConfigError {
    /// A value that parses but cannot be used.
    pub fn invalid(key: impl Into<String>, reason: impl ToString) -> Self {
        Self::Invalid {
            key: key.into(),
            reason: reason.to_string(),
        }
    }
}

/// Reads `path` as TOML into a raw structure, and names the folder that its relative paths start
/// from.
///
/// # Errors
/// [`ConfigError`]; nothing is ever "warned about and continued".
pub fn load<R: DeserializeOwned>(path: &Path) -> Result<(R, PathBuf), ConfigError> {
    let read = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    if std::fs::metadata(path).map_err(read)?.len() > MAX_BYTES {
        return Err(ConfigError::TooLarge {
            path: path.to_owned(),
        });
    }
    let text = std::fs::read_to_string(path).map_err(read)?;
    let raw = toml::from_str(&text).map_err(|source| ConfigError::Parse {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    let absolute = std::path::absolute(path).map_err(read)?;
    let base = absolute
        .parent()
        .map_or_else(|| PathBuf::from("/"), Path::to_owned);
    Ok((raw, base))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "test files need not be durable")]
mod tests {
    use super::{ConfigError, load};

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Raw {
        #[expect(dead_code, reason = "only parsed")]
        port: u16,
    }

    #[test]
    fn an_unknown_key_is_refused_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("room.toml");
        std::fs::write(&path, "port = 1\nprot = 2\n").unwrap();
        let error = load::<Raw>(&path).unwrap_err();
        assert!(
            matches!(error, ConfigError::Parse { .. }) && error.to_string().contains("prot"),
            "{error}"
        );
    }

    #[test]
    fn relative_paths_start_at_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("room.toml");
        std::fs::write(&path, "port = 1\n").unwrap();
        assert_eq!(load::<Raw>(&path).unwrap().1, dir.path());
    }
}
