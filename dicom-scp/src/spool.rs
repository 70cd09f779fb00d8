//! The spool: encrypted object files, their keys, and the log that says what became of each. The
//! log is the truth; files that it does not name are leftovers of a kill and are removed at start.
//!
//! ```text
//! spool/log/            segment log of `Record`s; spool/log-<n>/ after the n-th compaction
//! spool/current         which of them counts; absent before the first compaction
//! spool/objects/<id>    received objects, encrypted under their own keys
//! spool/cleared/<id>    cleared objects with renditions, encrypted under their own keys
//! spool/keys/<study>    study keys, wrapped; forgetting one makes its study unreadable
//! ```
//!
//! Erasing overwrites wrapped keys before it unlinks them. A copy-on-write file system or an SSD may
//! keep the old block: what stands there is still encrypted under the wrapping key.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aes_gcm::Aes256Gcm;
use cloister_log::LogError;
use cloister_log::disk::Disk;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::error::SpoolError;
use crate::keys::{self, Keys, SecretKey};

mod compact;
mod erase;
mod original;
pub(crate) mod record;
pub(crate) mod sealed;
pub(crate) mod space;
pub(crate) mod worklist;

use compact::Current;
use record::Record;
use sealed::{SealedWriter, Slot};
use space::{Charge, Limits, Space};
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
    disk: Disk,
    /// Read to append, written to put a compacted log in its place.
    log: RwLock<Current>,
    keys: Arc<Keys>,
    worklist: Mutex<Worklist>,
    changed: Notify,
    space: Arc<Space>,
    /// Held while a study's key is read, made or wrapped again: nobody sees a name that is not durable.
    key_making: Mutex<()>,
    /// Read while an object comes into a study or its key is used to wrap another; written while
    /// something is erased or keys are renewed.
    gate: RwLock<()>,
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spool")
    }
}

impl Spool {
    /// Replays the log, then removes the files that it does not name.
    pub(crate) fn open(
        dir: &Path,
        keys: Arc<Keys>,
        disk: Disk,
        limits: Limits,
    ) -> Result<Self, SpoolError> {
        for folder in ["objects", "cleared", "keys"] {
            let folder = dir.join(folder);
            disk.create_dir_all(&folder, 0o700)?;
            // A process may have died between a name and its sync; from now on names are relied on.
            disk.sync_dir(&folder)?;
        }
        let mut worklist = Worklist::default();
        let current = Current::open(&disk, dir, &mut worklist)?;
        let (objects, cleared, studies) = worklist.files();
        let mut used = remove_orphans(&disk, &dir.join("objects"), &objects)?;
        used += remove_orphans(&disk, &dir.join("cleared"), &cleared)?;
        remove_orphans(&disk, &dir.join("keys"), &studies)?;
        Ok(Self(Arc::new(Inner {
            space: Arc::new(Space::new(dir, limits, used)),
            dir: dir.to_owned(),
            disk,
            log: RwLock::new(current),
            keys,
            worklist: Mutex::new(worklist),
            changed: Notify::new(),
            key_making: Mutex::new(()),
            gate: RwLock::new(()),
        })))
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.0.keys
    }

    /// Makes a state change durable, then visible. Dropping the future takes neither back.
    pub(crate) async fn append(&self, record: Record) -> Result<(), LogError> {
        let spool = self.clone();
        let task = tokio::spawn(async move {
            let bytes = serde_json::to_vec(&record).map_err(|_| LogError::TooLarge)?;
            let current = spool.0.log.read().await;
            if spool.is_distrusted() {
                return Err(LogError::Closed);
            }
            let appended = current.log.append(bytes).await;
            if matches!(appended, Err(LogError::Closed)) {
                // It may or may not be there after a restart.
                spool.0.space.distrust();
            }
            let sequence = appended?;
            spool.worklist().apply(sequence, record);
            spool.0.changed.notify_waiters();
            Ok(())
        });
        task.await.map_err(|_| LogError::Closed)?
    }

