//! Ed25519 with domain separation: gateway manifests, node envelopes, directory entries.

use std::fmt;

use ed25519_dalek::Signer;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes,
};
use zeroize::{Zeroize, Zeroizing};

use crate::error::{KeyError, SignatureError};
use crate::sha256;

/// A private signing key; zeroized on drop, its `Debug` shows the public key's id only.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// A fresh key.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut()).map_err(|_| KeyError::Random)?;
        Ok(Self(ed25519_dalek::SigningKey::from_bytes(&seed)))
    }

    /// Reads a PKCS#8 PEM (`openssl genpkey -algorithm ed25519`).
    ///
    /// # Errors
    /// [`KeyError::Malformed`].
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, KeyError> {
        let key = ed25519_dalek::SigningKey::from_pkcs8_pem(pem);
        key.map(Self).map_err(|_| KeyError::Malformed)
    }

    /// Writes a PKCS#8 PEM, version 1 without the public key, which every OpenSSL reads.
    ///
    /// # Errors
    /// [`KeyError::Malformed`], never seen.
    pub fn to_pkcs8_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        let mut pair = KeypairBytes {
            secret_key: self.0.to_bytes(),
            public_key: None,
        };
        let pem = pair
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|_| KeyError::Malformed);
        pair.secret_key.zeroize();
        pem
    }

    /// The public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key())
    }

    /// Signs `parts` under `domain`: tag, NUL, then every part behind its length. Two different
    /// lists of parts never give the same message, and no message of one domain is one of another.
    pub fn sign(&self, domain: &str, parts: &[&[u8]]) -> Vec<u8> {
        self.0.sign(&message(domain, parts)).to_vec()
    }

    /// Signs the text of a C2SP note, which fixes its own bytes. Such a text holds no NUL, so it
    /// is never a message of [`SigningKey::sign`].
    pub fn sign_note(&self, text: &str) -> [u8; 64] {
        self.0.sign(text.as_bytes()).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?})", self.verifying_key())
    }
}

/// A public signing key.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyingKey(ed25519_dalek::VerifyingKey);

impl VerifyingKey {
    /// Reads a SubjectPublicKeyInfo PEM.
    ///
    /// # Errors
    /// [`KeyError::Malformed`], also for keys of small order.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let key = ed25519_dalek::VerifyingKey::from_public_key_pem(pem);
        Self::checked(key.map_err(|_| KeyError::Malformed)?)
    }

    /// Reads the raw 32 bytes.
    ///
    /// # Errors
    /// As [`VerifyingKey::from_pem`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes);
        Self::checked(key.map_err(|_| KeyError::Malformed)?)
    }

    fn checked(key: ed25519_dalek::VerifyingKey) -> Result<Self, KeyError> {
        if key.is_weak() {
            Err(KeyError::Malformed)
        } else {
            Ok(Self(key))
        }
    }

    /// Writes a SubjectPublicKeyInfo PEM.
    ///
    /// # Errors
    /// [`KeyError::Malformed`], never seen.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        self.0
            .to_public_key_pem(LineEnding::LF)
            .map_err(|_| KeyError::Malformed)
    }

    /// The raw 32 bytes.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// SHA-256 of the raw key: how envelopes and manifests name their signer.
    pub fn key_id(&self) -> [u8; 32] {
        sha256(self.0.as_bytes())
    }

    /// Checks what [`SigningKey::sign`] made.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify(
        &self,
        domain: &str,
        parts: &[&[u8]],
        signature: &[u8],
    ) -> Result<(), SignatureError> {
        self.verify_raw(&message(domain, parts), signature)
    }

    /// Checks what [`SigningKey::sign_note`] made.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify_note(&self, text: &str, signature: &[u8]) -> Result<(), SignatureError> {
        self.verify_raw(text.as_bytes(), signature)
    }

    fn verify_raw(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        let signature =
            ed25519_dalek::Signature::from_slice(signature).map_err(|_| SignatureError(()))?;
        // Strict: one valid signature encoding per message, no small-order points.
        self.0
            .verify_strict(message, &signature)
            .map_err(|_| SignatureError(()))
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({})", hex::encode(self.0.as_bytes()))
    }
}

fn message(domain: &str, parts: &[&[u8]]) -> Vec<u8> {
    let mut message = Vec::with_capacity(domain.len() + 1 + framed_len(parts));
    message.extend_from_slice(domain.as_bytes());
    message.push(0);
    frame(parts, &mut message);
    message
}

fn framed_len(parts: &[&[u8]]) -> usize {
    parts.iter().map(|part| part.len() + 8).sum()
}

/// Every part behind its length, 64 bit big endian.
pub(crate) fn frame(parts: &[&[u8]], out: &mut Vec<u8>) {
    for part in parts {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_fits_only_its_key_domain_and_split_into_parts() {
        let key = SigningKey::generate().unwrap();
        let signature = key.sign("a", &[b"one", b"two"]);
        let public = key.verifying_key();
        public.verify("a", &[b"one", b"two"], &signature).unwrap();
        let other = SigningKey::generate().unwrap().verifying_key();
        assert!(other.verify("a", &[b"one", b"two"], &signature).is_err());
        assert!(public.verify("b", &[b"one", b"two"], &signature).is_err());
        assert!(public.verify("a", &[b"onet", b"wo"], &signature).is_err());
        assert!(public.verify("a", &[b"onetwo"], &signature).is_err());
        assert!(
            public
                .verify("a", &[b"one", b"two"], &signature[1..])
                .is_err()
        );
    }

    #[test]
    fn keys_survive_their_pem_and_debug_shows_no_secret() {
        let key = SigningKey::generate().unwrap();
        let pem = key.to_pkcs8_pem().unwrap();
        assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"));
        let again = SigningKey::from_pkcs8_pem(&pem).unwrap();
        assert_eq!(again.verifying_key(), key.verifying_key());
        let public = VerifyingKey::from_pem(&key.verifying_key().to_pem().unwrap()).unwrap();
        assert_eq!(public, key.verifying_key());
        assert!(!format!("{key:?}").contains(&hex::encode(key.0.to_bytes())));
        for bad in [
            "",
            "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n",
            pem.get(1..).unwrap(),
        ] {
            assert!(SigningKey::from_pkcs8_pem(bad).is_err());
        }
        assert!(VerifyingKey::from_bytes(&[0; 32]).is_err(), "small order");
    }
}
