//! The room's symmetric keys: one wraps, the others name. Loaded once, zeroized when dropped.
//!
//! The wrapping key encrypts object keys, study keys and the [`keyring`]; older wrapping keys only
//! open what they wrapped. The keyring is made at the first start from the pseudonym key: each
//! purpose has a key of its own, derived with HMAC-SHA-256. The keys that name things in the logs
//! never change, the one that makes new pseudonyms changes with `cloister vault rotate`.
//!
//! A wrapping key may be one on a PKCS#11 token ([`wrapping`]): then nothing is unwrapped without the
//! token, and every wrapping blocks for as long as the token takes.

use std::fmt;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use aes_gcm::{Aes256Gcm, KeyInit as _};
use cloister_token::TokenError;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use self::keyring::Keyring;
pub(crate) use self::wrapping::Wrapping;
use crate::config::{KeySource, WrappingSource};

pub(crate) mod keyring;
mod wrapping;

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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("the key file cannot be read")]
    Unreadable,
    #[error("the file with the token's PIN cannot be read, or is not of mode 0600")]
    PinUnreadable,
    #[error("the key file does not hold 32 bytes")]
    Length,
    #[error("no randomness")]
    Randomness,
    #[error("wrong key, or the data was changed")]
    Opening,
    #[error("encryption failed")]
    Sealing,
    /// The token could not be asked: says nothing about the data.
    #[error(transparent)]
    Token(TokenError),
}

impl From<TokenError> for KeyError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Opening => Self::Opening,
            other => Self::Token(other),
        }
    }
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

/// Encrypts a small value: nonce, ciphertext, tag.
pub(crate) fn seal_small(
    wrapping: &dyn Wrapping,
    purpose: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>, KeyError> {
    wrapping.seal(purpose, plain)
}

/// Decrypts what [`seal_small`] made for the same purpose.
pub(crate) fn open_small(
    wrapping: &dyn Wrapping,
    purpose: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    wrapping.open(purpose, sealed)
}

/// Encrypts a key under another.
pub(crate) fn wrap(
    wrapping: &dyn Wrapping,
    purpose: &[u8],
    key: &SecretKey,
) -> Result<[u8; WRAPPED_BYTES], KeyError> {
    seal_small(wrapping, purpose, key.as_ref())?
        .try_into()
        .map_err(|_| KeyError::Sealing)
}

/// Decrypts a key.
pub(crate) fn unwrap(
    wrapping: &dyn Wrapping,
    purpose: &[u8],
    wrapped: &[u8],
) -> Result<SecretKey, KeyError> {
    // An empty slot; no token is asked about it.
    if wrapped.iter().all(|byte| *byte == 0) {
        return Err(KeyError::Opening);
    }
    let plain = open_small(wrapping, purpose, wrapped)?;
    let key: &[u8; KEY_BYTES] = plain.as_slice().try_into().map_err(|_| KeyError::Opening)?;
    Ok(Zeroizing::new(*key))
}

/// The room's keys.
pub(crate) struct Keys {
    /// Newest first.
    wrappings: Vec<Box<dyn Wrapping>>,
    /// A token may take its time.
    slow: bool,
    keyring: RwLock<Keyring>,
}

impl Keys {
    /// Reads the key files, and finds the keys on tokens; group- or world-readable files are refused.
    /// `older` wrapping keys open what was wrapped before a change. Blocks.
    pub(crate) fn load(
        wrapping: &WrappingSource,
        older: &[WrappingSource],
        pseudonym: &KeySource,
    ) -> Result<Self, KeyError> {
        let mut wrappings = vec![wrapping::load(wrapping)?];
        for older in older {
            wrappings.push(wrapping::load(older)?);
        }
        let mut sources = older.iter().chain([wrapping]);
        Ok(Self {
            wrappings,
            slow: sources.any(|source| matches!(source, WrappingSource::Token(_))),
            keyring: RwLock::new(Keyring::from_pseudonym_key(&read(pseudonym)?)),
        })
    }

    /// Whether wrapping and unwrapping may block for longer than arithmetic takes.
    pub(crate) fn are_slow(&self) -> bool {
        self.slow
    }

    fn keyring(&self) -> RwLockReadGuard<'_, Keyring> {
        self.keyring.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the keyring that was stored in place of the one that is derived.
    pub(crate) fn set_keyring(&self, keyring: Keyring) {
        *self.keyring.write().unwrap_or_else(PoisonError::into_inner) = keyring;
    }

    pub(crate) fn copy_keyring(&self) -> Keyring {
        self.keyring().clone()
    }

    /// Wraps object keys at receipt, and study keys.
    #[expect(clippy::expect_used, reason = "`load` puts one in")]
    pub(crate) fn wrapping(&self) -> &dyn Wrapping {
        self.wrappings.first().expect("at least one").as_ref()
    }

    /// All of them, newest first.
    pub(crate) fn wrappings(&self) -> Vec<&dyn Wrapping> {
        self.wrappings.iter().map(AsRef::as_ref).collect()
    }

    /// Opens with the first wrapping key that fits.
    ///
    /// # Errors
    /// [`KeyError::Opening`] only if every key was asked.
    pub(crate) fn open(
        &self,
        purpose: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        first_that_fits(self.wrappings(), |wrapping| wrapping.open(purpose, sealed))
    }

    /// As [`Keys::open`], for a key.
    pub(crate) fn unwrap(&self, purpose: &[u8], wrapped: &[u8]) -> Result<SecretKey, KeyError> {
        let plain = self.open(purpose, wrapped)?;
        let key: &[u8; KEY_BYTES] = plain.as_slice().try_into().map_err(|_| KeyError::Opening)?;
        Ok(Zeroizing::new(*key))
    }

    /// Keyed hash that names an identifier in the log without telling it.
    pub(crate) fn lookup(&self, kind: &str, parts: &[&str]) -> [u8; 32] {
        let mut mac = mac(self.keyring().lookup())
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
        mac(self.keyring().content())
    }

    /// Encrypts the vault's entries.
    pub(crate) fn vault(&self) -> Aes256Gcm {
        cipher(self.keyring().vault())
    }

    /// Makes new pseudonyms.
    pub(crate) fn pseudonym(&self) -> SecretKey {
        self.keyring().pseudonym().clone()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

/// The first answer that is not [`KeyError::Opening`]; that one only if all say so, because a key
/// that could not be asked may be the one.
pub(crate) fn first_that_fits<'a, T, E: From<KeyError> + NotTheKey>(
    wrappings: impl IntoIterator<Item = &'a dyn Wrapping>,
    open: impl Fn(&'a dyn Wrapping) -> Result<T, E>,
) -> Result<T, E> {
    let mut result = Err(E::from(KeyError::Opening));
    for wrapping in wrappings {
        match open(wrapping) {
            Err(error) if error.is_not_the_key() => {}
            Err(error) => result = Err(error),
            opened => return opened,
        }
    }
    result
}

/// Tells a key that does not fit from other faults.
pub(crate) trait NotTheKey {
    /// Whether another key may fit.
    fn is_not_the_key(&self) -> bool;
}

impl NotTheKey for KeyError {
    fn is_not_the_key(&self) -> bool {
        *self == Self::Opening
    }
}

pub(crate) fn read(source: &KeySource) -> Result<SecretKey, KeyError> {
    let bytes =
        cloister_seal::files::read_secret(source.path()).map_err(|_| KeyError::Unreadable)?;
    let key: &[u8; KEY_BYTES] = bytes.as_slice().try_into().map_err(|_| KeyError::Length)?;
    Ok(Zeroizing::new(*key))
}
