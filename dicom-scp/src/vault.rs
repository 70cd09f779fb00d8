//! Who is who: issuer and identifier → pseudonym, for ever. Used by `deidentify`.
//!
//! An entry is made once, as an HMAC under the pseudonym key, and recorded; from then on the record
//! counts, so that a new key never changes an old pseudonym. Entries are sealed in the log, and in
//! memory only keyed hashes point to pseudonyms: the way back reads the log, for an operator whose
//! question is on the audit trail before its answer.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use aes_gcm::Aes256Gcm;
use cloister_deid::{HmacPseudonyms, IdKind, PseudonymError, Pseudonyms};
use cloister_log::disk::Disk;
use cloister_log::{Log, LogConfig};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::error::SpoolError;
use crate::keys::keyring::Keyring;
use crate::keys::{self, Keys};

mod backup;

const PURPOSE: &[u8] = b"vault-entries-v1";

/// The open vault. Clones share it.
#[derive(Clone)]
pub(crate) struct Vault(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    disk: Disk,
    log: Log,
    cipher: Aes256Gcm,
    keys: Arc<Keys>,
    /// The keyring's generation: read while entries are recorded, written while the keys change.
    generation: RwLock<u32>,
    maker: RwLock<HmacPseudonyms>,
    known: RwLock<HashMap<[u8; 32], String>>,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct Entry {
    kind: String,
    issuer: String,
    original: String,
    pseudonym: String,
}

impl Entry {
    fn lookup(&self, keys: &Keys) -> [u8; 32] {
        keys.lookup("vault", &[&self.kind, &self.issuer, &self.original])
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault")
    }
}

impl Vault {
    /// Opens the vault, and gives `keys` the names that it was made with.
    pub(crate) fn open(dir: &Path, keys: Arc<Keys>, disk: Disk) -> Result<Self, SpoolError> {
        Keyring::load_or_store(&disk, dir, &keys)?;
        let log = Log::open(LogConfig {
            disk: disk.clone(),
            ..LogConfig::at(dir)
        })?;
        let cipher = keys.vault();
        let mut known = HashMap::new();
        for item in log.iter_from(0) {
            let (sequence, sealed) = item?;
            for entry in entries(&cipher, sequence, &sealed)? {
                known
                    .entry(entry.lookup(&keys))
                    .or_insert_with(|| entry.pseudonym.clone());
            }
        }
        let maker = HmacPseudonyms::new(keys.pseudonym());
        let generation = keys.copy_keyring().generation();
        Ok(Self(Arc::new(Inner {
            dir: dir.to_owned(),
            disk,
            log,
            cipher,
            keys,
            generation: RwLock::new(generation),
            maker: RwLock::new(maker),
            known: RwLock::new(known),
        })))
    }

    /// Pseudonyms for one object; [`Session::commit`] records the new ones together.
    pub(crate) fn session(&self) -> Session {
        Session {
            generation: *self
                .0
                .generation
                .read()
                .unwrap_or_else(PoisonError::into_inner),
            vault: Arc::clone(&self.0),
            fresh: Mutex::default(),
        }
    }

    /// Entries whose pseudonym or original is `asked`; reads the whole log.
    pub(crate) fn find(&self, asked: &str) -> Result<Vec<Found>, SpoolError> {
        let mut found = Vec::new();
        for item in self.0.log.iter_from(0) {
            let (sequence, sealed) = item?;
            for entry in entries(&self.0.cipher, sequence, &sealed)? {
                if entry.pseudonym == asked || entry.original == asked {
                    found.push(Found(entry));
                }
            }
        }
        Ok(found)
    }

    /// From now on new pseudonyms are made with another key, and the keyring is wrapped under the
    /// newest wrapping key. Recorded pseudonyms stay. The keyring's new generation.
    pub(crate) fn rotate(&self) -> Result<u32, SpoolError> {
        let inner = &self.0;
        // Whoever records entries has ended; whoever comes later made them with the old key, and is
        // told so.
        let mut current = inner
            .generation
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let mut maker = inner.maker.write().unwrap_or_else(PoisonError::into_inner);
        let next = inner.keys.copy_keyring().next()?;
        next.store(&inner.disk, &inner.dir, &inner.keys)?;
        let generation = next.generation();
        inner.keys.set_keyring(next);
        *maker = HmacPseudonyms::new(inner.keys.pseudonym());
        *current = generation;
        Ok(generation)
    }
}

/// Who is behind a pseudonym. Identified: for the operator's answer and nothing else.
pub(crate) struct Found(Entry);

impl Found {
    pub(crate) fn kind(&self) -> &str {
        &self.0.kind
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.0.issuer
    }

    pub(crate) fn original(&self) -> &str {
        &self.0.original
    }

    pub(crate) fn pseudonym(&self) -> &str {
        &self.0.pseudonym
    }
}

fn entries(cipher: &Aes256Gcm, sequence: u64, sealed: &[u8]) -> Result<Vec<Entry>, SpoolError> {
    let plain = keys::open_small(cipher, PURPOSE, sealed)?;
    serde_json::from_slice(&plain).map_err(|_| SpoolError::Record { sequence })
}

/// Pseudonyms for one object.
pub(crate) struct Session {
    vault: Arc<Inner>,
    /// The keyring's when it began.
    generation: u32,
    fresh: Mutex<HashMap<[u8; 32], Entry>>,
}

impl Pseudonyms for Session {
    fn pseudonym(
        &self,
        kind: IdKind,
        issuer: &str,
        original: &str,
    ) -> Result<String, PseudonymError> {
        let mut entry = Entry {
            kind: format!("{kind:?}"),
            issuer: issuer.to_owned(),
            original: original.to_owned(),
            pseudonym: String::new(),
        };
        let lookup = entry.lookup(&self.vault.keys);
        if let Some(known) = self
            .vault
            .known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&lookup)
        {
            return Ok(known.clone());
        }
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = fresh.get(&lookup) {
            return Ok(made.pseudonym.clone());
        }
        entry.pseudonym = self
            .vault
            .maker
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .pseudonym(kind, issuer, original)?;
        let pseudonym = entry.pseudonym.clone();
        fresh.insert(lookup, entry);
        Ok(pseudonym)
    }
}

