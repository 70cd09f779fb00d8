//! `trust.toml`: every public key that `report open` and `audit verify` believe.

use std::path::Path;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::error::KeyError;
use crate::files;
use crate::signature::VerifyingKey;

/// The trust file was not read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The operating system refused.
    #[error("trust file: {0}")]
    Io(#[from] io::Error),
    /// No TOML, or a key that does not exist.
    #[error("trust file: {0}")]
    Toml(#[from] toml::de::Error),
    /// It could not be written as TOML.
    #[error("trust file: {0}")]
    Write(#[from] toml::ser::Error),
    /// One of the keys is no Ed25519 public key.
    #[error("trust file: a public key in `{field}` is malformed")]
    Key {
        /// Where it stands.
        field: &'static str,
    },
}

/// An audit log and the key that signs its checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditKey {
    /// `<site>/<room>/<replica>`.
    pub origin: String,
    /// Its key.
    pub key: VerifyingKey,
}

/// The pinned keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustFile {
    /// Sidecars: they sign envelopes.
    pub node_keys: Vec<VerifyingKey>,
    /// Gateways: they sign manifests and capsules.
    pub gateway_keys: Vec<VerifyingKey>,
    /// Audit logs.
    pub audit_keys: Vec<AuditKey>,
    /// Signs the recipient directory.
    pub enrolment_key: VerifyingKey,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    enrolment_key: String,
    #[serde(default)]
    node_keys: Vec<String>,
    #[serde(default)]
    gateway_keys: Vec<String>,
    #[serde(default)]
    audit_keys: Vec<RawAuditKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAuditKey {
    origin: String,
    key: String,
}

impl TryFrom<Raw> for TrustFile {
    type Error = TrustError;

    fn try_from(raw: Raw) -> Result<Self, TrustError> {
        let key = |field, pem: &str| {
            VerifyingKey::from_pem(pem).map_err(|_: KeyError| TrustError::Key { field })
        };
        let keys = |field, pems: Vec<String>| -> Result<Vec<_>, _> {
            pems.iter().map(|pem| key(field, pem)).collect()
        };
        let audit_keys = raw.audit_keys.into_iter().map(|audit| {
            Ok(AuditKey {
                key: key("audit_keys", &audit.key)?,
                origin: audit.origin,
            })
        });
        Ok(Self {
            node_keys: keys("node_keys", raw.node_keys)?,
            gateway_keys: keys("gateway_keys", raw.gateway_keys)?,
            audit_keys: audit_keys.collect::<Result<_, TrustError>>()?,
            enrolment_key: key("enrolment_key", &raw.enrolment_key)?,
        })
    }
}

impl TrustFile {
    /// Reads the file; unknown keys are refused.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn load(path: &Path) -> Result<Self, TrustError> {
        let raw: Raw = toml::from_str(&fs::read_to_string(path)?)?;
        raw.try_into()
    }

    /// Writes the file, replacing an old one.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn save(&self, path: &Path) -> Result<(), TrustError> {
        let pem = |field, key: &VerifyingKey| key.to_pem().map_err(|_| TrustError::Key { field });
        let pems = |field, keys: &[VerifyingKey]| -> Result<Vec<_>, _> {
            keys.iter().map(|key| pem(field, key)).collect()
        };
        let audit_keys = self.audit_keys.iter().map(|audit| {
            Ok(RawAuditKey {
                origin: audit.origin.clone(),
                key: pem("audit_keys", &audit.key)?,
            })
        });
        let raw = Raw {
            enrolment_key: pem("enrolment_key", &self.enrolment_key)?,
            node_keys: pems("node_keys", &self.node_keys)?,
            gateway_keys: pems("gateway_keys", &self.gateway_keys)?,
            audit_keys: audit_keys.collect::<Result<_, TrustError>>()?,
        };
        let text = toml::to_string(&raw)?;
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}.tmp", std::process::id()));
        files::write_new(Path::new(&temporary), text.as_bytes(), 0o644)?;
        fs::rename(&temporary, path)?;
        Ok(files::sync_parent(path)?)
    }

    /// The key of the audit log `origin`.
    pub fn audit_key(&self, origin: &str) -> Option<&VerifyingKey> {
        self.audit_keys
            .iter()
            .find(|audit| audit.origin == origin)
            .map(|audit| &audit.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;

    #[test]
    fn survives_saving_and_refuses_unknown_fields_and_bad_keys() {
        let key = || SigningKey::generate().unwrap().verifying_key();
        let trust = TrustFile {
            node_keys: vec![key(), key()],
            gateway_keys: vec![key()],
            audit_keys: vec![AuditKey {
                origin: "site/sidecar/0".into(),
                key: key(),
            }],
            enrolment_key: key(),
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trust.toml");
        trust.save(&path).unwrap();
        trust.save(&path).unwrap();
        assert_eq!(TrustFile::load(&path).unwrap(), trust);
        assert_eq!(
            trust.audit_key("site/sidecar/0"),
            Some(&trust.audit_keys[0].key)
        );
        assert_eq!(trust.audit_key("site/sidecar/1"), None);

        let text = fs::read_to_string(&path).unwrap();
        let bad = dir.path().join("bad.toml");
        files::write_new(&bad, format!("nodes = []\n{text}").as_bytes(), 0o600).unwrap();
        assert!(matches!(TrustFile::load(&bad), Err(TrustError::Toml(_))));
        fs::remove_file(&bad).unwrap();
        files::write_new(&bad, text.replacen("MCow", "MCox", 1).as_bytes(), 0o600).unwrap();
        assert!(matches!(TrustFile::load(&bad), Err(TrustError::Key { .. })));
    }
}