    /// Nothing is erased while this is held.
    pub(crate) async fn hold(&self) -> RwLockReadGuard<'_, ()> {
        self.0.gate.read().await
    }

    async fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.0.gate.write().await
    }

    /// Begins the file of an object, if there is room.
    pub(crate) fn receive(&self, object: Id) -> Result<SealedWriter, SpoolError> {
        self.0.space.admit()?;
        let charge = Charge::new(&self.0.space, true);
        let wrapping = self.0.keys.wrapping();
        let (disk, dir) = (&self.0.disk, self.objects());
        SealedWriter::create(disk, &dir, object, wrapping, Slot::Receive, Some(charge))
    }

    /// Acknowledged objects whose file is not there although something still has to be read from it.
    pub(crate) fn missing(&self) -> Vec<Id> {
        let needed = self.worklist().needed();
        let dir = self.objects();
        let missing = |id: &Id| !dir.join(id.to_string()).is_file();
        needed.into_iter().filter(missing).collect()
    }

    /// Begins the file of a cleared object.
    pub(crate) fn write_cleared(
        &self,
        file: Id,
        cipher: &Aes256Gcm,
    ) -> Result<SealedWriter, SpoolError> {
        if self.is_distrusted() {
            return Err(SpoolError::Distrusted);
        }
        let charge = Charge::new(&self.0.space, false);
        let (disk, dir) = (&self.0.disk, self.cleared());
        SealedWriter::create(disk, &dir, file, cipher, Slot::Study, Some(charge))
    }

    /// Takes back a durable file that no record names.
    pub(crate) fn discard(&self, object: Id) {
        self.take_back(&self.objects().join(object.to_string()));
    }

    /// As [`Spool::discard`], for the file of a cleared object.
    pub(crate) fn discard_cleared(&self, file: Id) {
        self.take_back(&self.cleared().join(file.to_string()));
    }

    fn take_back(&self, path: &Path) {
        let length = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        if self.0.disk.remove_file(path).is_ok() {
            self.0.space.freed(length);
        }
    }

    /// Whether a sync has failed in a way that makes names doubtful.
    pub(crate) fn is_distrusted(&self) -> bool {
        self.0.space.is_distrusted()
    }

    /// Wraps an object's key under its study's.
    pub(crate) fn rewrap(&self, object: Id, key: &SecretKey) -> Result<(), SpoolError> {
        let wrappings = self.0.keys.wrappings();
        sealed::rewrap(&self.0.disk, &self.objects(), object, &wrappings, key)
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

    /// The study's key, made and stored at first use. Blocks: see [`Spool::fetch_study_key`].
    pub(crate) fn study_key(&self, study: Id) -> Result<SecretKey, SpoolError> {
        let making = self.key_making();
        self.study_key_under(&making, study)
    }

    /// As [`Spool::study_key`], off the threads that serve associations: a token may take its time.
    pub(crate) async fn fetch_study_key(&self, study: Id) -> Result<SecretKey, SpoolError> {
        let spool = self.clone();
        let fetched = tokio::task::spawn_blocking(move || spool.study_key(study));
        fetched.await.unwrap_or(Err(SpoolError::Sealed))
    }

    fn key_making(&self) -> MutexGuard<'_, ()> {
        let making = self.0.key_making.lock();
        making.unwrap_or_else(PoisonError::into_inner)
    }

    fn study_key_under(
        &self,
        _making: &MutexGuard<'_, ()>,
        study: Id,
    ) -> Result<SecretKey, SpoolError> {
        // After the lock: whoever had it may have failed.
        if self.is_distrusted() {
            return Err(SpoolError::Distrusted);
        }
        let path = self.study_key_file(study);
        let purpose = study_key_purpose(study);
        match std::fs::read(&path) {
            Ok(wrapped) => Ok(self.0.keys.unwrap(&purpose, &wrapped)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = keys::random_key()?;
                let wrapped = keys::wrap(self.0.keys.wrapping(), &purpose, &key)?;
                let made = self.0.disk.create_new(&path, &wrapped, 0o600);
                made.map_err(SpoolError::from).inspect_err(|error| {
                    // A name that may not be durable must not be used by the next caller, and one
                    // that is taken away could come back.
                    if !matches!(error, SpoolError::Full) || path.exists() {
                        self.0.space.distrust();
                    }
                })?;
                Ok(key)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn study_key_purpose(study: Id) -> Vec<u8> {
    [b"study-key-v1".as_slice(), study.as_bytes()].concat()
}

/// Bytes of the files that stay.
fn remove_orphans(disk: &Disk, dir: &Path, known: &BTreeSet<Id>) -> Result<u64, SpoolError> {
    let (mut removed, mut bytes) = (0u32, 0);
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok();
        match name.and_then(|name| Id::try_from(name).ok()) {
            Some(id) if known.contains(&id) => bytes += entry.metadata()?.len(),
            Some(id) => {
                // It may be what an erasure was about when the process died.
                sealed::destroy(disk, dir, id)?;
                removed += 1;
            }
            None => {
                disk.remove_file(&entry.path())?;
                removed += 1;
            }
        }
    }
    if removed > 0 {
        disk.sync_dir(dir)?;
        tracing::info!(removed, "Removed files that no record names.");
    }
    Ok(bytes)
}