impl Session {
    /// Makes the new entries durable: nothing may leave under a pseudonym that is not recorded.
    ///
    /// # Errors
    /// [`SpoolError::Rotated`] if there are new ones and the keys have changed since the session
    /// began: another session may have recorded others for the same originals.
    pub(crate) fn commit(self) -> Result<(), SpoolError> {
        let fresh = self
            .fresh
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if fresh.is_empty() {
            return Ok(());
        }
        let generation = self
            .vault
            .generation
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if *generation != self.generation {
            return Err(SpoolError::Rotated);
        }
        let entries: Vec<&Entry> = fresh.values().collect();
        let plain = Zeroizing::new(serde_json::to_vec(&entries).map_err(|_| SpoolError::Sealed)?);
        let sealed = keys::seal_small(&self.vault.cipher, PURPOSE, &plain)?;
        self.vault.log.append_blocking(sealed)?;
        let mut known = self
            .vault
            .known
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        for (lookup, entry) in &fresh {
            known
                .entry(*lookup)
                .or_insert_with(|| entry.pseudonym.clone());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cloister_deid::{IdKind, Pseudonyms as _};

    use super::*;
    use crate::config::{KeySource, WrappingSource};

    fn keys(dir: &Path) -> Arc<Keys> {
        for (name, byte) in [("wrapping", 1), ("pseudonym", 2)] {
            let path = dir.join(name);
            if !path.exists() {
                cloister_seal::files::write_secret(&path, &[byte; 32]).unwrap();
            }
        }
        load(dir, "wrapping", &[])
    }

    fn load(dir: &Path, wrapping: &str, older: &[&str]) -> Arc<Keys> {
        let source = |name: &str| WrappingSource::File(KeySource::file(dir.join(name)));
        let pseudonym = KeySource::file(dir.join("pseudonym"));
        let older: Vec<_> = older.iter().map(|name| source(name)).collect();
        Arc::new(Keys::load(&source(wrapping), &older, &pseudonym).unwrap())
    }

    fn open(dir: &Path, keys: &Arc<Keys>) -> Result<Vault, SpoolError> {
        Vault::open(&dir.join("vault"), Arc::clone(keys), Disk::default())
    }

    fn ask(vault: &Vault, id: &str) -> String {
        let session = vault.session();
        let pseudonym = session.pseudonym(IdKind::PatientId, "A", id).unwrap();
        session.commit().unwrap();
        pseudonym
    }

    #[test]
    fn a_pseudonym_is_kept_over_a_restart_and_two_issuers_stay_two_patients() {
        let dir = tempfile::tempdir().unwrap();
        let keys = keys(dir.path());
        let ask = |vault: &Vault, issuer: &str| {
            let session = vault.session();
            let pseudonym = session
                .pseudonym(IdKind::PatientId, issuer, "4711")
                .unwrap();
            session.commit().unwrap();
            pseudonym
        };
        let vault = open(dir.path(), &keys).unwrap();
        let (one, two) = (ask(&vault, "A"), ask(&vault, "B"));
        assert_ne!(one, two);
        let records = vault.0.log.len();
        assert_eq!(ask(&vault, "A"), one);
        assert_eq!(
            vault.0.log.len(),
            records,
            "known ones are not recorded again"
        );
        drop(vault);
        let vault = open(dir.path(), &keys).unwrap();
        assert_eq!((ask(&vault, "A"), ask(&vault, "B")), (one, two));
        assert_eq!(vault.0.log.len(), records);
    }

    #[test]
    fn a_rotation_changes_new_pseudonyms_only_and_names_in_the_logs_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let first = keys(dir.path());
        let name = first.lookup("study", &["1.2.3"]);
        let vault = open(dir.path(), &first).unwrap();
        let old = ask(&vault, "4711");
        let twin = {
            // What the first generation would have said.
            let session = vault.session();
            session.pseudonym(IdKind::PatientId, "A", "4712").unwrap()
        };
        assert_eq!((vault.rotate().unwrap(), vault.rotate().unwrap()), (1, 2));
        assert_eq!(ask(&vault, "4711"), old);
        // A session from before the rotation has to begin again.
        let early = vault.session();
        early.pseudonym(IdKind::PatientId, "A", "4713").unwrap();
        assert_eq!(vault.rotate().unwrap(), 3);
        assert!(matches!(early.commit(), Err(SpoolError::Rotated)));
        let late = vault.session();
        let made = late.pseudonym(IdKind::PatientId, "A", "4713").unwrap();
        assert_eq!(
            late.pseudonym(IdKind::PatientId, "A", "4713").unwrap(),
            made
        );
        late.commit().unwrap();
        assert_eq!(ask(&vault, "4713"), made);
        let new = ask(&vault, "4712");
        assert_ne!(new, twin);
        drop(vault);

        // Another wrapping key: the old one is needed until the next rotation, and not after it.
        cloister_seal::files::write_secret(&dir.path().join("wrapping2"), &[9; 32]).unwrap();
        assert!(open(dir.path(), &load(dir.path(), "wrapping2", &[])).is_err());
        let both = load(dir.path(), "wrapping2", &["wrapping"]);
        let vault = open(dir.path(), &both).unwrap();
        assert_eq!(
            (ask(&vault, "4711"), ask(&vault, "4712")),
            (old.clone(), new)
        );
        assert_eq!(vault.rotate().unwrap(), 4);
        drop(vault);
        let second = load(dir.path(), "wrapping2", &[]);
        let vault = open(dir.path(), &second).unwrap();
        assert_eq!(ask(&vault, "4711"), old);
        assert_eq!(second.lookup("study", &["1.2.3"]), name);
    }

    #[test]
    fn the_way_back_is_found_by_pseudonym_and_by_original() {
        let dir = tempfile::tempdir().unwrap();
        let keys = keys(dir.path());
        let vault = open(dir.path(), &keys).unwrap();
        let pseudonym = ask(&vault, "4711");
        ask(&vault, "4712");
        for asked in [pseudonym.as_str(), "4711"] {
            let found = vault.find(asked).unwrap();
            assert_eq!(found.len(), 1);
            assert_eq!((found[0].original(), found[0].issuer()), ("4711", "A"));
        }
        assert!(vault.find("471").unwrap().is_empty());
    }

    #[test]
    fn a_backup_is_whole_or_no_backup_and_can_be_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let keys = keys(dir.path());
        let vault = open(dir.path(), &keys).unwrap();
        let pseudonyms: Vec<String> = (0..20).map(|id| ask(&vault, &id.to_string())).collect();
        vault.rotate().unwrap();
        let file = dir.path().join("backup");
        let made = vault.back_up(&file).unwrap();
        assert_eq!((made.entries, made.generation), (20, 1));
        assert!(vault.back_up(&file).is_err(), "never overwrites");
        assert_eq!(vault.verify(&file).unwrap(), made);
        let bytes = std::fs::read(&file).unwrap();
        let needle = pseudonyms[0].as_bytes();
        assert!(!bytes.windows(needle.len()).any(|window| window == needle));
        for at in (0..bytes.len()).step_by(37) {
            let mut damaged = bytes.clone();
            // Slot B of the head is empty and means nothing.
            if (68..128).contains(&at) {
                continue;
            }
            damaged[at] ^= 1;
            let path = dir.path().join("damaged");
            cloister_log::durable::write_atomic(&path, &damaged, 0o600).unwrap();
            assert!(vault.verify(&path).is_err(), "byte {at}");
            cloister_log::durable::write_atomic(&path, &bytes[..at], 0o600).unwrap();
            assert!(vault.verify(&path).is_err(), "cut at {at}");
        }
        drop(vault);
        std::fs::rename(dir.path().join("vault"), dir.path().join("lost")).unwrap();
        let disk = Disk::default();
        // Half of one from an attempt that was killed.
        let half = dir.path().join("vault.restoring");
        std::fs::create_dir(&half).unwrap();
        cloister_log::durable::write_atomic(&half.join("keyring"), b"half", 0o600).unwrap();
        Vault::restore(&file, &dir.path().join("vault"), &keys, &disk).unwrap();
        assert!(Vault::restore(&file, &dir.path().join("vault"), &keys, &disk).is_err());
        assert!(!half.exists());
        let vault = open(dir.path(), &load(dir.path(), "wrapping", &[])).unwrap();
        let again: Vec<String> = (0..20).map(|id| ask(&vault, &id.to_string())).collect();
        assert_eq!(again, pseudonyms);
    }
}
