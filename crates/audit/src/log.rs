//! The open audit log: record, prove, sign.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fmt, fs, io};

use cloister_log::disk::Disk;
use cloister_log::{Log, LogConfig};
use cloister_seal::{SigningKey, VerifyingKey};
use uuid::Uuid;

use crate::checkpoint::{self, Checkpoint};
use crate::error::{AuditError, VerifyError};
use crate::event::Event;
use crate::reason::Action;
use crate::tree::{Hash, TILE, Tree, leaf_hash};

/// The segment log, inside the audit directory.
pub(crate) const RECORDS: &str = "log";
/// The signed tree head, beside it.
pub(crate) const CHECKPOINT: &str = "checkpoint";
/// A checkpoint is written at least this often while there are new records.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
const CHECKPOINT_RECORDS: u64 = 256;
/// An event is some hundred bytes; a group of recipients adds to it.
const LARGEST_EVENT: u32 = 64 << 10;

/// Where an audit log lives and who it is.
#[derive(Debug, Clone)]
pub struct AuditConfig {
    /// Directory, created if it is missing.
    pub dir: PathBuf,
    /// `<site>/<room>/<replica>`: no white space, no plus sign.
    pub origin: String,
    /// Signs checkpoints and nothing else.
    pub key: SigningKey,
}

/// Where an event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// Its number, from 0.
    pub leaf_index: u64,
    /// Its RFC 6962 leaf hash.
    pub leaf_hash: Hash,
}

/// Proof that a record stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    /// Number of the record.
    pub leaf_index: u64,
    /// The record, as logged.
    pub leaf: Vec<u8>,
    /// RFC 6962 audit path, bottom up.
    pub path: Vec<Hash>,
    /// C2SP note over the tree that the path leads to.
    pub checkpoint: String,
}

/// An open audit log. Clones share it; the last one dropped writes a final checkpoint.
#[derive(Clone)]
pub struct AuditLog(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    /// Dropped first, which stops the keeper.
    wake: Option<Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(keeper) = self.keeper.take() {
            drop(keeper.join());
        }
    }
}

struct Shared {
    log: Log,
    disk: Disk,
    origin: String,
    key: SigningKey,
    path: PathBuf,
    state: Mutex<State>,
}

/// What is derived from the records; grown in their order.
#[derive(Default)]
struct State {
    tree: Tree,
    /// First record of each action about a report.
    reports: HashMap<(Uuid, Action), u64>,
    /// Size that the last wake-up of the keeper asked for.
    woken_at: u64,
}

impl State {
    fn push(&mut self, record: &[u8]) -> Result<Hash, AuditError> {
        let event = Event::from_bytes(record)?;
        if let Some(report) = event.report_id() {
            self.reports
                .entry((report, event.action()))
                .or_insert(self.tree.size());
        }
        let hash = leaf_hash(record);
        self.tree.push(hash);
        Ok(hash)
    }
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = &self.0.shared.origin;
        f.debug_struct("AuditLog")
            .field("origin", origin)
            .finish_non_exhaustive()
    }
}

impl AuditLog {
    /// Opens the log, hashes all of it and compares it with its last checkpoint.
    ///
    /// # Errors
    /// [`AuditError::Tampered`] if they disagree: nothing may be recorded until a human looked.
    pub fn open(config: AuditConfig) -> Result<Self, AuditError> {
        Self::open_on(Disk::default(), config)
    }

