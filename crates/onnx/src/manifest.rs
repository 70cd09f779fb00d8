//! `bundle.toml`: the keys that every kind of bundle has. What only one kind has is read by the
//! room that uses it, through [`Manifest::spec`], and refuses keys it does not know.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::BundleError;

/// What a bundle is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Kind {
    /// Drafts reports: vision, prefix and step graphs.
    Report,
    /// Classifies texts.
    Guard,
    /// Classifies tokens as identifiers.
    Phi,
    /// Finds text in films.
    TextDetector,
    /// Deterministic stand-in for a report model, for tests.
    Scripted,
}

/// One file of a bundle.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Path inside the bundle.
    pub path: String,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
    /// `pypi:NAME==VERSION!PATH` when the file is fetched into the cache instead of kept in git.
    pub source: Option<String>,
}

/// The keys of `bundle.toml` that every kind has.
#[derive(Debug, Clone, Deserialize)]
pub struct Manifest {
    /// Name, also the folder's.
    pub name: String,
    /// Version.
    pub version: String,
    /// What the bundle is for.
    pub kind: Kind,
    /// Whether the card carries an evaluation. False by default.
    #[serde(default)]
    pub evaluated: bool,
    /// Every file but `bundle.toml` and `bundle.sig`.
    #[serde(default, rename = "file")]
    pub files: Vec<FileEntry>,
    #[serde(flatten)]
    rest: toml::Table,
}

impl Manifest {
    /// Parses and checks a `bundle.toml`.
    pub(crate) fn parse(text: &str) -> Result<Self, BundleError> {
        let manifest: Self = toml::from_str(text).map_err(Box::new)?;
        let invalid = |key, reason| Err(BundleError::Invalid { key, reason });
        if manifest.name.is_empty() || manifest.version.is_empty() {
            return invalid("name", "name and version must not be empty");
        }
        for (index, file) in manifest.files.iter().enumerate() {
            if !is_inner_path(&file.path) {
                return invalid("file.path", "must be a relative path inside the bundle");
            }
            if !is_sha256(&file.sha256) {
                return invalid("file.sha256", "must be 64 lower-case hexadecimal digits");
            }
            if file
                .source
                .as_ref()
                .is_some_and(|source| !source.starts_with("pypi:"))
            {
                return invalid("file.source", "must start with pypi:");
            }
            if manifest
                .files
                .iter()
                .take(index)
                .any(|earlier| earlier.path == file.path)
            {
                return invalid("file.path", "stands twice");
            }
        }
        Ok(manifest)
    }

    /// The keys that only this kind has, as `T`. Give `T` `deny_unknown_fields`: a misspelt key
    /// then stops the start.
    ///
    /// # Errors
    /// [`BundleError::Parse`].
    pub fn spec<T: DeserializeOwned>(&self) -> Result<T, BundleError> {
        Ok(self.rest.clone().try_into().map_err(Box::new)?)
    }
}

fn is_inner_path(path: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    !matches!(path, "bundle.toml" | "bundle.sig") && path.split('/').all(plain)
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::{Manifest, is_inner_path};

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Spec {
        max_films: u32,
    }

    const HEAD: &str = "name = 'a'\nversion = '1'\nkind = 'report'\n";

    #[test]
    fn a_key_that_the_kind_does_not_know_is_refused() {
        let good = Manifest::parse(&format!("{HEAD}max_films = 4\n")).unwrap();
        assert_eq!(good.spec::<Spec>().unwrap().max_films, 4);
        let bad = Manifest::parse(&format!("{HEAD}max_films = 4\nmax_flims = 4\n")).unwrap();
        assert!(bad.spec::<Spec>().is_err());
    }

    #[test]
    fn paths_that_leave_the_bundle_are_refused() {
        for path in [
            "../x",
            "/etc/passwd",
            "a/../b",
            "a//b",
            "",
            ".",
            "bundle.toml",
            "a b",
            "a\\b",
            "a\0",
        ] {
            assert!(!is_inner_path(path), "{path}");
        }
        assert!(is_inner_path("onnx/step.onnx"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*") {
            let _parsed = Manifest::parse(&text);
        }
    }
}
