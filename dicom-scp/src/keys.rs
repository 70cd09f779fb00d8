//! The room's symmetric keys: one wraps, one names. Loaded once, zeroized when dropped.
//!
//! The wrapping key encrypts object keys and study keys. The pseudonym key (the vault's) is never
//! used as it is: each purpose has a key derived from it with HMAC-SHA-256.

use std::fmt;
use std::path::Path;

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 32;
/// Bytes of a nonce of AES-GCM.
pub(crate) const NONCE_BYTES: usize = 12;
/// Bytes of an AES-GCM tag.
pub(crate) const TAG_BYTES: usize = 16;
/// Bytes of a wrapped key: nonce, ciphertext, tag.
pub(crate) const WRAPPED_BYTES: usize = NONCE_BYTES + KEY_BYTES + TAG_BYTES;

/// A key that is gone from memory when it is dropped.
pub(crate) type SecretKey = Zeroizing<[u8; KEY_BYTES]>;

/// HMAC-SHA-256, for keyed hashes of identified data.
pub(crate) type Mac = Hmac<Sha256>;

/// Why key work failed. Says nothing about the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("the key file cannot be read")]
    Unreadable,
    #[error("the key file does not hold 32 bytes")]
    Length,
    #[error("no randomness")]
    Randomness,
    #[error("wrong key, or the data was changed")]
    Opening,
    #[error("encryption failed")]
    Sealing,
}

/// A fresh random key.
pub(crate) fn random_key() -> Result<SecretKey, KeyError> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    getrandom::fill(key.as_mut()).map_err(|_| KeyError::Randomness)?;
    Ok(key)
}

/// A cipher under `key`.
pub(crate) fn cipher(key: &[u8; KEY_BYTES]) -> Aes256Gcm {
    Aes256Gcm::new(key.into())
}

/// HMAC under `key`.
#[expect(
    clippy::expect_used,
    reason = "HMAC takes keys of any length (RFC 2104 section 2)"
)]
pub(crate) fn mac(key: &[u8; KEY_BYTES]) -> Mac {
    Mac::new_from_slice(key).expect("any length")
}

/// Encrypts a small value: random nonce, ciphertext, tag.
pub(crate) fn seal_small(
    cipher: &Aes256Gcm,
    purpose: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>, KeyError> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(|_| KeyError::Randomness)?;
    let sealed = cipher.encrypt(
        &Nonce::from(nonce),
        Payload {
            msg: plain,
            aad: purpose,
        },
    );
    let sealed = sealed.map_err(|_| KeyError::Sealing)?;
    Ok([&nonce[..], &sealed].concat())
}

/// Decrypts what [`seal_small`] made for the same purpose.
pub(crate) fn open_small(
    cipher: &Aes256Gcm,
    purpose: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let (nonce, body) = sealed
        .split_first_chunk::<NONCE_BYTES>()
        .ok_or(KeyError::Opening)?;
    let plain = cipher.decrypt(
        &Nonce::from(*nonce),
        Payload {
            msg: body,
            aad: purpose,
        },
    );
    plain.map(Zeroizing::new).map_err(|_| KeyError::Opening)
}

/// Encrypts a key under another.
pub(crate) fn wrap(
    cipher: &Aes256Gcm,
    purpose: &[u8],
    key: &SecretKey,
) -> Result<[u8; WRAPPED_BYTES], KeyError> {
    seal_small(cipher, purpose, key.as_ref())?
        .try_into()
        .map_err(|_| KeyError::Sealing)
}

/// Decrypts a key.
pub(crate) fn unwrap(
    cipher: &Aes256Gcm,
    purpose: &[u8],
    wrapped: &[u8],
) -> Result<SecretKey, KeyError> {
    let plain = open_small(cipher, purpose, wrapped)?;
    let key: &[u8; KEY_BYTES] = plain.as_slice().try_into().map_err(|_| KeyError::Opening)?;
    Ok(Zeroizing::new(*key))
}

/// The room's keys.
pub(crate) struct Keys {
    wrapping: Aes256Gcm,
    lookup: SecretKey,
    content: SecretKey,
    vault: SecretKey,
    pseudonym: SecretKey,
}

impl Keys {
    /// Reads both key files; group- or world-readable ones are refused.
    pub(crate) fn load(wrapping: &Path, pseudonym: &Path) -> Result<Self, KeyError> {
        let (wrapping, pseudonym) = (read(wrapping)?, read(pseudonym)?);
        let derive = |label: &str| -> SecretKey {
            Zeroizing::new(
                mac(&pseudonym)
                    .chain_update(label)
                    .finalize()
                    .into_bytes()
                    .into(),
            )
        };
        Ok(Self {
            wrapping: cipher(&wrapping),
            lookup: derive("cloister-dicom-scp lookup v1"),
            content: derive("cloister-dicom-scp content v1"),
            vault: derive("cloister-dicom-scp vault v1"),
            pseudonym,
        })
    }

    /// Wraps object keys at receipt, and study keys.
    pub(crate) fn wrapping(&self) -> &Aes256Gcm {
        &self.wrapping
    }

    /// Keyed hash that names an identifier in the log without telling it.
    pub(crate) fn lookup(&self, kind: &str, parts: &[&str]) -> [u8; 32] {
        let mut mac = mac(&self.lookup)
            .chain_update([kind.len() as u8])
            .chain_update(kind);
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }

    /// Starts the keyed hash of an object's bytes: never a plain hash of identified data.
    pub(crate) fn content(&self) -> Mac {
        mac(&self.content)
    }

    /// Encrypts the vault's entries.
    pub(crate) fn vault(&self) -> Aes256Gcm {
        cipher(&self.vault)
    }

    /// Makes new pseudonyms.
    pub(crate) fn pseudonym(&self) -> SecretKey {
        self.pseudonym.clone()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

fn read(path: &Path) -> Result<SecretKey, KeyError> {
    let bytes = cloister_seal::files::read_secret(path).map_err(|_| KeyError::Unreadable)?;
    let key: &[u8; KEY_BYTES] = bytes.as_slice().try_into().map_err(|_| KeyError::Length)?;
    Ok(Zeroizing::new(*key))
}
