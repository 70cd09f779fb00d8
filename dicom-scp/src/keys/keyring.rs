//! The keys that name: stored wrapped in `<state>/vault/keyring`, so that the key that makes new
//! pseudonyms can change without an old name changing.

use std::path::Path;

use aes_gcm::Aes256Gcm;
use cloister_log::disk::Disk;
use hmac::Mac as _;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{KeyError, Keys, SecretKey, cipher, mac, random_key, seal_small};
use crate::error::SpoolError;

const PURPOSE: &[u8] = b"keyring-v1";
/// Name inside the vault's folder.
pub(crate) const FILE: &str = "keyring";

/// Keys by purpose.
#[derive(Clone)]
pub(crate) struct Keyring {
    generation: u32,
    lookup: SecretKey,
    content: SecretKey,
    vault: SecretKey,
    pseudonym: SecretKey,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// As it is sealed.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct Raw {
    format: u32,
    generation: u32,
    lookup: [u8; 32],
    content: [u8; 32],
    vault: [u8; 32],
    pseudonym: [u8; 32],
}

impl Keyring {
    /// The first generation.
    pub(crate) fn from_pseudonym_key(pseudonym: &SecretKey) -> Self {
        let derive = |label: &str| -> SecretKey {
            let derived = mac(pseudonym).chain_update(label).finalize();
            Zeroizing::new(derived.into_bytes().into())
        };
        Self {
            generation: 0,
            lookup: derive("cloister-dicom-scp lookup v1"),
            content: derive("cloister-dicom-scp content v1"),
            vault: derive("cloister-dicom-scp vault v1"),
            pseudonym: pseudonym.clone(),
        }
    }

    /// The next generation: a fresh key for pseudonyms that are not recorded yet.
    pub(crate) fn next(&self) -> Result<Self, KeyError> {
        Ok(Self {
            generation: self.generation.saturating_add(1),
            pseudonym: random_key()?,
            ..self.clone()
        })
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    pub(super) fn lookup(&self) -> &SecretKey {
        &self.lookup
    }

    pub(super) fn content(&self) -> &SecretKey {
        &self.content
    }

    pub(super) fn vault(&self) -> &SecretKey {
        &self.vault
    }

    /// Opens the entries of a vault of this keyring.
    pub(crate) fn vault_cipher(&self) -> Aes256Gcm {
        cipher(&self.vault)
    }

    pub(super) fn pseudonym(&self) -> &SecretKey {
        &self.pseudonym
    }

    /// Sealed under the newest wrapping key.
    pub(crate) fn seal(&self, keys: &Keys) -> Result<Vec<u8>, SpoolError> {
        let raw = Raw {
            format: 1,
            generation: self.generation,
            lookup: *self.lookup,
            content: *self.content,
            vault: *self.vault,
            pseudonym: *self.pseudonym,
        };
        let plain = Zeroizing::new(serde_json::to_vec(&raw).map_err(|_| SpoolError::Sealed)?);
        Ok(seal_small(keys.wrapping(), PURPOSE, &plain)?)
    }

    pub(crate) fn open(keys: &Keys, sealed: &[u8]) -> Result<Self, SpoolError> {
        let plain = keys.open(PURPOSE, sealed)?;
        let raw: Raw = serde_json::from_slice(&plain).map_err(|_| SpoolError::Sealed)?;
        if raw.format != 1 {
            return Err(SpoolError::Sealed);
        }
        Ok(Self {
            generation: raw.generation,
            lookup: Zeroizing::new(raw.lookup),
            content: Zeroizing::new(raw.content),
            vault: Zeroizing::new(raw.vault),
            pseudonym: Zeroizing::new(raw.pseudonym),
        })
    }

    /// Replaces the stored one, whole or not at all.
    pub(crate) fn store(&self, disk: &Disk, dir: &Path, keys: &Keys) -> Result<(), SpoolError> {
        disk.create_dir_all(dir, 0o700)?;
        Ok(disk.write_atomic(&dir.join(FILE), &self.seal(keys)?, 0o600)?)
    }

    /// Takes the stored one, or stores the first.
    pub(crate) fn load_or_store(disk: &Disk, dir: &Path, keys: &Keys) -> Result<(), SpoolError> {
        match std::fs::read(dir.join(FILE)) {
            Ok(sealed) => {
                // Its name may not have been durable when the process died.
                disk.sync_dir(dir)?;
                keys.set_keyring(Self::open(keys, &sealed)?);
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                keys.copy_keyring().store(disk, dir, keys)
            }
            Err(error) => Err(error.into()),
        }
    }
}
