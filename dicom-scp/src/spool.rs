//! The spool: encrypted object files, their keys, and the log that says what became of each. The
//! log is the truth; files that it does not name are leftovers of a kill and are removed at start.
//!
//! ```text
//! spool/log/            segment log of `Record`s
//! spool/objects/<id>    received objects, encrypted under their own keys
//! spool/cleared/<id>    cleared objects with renditions, encrypted under their own keys
//! spool/keys/<study>    study keys, wrapped; forgetting one makes its study unreadable
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cloister_log::{Log, LogConfig, LogError, durable};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::error::SpoolError;
use crate::keys::{self, Keys, SecretKey};

pub(crate) mod record;
pub(crate) mod sealed;
pub(crate) mod worklist;

use record::Record;
use worklist::Worklist;

/// A random name: of an object, a file or (keyed hash) a study. Never from the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Id([u8; 16]);

impl Id {
    pub(crate) fn random() -> Result<Self, SpoolError> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|_| SpoolError::Randomness)?;
        Ok(Self(id))
    }

    /// Names a study by the keyed hash of its UID.
    pub(crate) fn of_hash(hash: &[u8; 32]) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(hash.split_at(16).0);
        Self(id)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Id {
    type Error = hex::FromHexError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut id = [0; 16];
        hex::decode_to_slice(text, &mut id)?;
        Ok(Self(id))
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.to_string()
    }
}

/// The open spool. Clones share it.
#[derive(Clone)]
pub(crate) struct Spool(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    log: Log,
    keys: Arc<Keys>,
    worklist: Mutex<Worklist>,
    changed: Notify,
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spool")
    }
}

impl Spool {
    /// Replays the log, then removes the files that it does not name.
    pub(crate) fn open(dir: &Path, keys: Arc<Keys>) -> Result<Self, SpoolError> {
        for folder in ["objects", "cleared", "keys"] {
            durable::create_dir_all(&dir.join(folder), 0o700)?;
        }
        let log = Log::open(LogConfig::at(dir.join("log")))?;
        let mut worklist = Worklist::default();
        for item in log.iter_from(0) {
            let (sequence, bytes) = item?;
            let record =
                serde_json::from_slice(&bytes).map_err(|_| SpoolError::Record { sequence })?;
            worklist.apply(sequence, record);
        }
        let (objects, cleared, studies) = worklist.files();
        remove_orphans(&dir.join("objects"), &objects)?;
        remove_orphans(&dir.join("cleared"), &cleared)?;
        remove_orphans(&dir.join("keys"), &studies)?;
        // Somebody has to see it, but the other studies go on; the object ends in quarantine.
        for id in &objects {
            if !dir.join("objects").join(id.to_string()).is_file() {
                tracing::error!(object = %id, "The file of an acknowledged object is missing.");
            }
        }
        Ok(Self(Arc::new(Inner {
            dir: dir.to_owned(),
            log,
            keys,
            worklist: Mutex::new(worklist),
            changed: Notify::new(),
        })))
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.0.keys
    }

    /// Makes a state change durable, then visible.
    pub(crate) async fn append(&self, record: Record) -> Result<(), LogError> {
        let bytes = serde_json::to_vec(&record).map_err(|_| LogError::TooLarge)?;
        let sequence = self.0.log.append(bytes).await?;
        self.worklist().apply(sequence, record);
        self.0.changed.notify_waiters();
        Ok(())
    }

    /// What is known. Hold it for a moment only.
    pub(crate) fn worklist(&self) -> MutexGuard<'_, Worklist> {
        self.0
            .worklist
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, for `limit` at most, until nobody else works on the spool.
    pub(crate) async fn settle(self, limit: Duration) {
        let deadline = tokio::time::Instant::now() + limit;
        while Arc::strong_count(&self.0) > 1 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Resolves at the next change.
    pub(crate) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.0.changed.notified()
    }

    pub(crate) fn objects(&self) -> PathBuf {
        self.0.dir.join("objects")
    }

    pub(crate) fn cleared(&self) -> PathBuf {
        self.0.dir.join("cleared")
    }

    fn study_key_file(&self, study: Id) -> PathBuf {
        self.0.dir.join("keys").join(study.to_string())
    }

    /// The study's key, made and stored at first use.
    pub(crate) fn study_key(&self, study: Id) -> Result<SecretKey, SpoolError> {
        let path = self.study_key_file(study);
        let purpose = study_key_purpose(study);
        match std::fs::read(&path) {
            Ok(wrapped) => Ok(keys::unwrap(self.0.keys.wrapping(), &purpose, &wrapped)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = keys::random_key()?;
                let wrapped = keys::wrap(self.0.keys.wrapping(), &purpose, &key)?;
                durable::create_new(&path, &wrapped, 0o600)?;
                Ok(key)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn study_key_purpose(study: Id) -> Vec<u8> {
    [b"study-key-v1".as_slice(), study.as_bytes()].concat()
}

fn remove_orphans(dir: &Path, known: &BTreeSet<Id>) -> Result<(), SpoolError> {
    let mut removed = 0u32;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let id = entry
            .file_name()
            .into_string()
            .ok()
            .and_then(|name| Id::try_from(name).ok());
        if !id.is_some_and(|id| known.contains(&id)) {
            std::fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    if removed > 0 {
        durable::sync_dir(dir)?;
        tracing::info!(
            removed,
            "Removed files of objects that were never acknowledged."
        );
    }
    Ok(())
}
