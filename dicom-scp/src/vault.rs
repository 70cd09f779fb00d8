//! Who is who: issuer and identifier → pseudonym, for ever. Used by `deidentify`.
//!
//! An entry is made once, as an HMAC under the pseudonym key, and recorded; from then on the record
//! counts, so that a new key never changes an old pseudonym. Entries are sealed in the log, and in
//! memory only keyed hashes point to pseudonyms.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use aes_gcm::Aes256Gcm;
use cloister_deid::{HmacPseudonyms, IdKind, PseudonymError, Pseudonyms};
use cloister_log::{Log, LogConfig};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::error::SpoolError;
use crate::keys::{self, Keys};

const PURPOSE: &[u8] = b"vault-entries-v1";

/// The open vault. Clones share it.
#[derive(Clone)]
pub(crate) struct Vault(Arc<Inner>);

struct Inner {
    log: Log,
    cipher: Aes256Gcm,
    keys: Arc<Keys>,
    maker: HmacPseudonyms,
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
    pub(crate) fn open(dir: &Path, keys: Arc<Keys>) -> Result<Self, SpoolError> {
        let log = Log::open(LogConfig::at(dir))?;
        let cipher = keys.vault();
        let mut known = HashMap::new();
        for item in log.iter_from(0) {
            let (sequence, sealed) = item?;
            let plain = keys::open_small(&cipher, PURPOSE, &sealed)?;
            let entries: Vec<Entry> =
                serde_json::from_slice(&plain).map_err(|_| SpoolError::Record { sequence })?;
            for entry in entries {
                known
                    .entry(entry.lookup(&keys))
                    .or_insert_with(|| entry.pseudonym.clone());
            }
        }
        let maker = HmacPseudonyms::new(keys.pseudonym());
        Ok(Self(Arc::new(Inner {
            log,
            cipher,
            keys,
            maker,
            known: RwLock::new(known),
        })))
    }

    /// Pseudonyms for one object; [`Session::commit`] records the new ones together.
    pub(crate) fn session(&self) -> Session {
        Session {
            vault: Arc::clone(&self.0),
            fresh: Mutex::default(),
        }
    }
}

/// Pseudonyms for one object.
pub(crate) struct Session {
    vault: Arc<Inner>,
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
        entry.pseudonym = self.vault.maker.pseudonym(kind, issuer, original)?;
        let pseudonym = entry.pseudonym.clone();
        self.fresh
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(lookup, entry);
        Ok(pseudonym)
    }
}

impl Session {
    /// Makes the new entries durable: nothing may leave under a pseudonym that is not recorded.
    pub(crate) fn commit(self) -> Result<(), SpoolError> {
        let fresh = self
            .fresh
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if fresh.is_empty() {
            return Ok(());
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

    fn keys(dir: &Path) -> Arc<Keys> {
        for (name, byte) in [("wrapping", 1), ("pseudonym", 2)] {
            let path = dir.join(name);
            if !path.exists() {
                cloister_seal::files::write_secret(&path, &[byte; 32]).unwrap();
            }
        }
        Arc::new(Keys::load(&dir.join("wrapping"), &dir.join("pseudonym")).unwrap())
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
        let vault = Vault::open(&dir.path().join("vault"), Arc::clone(&keys)).unwrap();
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
        let vault = Vault::open(&dir.path().join("vault"), keys).unwrap();
        assert_eq!((ask(&vault, "A"), ask(&vault, "B")), (one, two));
        assert_eq!(vault.0.log.len(), records);
    }
}
