//! `[keys]` and `[pkcs11]`: where the secrets are.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cloister_runtime::ConfigError;
use cloister_token::TokenUri;
use serde::Deserialize;

use super::raw::millis;

/// Where the secrets are.
#[derive(Debug, Clone)]
pub(crate) struct KeyFiles {
    pub(crate) wrapping: WrappingSource,
    /// Newest first.
    pub(crate) wrapping_previous: Vec<WrappingSource>,
    pub(crate) pseudonym: KeySource,
    pub(crate) manifest_signing: KeySource,
    pub(crate) audit_signing: KeySource,
}

/// A secret's file: named by the configuration, or handed over by systemd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeySource(PathBuf);

impl KeySource {
    #[cfg(test)]
    pub(crate) fn file(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

/// A wrapping key: 32 bytes of a file, or a key that stays on its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WrappingSource {
    File(KeySource),
    Token(Box<TokenKey>),
}

/// An AES-256 key on a PKCS#11 token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenKey {
    pub(crate) module: PathBuf,
    pub(crate) uri: TokenUri,
    pub(crate) pin: KeySource,
    pub(crate) allow_extractable: bool,
    /// Of one call.
    pub(crate) timeout: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    wrapping: String,
    #[serde(default)]
    wrapping_previous: Vec<String>,
    pseudonym: String,
    manifest_signing: String,
    audit_signing: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pkcs11 {
    module: Option<PathBuf>,
    pin: Option<String>,
    #[serde(default)]
    allow_extractable: bool,
    #[serde(default = "ten_seconds_ms")]
    timeout_ms: u64,
}

const fn ten_seconds_ms() -> u64 {
    10_000
}

impl Keys {
    pub(super) fn check(
        &self,
        secrets: &Secrets<'_>,
        pkcs11: Option<&Pkcs11>,
    ) -> Result<KeyFiles, ConfigError> {
        let previous = self.wrapping_previous.iter();
        let wrapping_previous = previous
            .map(|text| secrets.wrapping("keys.wrapping_previous", text, pkcs11))
            .collect::<Result<Vec<_>, _>>()?;
        let wrapping = secrets.wrapping("keys.wrapping", &self.wrapping, pkcs11)?;
        let on_token = |source: &WrappingSource| matches!(source, WrappingSource::Token(_));
        if pkcs11.is_some() && !on_token(&wrapping) && !wrapping_previous.iter().any(on_token) {
            return Err(ConfigError::invalid(
                "pkcs11",
                "no wrapping key is on a token",
            ));
        }
        Ok(KeyFiles {
            wrapping,
            wrapping_previous,
            pseudonym: secrets.source("keys.pseudonym", &self.pseudonym)?,
            manifest_signing: secrets.source("keys.manifest_signing", &self.manifest_signing)?,
            audit_signing: secrets.source("keys.audit_signing", &self.audit_signing)?,
        })
    }
}

/// Turns the configuration's words for a secret into its file: `credential:NAME` is one in the folder
/// that systemd names, anything else a path.
pub(super) struct Secrets<'a> {
    pub(super) base: &'a Path,
    pub(super) credentials: Option<PathBuf>,
}