    /// As [`AuditLog::open`], on a disk that may be watched.
    ///
    /// # Errors
    /// As [`AuditLog::open`].
    pub fn open_on(disk: Disk, config: AuditConfig) -> Result<Self, AuditError> {
        if !checkpoint::is_origin(&config.origin) {
            return Err(AuditError::Origin);
        }
        disk.create_dir_all(&config.dir, 0o700)?;
        let path = config.dir.join(CHECKPOINT);
        let signed = load_checkpoint(&path, &config.origin, &config.key.verifying_key())?;
        let mut state = State::default();
        let mut comparison = Comparison::new(signed);
        comparison.at(&state.tree);
        let mut failed = None;
        let log_config = LogConfig {
            max_record_bytes: LARGEST_EVENT,
            disk: disk.clone(),
            ..LogConfig::at(config.dir.join(RECORDS))
        };
        let log = Log::open_each(log_config, |_, record| {
            if let Err(error) = state.push(record) {
                failed.get_or_insert(error);
            }
            comparison.at(&state.tree);
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        if !comparison.agrees(&state.tree) {
            return Err(AuditError::Tampered);
        }
        let shared = Arc::new(Shared {
            log,
            disk,
            origin: config.origin,
            key: config.key,
            path,
            state: Mutex::new(state),
        });
        // From the first record on there is a signed head to compare with.
        let written = shared.write_checkpoint()?;
        let (wake, woken) = channel();
        let keeper = thread::Builder::new()
            .name("cloister-audit".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || keep_checkpoint(&shared, written, &woken)
            })?;
        Ok(Self(Arc::new(Inner {
            shared,
            wake: Some(wake),
            keeper: Some(keeper),
        })))
    }

    /// Puts `event` on record; it is durable and provable when this returns.
    ///
    /// # Errors
    /// [`AuditError`]: what the event was about must not happen.
    pub async fn record(&self, event: Event) -> Result<Recorded, AuditError> {
        let record = event.to_bytes()?;
        let leaf_index = self.0.shared.log.append(record.clone()).await?;
        self.grow(leaf_index, &record)
    }

    /// As [`AuditLog::record`], for threads without a runtime.
    ///
    /// # Errors
    /// As [`AuditLog::record`].
    pub fn record_blocking(&self, event: Event) -> Result<Recorded, AuditError> {
        let record = event.to_bytes()?;
        let leaf_index = self.0.shared.log.append_blocking(record.clone())?;
        self.grow(leaf_index, &record)
    }

    /// Brings the tree up to the record that just became durable, and the ones before it whose
    /// callers were slower or went away.
    fn grow(&self, leaf_index: u64, record: &[u8]) -> Result<Recorded, AuditError> {
        let mut state = self.0.shared.lock();
        while state.tree.size() <= leaf_index {
            let next = state.tree.size();
            if next == leaf_index {
                state.push(record)?;
            } else {
                let earlier = self
                    .0
                    .shared
                    .log
                    .read(next)?
                    .ok_or(AuditError::NoSuchLeaf)?;
                state.push(&earlier)?;
            }
        }
        if state.tree.size() - state.woken_at >= CHECKPOINT_RECORDS {
            state.woken_at = state.tree.size();
            if self
                .0
                .wake
                .as_ref()
                .is_some_and(|wake| wake.send(()).is_err())
            {
                tracing::error!("the keeper of the audit checkpoint has died");
            }
        }
        Ok(Recorded {
            leaf_index,
            leaf_hash: leaf_hash(record),
        })
    }

    /// Name of the log.
    pub fn origin(&self) -> &str {
        &self.0.shared.origin
    }

    /// Key that verifies the log's checkpoints.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.0.shared.key.verifying_key()
    }

    /// Number of records.
    pub fn len(&self) -> u64 {
        self.0.shared.lock().tree.size()
    }

    /// True before the first record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A C2SP checkpoint over all records, signed now.
    ///
    /// # Errors
    /// None today; a key in hardware may fail.
    pub fn checkpoint(&self) -> Result<String, AuditError> {
        let state = self.0.shared.lock();
        let (size, root) = (state.tree.size(), state.tree.root());
        drop(state);
        Ok(self.0.shared.sign(size, &root))
    }

