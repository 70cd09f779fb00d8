//! Which bundles may run: those whose hash was compiled in, and those signed by a key that the
//! configuration names.

use std::collections::BTreeSet;

use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::Deserialize;

/// Hashes of the bundles this project made, compiled in.
const COMPILED: &str = include_str!("../../../models/TRUSTED.toml");
/// Domain of a bundle signature: the tag, then the SHA-256 of `bundle.toml`.
const SIGNATURE_DOMAIN: &[u8] = b"cloister-bundle-v1";

/// A trust list that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// Not TOML, or a key that does not exist.
    #[error("trust list: {0}")]
    Parse(#[from] Box<toml::de::Error>),
    /// Not 64 hexadecimal digits.
    #[error("trust list: a SHA-256 is not 64 hexadecimal digits")]
    Hash,
    /// Not an Ed25519 public key in PEM.
    #[error("trust list: not an Ed25519 public key in PEM")]
    Key,
    /// Not an Ed25519 private key in PEM.
    #[error("not an Ed25519 private key in PKCS#8 PEM")]
    SigningKey,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    bundle: Vec<RawBundle>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBundle {
    #[expect(dead_code, reason = "names the entry for the reader of the file")]
    name: String,
    sha256: String,
}

/// Bundles that may run.
#[derive(Debug, Clone, Default)]
pub struct TrustedHashes {
    hashes: BTreeSet<[u8; 32]>,
    keys: Vec<VerifyingKey>,
}

impl TrustedHashes {
    /// The hashes that were compiled in.
    ///
    /// # Errors
    /// [`TrustError`] when `models/TRUSTED.toml` was not well-formed at build time.
    pub fn compiled_in() -> Result<Self, TrustError> {
        let raw: Raw = toml::from_str(COMPILED).map_err(Box::new)?;
        let mut trusted = Self::default();
        for bundle in raw.bundle {
            trusted = trusted.with_hash(&bundle.sha256)?;
        }
        Ok(trusted)
    }

    /// Also trusts the bundle whose `bundle.toml` has this SHA-256, in hex.
    ///
    /// # Errors
    /// [`TrustError::Hash`].
    pub fn with_hash(mut self, sha256: &str) -> Result<Self, TrustError> {
        let mut hash = [0; 32];
        hex::decode_to_slice(sha256, &mut hash).map_err(|_| TrustError::Hash)?;
        self.hashes.insert(hash);
        Ok(self)
    }

    /// Also trusts bundles signed by this Ed25519 key (SubjectPublicKeyInfo PEM).
    ///
    /// # Errors
    /// [`TrustError::Key`].
    pub fn with_key_pem(mut self, pem: &str) -> Result<Self, TrustError> {
        self.keys
            .push(VerifyingKey::from_public_key_pem(pem).map_err(|_| TrustError::Key)?);
        Ok(self)
    }

    /// Whether the bundle with this hash may run, given the signature beside it, if any.
    pub(crate) fn allows(&self, sha256: &[u8; 32], signature: Option<&[u8; 64]>) -> bool {
        if self.hashes.contains(sha256) {
            return true;
        }
        let Some(signature) = signature.map(Signature::from_bytes) else {
            return false;
        };
        let message = signature_message(sha256);
        self.keys
            .iter()
            .any(|key| key.verify_strict(&message, &signature).is_ok())
    }
}

/// Signs the bundle whose `bundle.toml` has this hash ([`crate::Bundle::sha256`]) with an Ed25519 key
/// (PKCS#8 PEM); the result is what `bundle.sig` holds.
///
/// # Errors
/// [`TrustError::SigningKey`].
pub fn sign(sha256: &[u8; 32], key_pem: &str) -> Result<[u8; 64], TrustError> {
    let key = SigningKey::from_pkcs8_pem(key_pem).map_err(|_| TrustError::SigningKey)?;
    Ok(key.sign(&signature_message(sha256)).to_bytes())
}

/// What a bundle signature signs. The 64 signature bytes lie beside `bundle.toml` as `bundle.sig`.
pub fn signature_message(sha256: &[u8; 32]) -> Vec<u8> {
    [SIGNATURE_DOMAIN, sha256].concat()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sha2::{Digest, Sha256};

    use super::{Raw, TrustedHashes};

    #[test]
    fn every_bundle_of_this_project_is_trusted_as_it_stands() {
        let trust = TrustedHashes::compiled_in().unwrap();
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
        let mut bundles = 0;
        for entry in models.read_dir().unwrap() {
            let path = entry.unwrap().path().join("bundle.toml");
            if let Ok(text) = std::fs::read(&path) {
                let hash: [u8; 32] = Sha256::digest(&text).into();
                assert!(
                    trust.allows(&hash, None),
                    "{}: {}",
                    path.display(),
                    hex::encode(hash)
                );
                bundles += 1;
            }
        }
        assert!(bundles >= 3);
    }

    #[test]
    fn a_key_that_the_trust_list_does_not_know_is_refused() {
        assert!(
            toml::from_str::<Raw>("[[bundle]]\nname = 'a'\nsha256 = 'b'\nsha512 = 'c'\n").is_err()
        );
        assert!(TrustedHashes::default().with_hash("12").is_err());
        assert!(
            TrustedHashes::default()
                .with_key_pem("-----BEGIN NOTHING-----")
                .is_err()
        );
    }
}