impl Secrets<'_> {
    pub(super) fn source(&self, key: &str, text: &str) -> Result<KeySource, ConfigError> {
        if text.starts_with("pkcs11:") {
            return Err(ConfigError::invalid(
                key,
                "only a wrapping key may be on a token",
            ));
        }
        let Some(name) = text.strip_prefix("credential:") else {
            return Ok(KeySource(self.base.join(text)));
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) {
            return Err(ConfigError::invalid(key, "no name of a credential"));
        }
        let dir = self.credentials.as_ref();
        let dir = dir
            .ok_or_else(|| ConfigError::invalid(key, "systemd names no $CREDENTIALS_DIRECTORY"))?;
        Ok(KeySource(dir.join(name)))
    }

    /// As [`Secrets::source`], or a key on a token. What the URI names itself counts before `[pkcs11]`.
    pub(super) fn wrapping(
        &self,
        key: &str,
        text: &str,
        pkcs11: Option<&Pkcs11>,
    ) -> Result<WrappingSource, ConfigError> {
        if !text.starts_with("pkcs11:") {
            return self.source(key, text).map(WrappingSource::File);
        }
        // The error never holds the text: somebody may have put a PIN there.
        let uri: TokenUri = text
            .parse()
            .map_err(|error| ConfigError::invalid(key, error))?;
        let module = match (
            &uri.module_path,
            pkcs11.and_then(|table| table.module.as_ref()),
        ) {
            (Some(path), _) => self.base.join(path),
            (None, Some(path)) => self.base.join(path),
            (None, None) => {
                return Err(ConfigError::invalid(
                    "pkcs11.module",
                    "needed by a key on a token",
                ));
            }
        };
        let pin = match (&uri.pin_source, pkcs11.and_then(|table| table.pin.as_ref())) {
            (Some(source), _) => {
                let path = source.strip_prefix("file:").unwrap_or(source);
                self.source(key, path)?
            }
            (None, Some(pin)) => self.source("pkcs11.pin", pin)?,
            (None, None) => {
                return Err(ConfigError::invalid(
                    "pkcs11.pin",
                    "needed by a key on a token: a file, or credential:NAME",
                ));
            }
        };
        let timeout_ms = pkcs11.map_or(ten_seconds_ms(), |table| table.timeout_ms);
        Ok(WrappingSource::Token(Box::new(TokenKey {
            module,
            uri,
            pin,
            allow_extractable: pkcs11.is_some_and(|table| table.allow_extractable),
            timeout: millis("pkcs11.timeout_ms", timeout_ms)?,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapping(text: &str, table: Option<&str>) -> Result<WrappingSource, String> {
        let secrets = Secrets {
            base: Path::new("/etc/cloister"),
            credentials: Some("/run/credentials/room".into()),
        };
        let table: Option<Pkcs11> = table.map(toml_of);
        let source = secrets.wrapping("keys.wrapping", text, table.as_ref());
        source.map_err(|error| error.to_string())
    }

    fn toml_of(table: &str) -> Pkcs11 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table.toml");
        cloister_log::durable::write_atomic(&path, table.as_bytes(), 0o600).unwrap();
        cloister_runtime::config::load::<Pkcs11>(&path).unwrap().0
    }

    #[test]
    fn a_key_on_a_token_takes_module_and_pin_from_its_uri_or_from_the_table() {
        let table = "module = \"/usr/lib/p11.so\"\npin = \"credential:pin\"";
        let key = "pkcs11:token=site;object=wrapping-1";
        let Ok(WrappingSource::Token(token)) = wrapping(key, Some(table)) else {
            panic!("no token");
        };
        assert_eq!(token.module, Path::new("/usr/lib/p11.so"));
        assert_eq!(token.pin.path(), Path::new("/run/credentials/room/pin"));
        assert!(!token.allow_extractable);
        let own = format!("{key}?module-path=p11/other.so&pin-source=file:/etc/pin");
        for table in [Some(table), None] {
            let Ok(WrappingSource::Token(token)) = wrapping(&own, table) else {
                panic!("no token");
            };
            assert_eq!(token.module, Path::new("/etc/cloister/p11/other.so"));
            assert_eq!(token.pin.path(), Path::new("/etc/pin"));
        }
        let file = WrappingSource::File(KeySource("/etc/cloister/wrapping.key".into()));
        assert_eq!(wrapping("wrapping.key", None), Ok(file));
    }

    #[test]
    fn a_key_on_a_token_without_its_module_or_pin_is_refused_and_a_pin_never_shown() {
        let key = "pkcs11:token=site;object=wrapping-1";
        for (text, table, named) in [
            (key.to_owned(), None, "pkcs11.module"),
            (key.to_owned(), Some("module = \"/p11.so\""), "pkcs11.pin"),
            (key.to_owned(), Some("pin = \"pin\""), "pkcs11.module"),
            (
                format!("{key}?pin-value=4711&module-path=/p11.so"),
                None,
                "keys.wrapping",
            ),
            (
                key.to_owned(),
                Some("module = \"/p11.so\"\npin = \"pin\"\ntimeout_ms = 0"),
                "pkcs11.timeout_ms",
            ),
        ] {
            let error = wrapping(&text, table).unwrap_err();
            assert!(error.contains(named), "{error}");
            assert!(!error.contains("4711"));
        }
    }
}