    /// Proves that the record `leaf_index` stands in the log as it is now.
    ///
    /// # Errors
    /// [`AuditError::NoSuchLeaf`].
    pub fn prove_inclusion(&self, leaf_index: u64) -> Result<InclusionProof, AuditError> {
        let shared = &self.0.shared;
        let leaf = shared.log.read(leaf_index)?.ok_or(AuditError::NoSuchLeaf)?;
        let complete = shared.lock().tree.complete_tile_of(leaf_index);
        let mut tile = Vec::new();
        if let Some(start) = complete {
            // Records do not change: no need to hold the lock while reading them.
            for item in shared.log.iter_from(start).take(TILE as usize) {
                tile.push(leaf_hash(&item?.1));
            }
        }
        let state = shared.lock();
        let (size, root) = (state.tree.size(), state.tree.root());
        let path = match state.tree.path(leaf_index, &tile) {
            Some(path) => path,
            // The tile was completed between the two locks.
            None if complete.is_none() && state.tree.complete_tile_of(leaf_index).is_some() => {
                drop(state);
                return self.prove_inclusion(leaf_index);
            }
            None => return Err(AuditError::NoSuchLeaf),
        };
        drop(state);
        Ok(InclusionProof {
            leaf_index,
            leaf,
            path,
            checkpoint: shared.sign(size, &root),
        })
    }

    /// At most `limit` records from `from` on.
    ///
    /// # Errors
    /// [`AuditError::Log`].
    pub fn events(&self, from: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, AuditError> {
        Ok(self
            .0
            .shared
            .log
            .iter_from(from)
            .take(limit)
            .collect::<Result<_, _>>()?)
    }

    /// Record of the release of `report`.
    pub fn find_by_report(&self, report: Uuid) -> Option<u64> {
        self.find(Action::ReportReleased, report)
    }

    /// First record of `action` about `report`.
    pub fn find(&self, action: Action, report: Uuid) -> Option<u64> {
        self.0.shared.lock().reports.get(&(report, action)).copied()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sign(&self, size: u64, root: &Hash) -> String {
        checkpoint::sign(&self.origin, size, root, &self.key)
    }

    /// Size of the checkpoint now on disk.
    fn write_checkpoint(&self) -> io::Result<u64> {
        let state = self.lock();
        let (size, root) = (state.tree.size(), state.tree.root());
        drop(state);
        let note = self.sign(size, &root);
        self.disk.write_atomic(&self.path, note.as_bytes(), 0o644)?;
        Ok(size)
    }
}

/// Runs until the last handle is gone; writes a checkpoint whenever one is due. `written` is the
/// size of the one on disk.
fn keep_checkpoint(shared: &Shared, mut written: u64, woken: &Receiver<()>) {
    let mut due = Instant::now() + CHECKPOINT_EVERY;
    loop {
        let waited = woken.recv_timeout(due.saturating_duration_since(Instant::now()));
        let stop = waited == Err(RecvTimeoutError::Disconnected);
        due = Instant::now() + CHECKPOINT_EVERY;
        if shared.lock().tree.size() > written {
            match shared.write_checkpoint() {
                Ok(size) => written = size,
                Err(error) => {
                    tracing::error!(kind = ?error.kind(), "the audit checkpoint could not be written");
                }
            }
        }
        if stop {
            return;
        }
    }
}

pub(crate) fn read_note(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn load_checkpoint(
    path: &Path,
    origin: &str,
    key: &VerifyingKey,
) -> Result<Option<Checkpoint>, AuditError> {
    let Some(note) = read_note(path)? else {
        return Ok(None);
    };
    let checkpoint = Checkpoint::verify(&note, origin, key);
    checkpoint
        .map(Some)
        .map_err(|_: VerifyError| AuditError::Checkpoint)
}

/// A growing tree against a signed head.
pub(crate) struct Comparison {
    signed: Option<Checkpoint>,
    equal: bool,
}

impl Comparison {
    pub(crate) fn new(signed: Option<Checkpoint>) -> Self {
        Self {
            signed,
            equal: false,
        }
    }

    /// Looks when the tree has the signed size.
    pub(crate) fn at(&mut self, tree: &Tree) {
        if let Some(signed) = &self.signed
            && signed.size == tree.size()
        {
            self.equal = signed.root == tree.root();
        }
    }

    /// An empty log needs no checkpoint; records without one were never ours.
    pub(crate) fn agrees(&self, tree: &Tree) -> bool {
        if self.signed.is_some() {
            self.equal
        } else {
            tree.size() == 0
        }
    }
}

#[cfg(test)]
mod tests;
