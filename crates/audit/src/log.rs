//! The audit log of one room: events on the segment log, a Merkle tree over them, checkpoints.
//!
//! An event is durable when [`AuditLog::record`] returns; whoever needs it recorded before acting
//! waits for that. A checkpoint is written when the log stops, and while it runs after a second or
//! 256 records, whichever comes first.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use cloister_log::index::{Batch, Index};
use cloister_log::{Log, LogConfig, LogError, durable};
use cloister_seal::{SigningKey, VerifyingKey};
use uuid::Uuid;

use crate::checkpoint::{self, Checkpoint, Signer};
use crate::error::{AuditError, VerifyError};
use crate::event::Event;
use crate::tree::{Hash, Tree, leaf_hash};
use crate::verify::InclusionProof;
use crate::vocabulary::Action;

/// A stored checkpoint is never older than this while records arrive.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// Nor does it lag behind by more records than this.
const CHECKPOINT_RECORDS: u64 = 256;
/// Meaning of the index; change it whenever `index_event` changes.
const INDEX_SCHEMA: &str = "audit-by-report-1";

/// Where a log lives, what it is called, and who signs its checkpoints.
#[derive(Debug, Clone)]
pub struct AuditConfig {
    /// `<state>/<room>/audit`.
    pub dir: PathBuf,
    /// `<site>/<room>/<replica>`: the checkpoint's first line.
    pub origin: String,
    /// This log's own Ed25519 key.
    pub key: SigningKey,
}

/// Where a recorded event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// Position in the log, from 0.
    pub leaf_index: u64,
    /// RFC 6962 leaf hash.
    pub leaf_hash: [u8; 32],
}

/// An open audit log. Clones share it.
#[derive(Clone)]
pub struct AuditLog(Arc<Inner>);

struct Inner {
    config: AuditConfig,
    log: Log,
    index: Index,
    signer: Signer,
    grown: Mutex<Grown>,
    /// Wakes the checkpoint writer early. One pending wake-up is enough.
    wake: SyncSender<()>,
}

/// The tree, and leaves whose predecessors are durable but not in it yet.
#[derive(Default)]
struct Grown {
    tree: Tree,
    ahead: BTreeMap<u64, Hash>,
    stored_size: u64,
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog")
            .field("origin", &self.0.config.origin)
            .field("records", &self.len())
            .finish_non_exhaustive()
    }
}

/// Segment log below an audit folder.
pub(crate) fn records_dir(dir: &Path) -> PathBuf {
    dir.join("log")
}

/// Stored checkpoint below an audit folder.
pub(crate) fn checkpoint_path(dir: &Path) -> PathBuf {
    dir.join("checkpoint")
}

impl AuditLog {
    /// Opens or creates the log, rebuilds its tree and compares it with the stored checkpoint.
    ///
    /// # Errors
    /// [`AuditError::Truncated`] and [`AuditError::Checkpoint`] if somebody changed the log while it
    /// was closed: the room must not start and write over the evidence.
    pub fn open(config: AuditConfig) -> Result<Self, AuditError> {
        let signer = Signer::new(&config.origin, &config.key)?;
        let log = Log::open(LogConfig::at(records_dir(&config.dir)))?;
        let mut grown = Grown::default();
        for item in log.iter_from(0) {
            grown.tree.push(leaf_hash(&item?.1));
        }
        if let Some(note) = read_checkpoint(&config.dir)? {
            let public = config.key.verifying_key();
            let stored = checkpoint::verify(&note, &config.origin, &public)?;
            let records = grown.tree.len();
            match grown.tree.root(stored.size) {
                None => {
                    return Err(AuditError::Truncated {
                        records,
                        covered: stored.size,
                    });
                }
                Some(root) if root != stored.root => return Err(VerifyError::Root.into()),
                Some(_) => grown.stored_size = stored.size,
            }
        }
        let index = Index::open(&config.dir.join("index"), INDEX_SCHEMA, &log, index_event)?;
        let (wake, woken) = sync_channel(1);
        let inner = Arc::new(Inner {
            config,
            log,
            index,
            signer,
            grown: grown.into(),
            wake,
        });
        inner.store_checkpoint()?;
        let weak = Arc::downgrade(&inner);
        thread::Builder::new()
            .name("audit-checkpoint".into())
            .spawn(move || keep_checkpoint(&weak, &woken))
            .map_err(LogError::from)?;
        Ok(Self(inner))
    }

    /// Records `event`; it is durable when this returns.
    ///
    /// # Errors
    /// The event is not recorded: refuse, withhold or quarantine what it stood for.
    pub async fn record(&self, event: Event) -> Result<Recorded, AuditError> {
        let record = event.to_bytes()?;
        let sequence = self.0.log.append(record.clone()).await?;
        self.0.integrate(sequence, &record)
    }

    /// As [`AuditLog::record`], for threads without a runtime.
    ///
    /// # Errors
    /// As [`AuditLog::record`].
    pub fn record_blocking(&self, event: Event) -> Result<Recorded, AuditError> {
        let record = event.to_bytes()?;
        let sequence = self.0.log.append_blocking(record.clone())?;
        self.0.integrate(sequence, &record)
    }

    /// The checkpoint's first line.
    pub fn origin(&self) -> &str {
        &self.0.config.origin
    }

    /// The key that verifies this log's checkpoints.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.0.config.key.verifying_key()
    }

    /// A freshly signed checkpoint over every durable event.
    ///
    /// # Errors
    /// [`AuditError::Log`] if a record cannot be read back.
    pub fn checkpoint(&self) -> Result<String, AuditError> {
        let grown = self.0.caught_up()?;
        Ok(self.0.signer.sign(head(&grown.tree)?))
    }

    /// Proof that leaf `leaf_index` is in the tree of a fresh checkpoint.
    ///
    /// # Errors
    /// [`AuditError::NoSuchLeaf`] if there is none.
    pub fn prove_inclusion(&self, leaf_index: u64) -> Result<InclusionProof, AuditError> {
        let leaf = self.0.log.read(leaf_index)?.ok_or(AuditError::NoSuchLeaf)?;
        let grown = self.0.caught_up()?;
        let path = grown.tree.path(leaf_index, grown.tree.len());
        Ok(InclusionProof {
            leaf_index,
            leaf,
            path: path.ok_or(AuditError::NoSuchLeaf)?,
            checkpoint: self.0.signer.sign(head(&grown.tree)?),
        })
    }

    /// At most `limit` records from `from` on, as logged.
    ///
    /// # Errors
    /// [`AuditError::Log`] if a record cannot be read back.
    pub fn events(&self, from: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, AuditError> {
        let items: Result<_, LogError> = self.0.log.iter_from(from).take(limit).collect();
        Ok(items?)
    }

    /// Leaf of the release of `report`.
    pub fn find_by_report(&self, report: Uuid) -> Option<u64> {
        self.find(Action::ReportReleased, report)
    }

    /// Leaf of the first event with this action and report.
    pub fn find(&self, action: Action, report: Uuid) -> Option<u64> {
        let value = self.0.index.get(&index_key(action, report)?).ok()??;
        Some(u64::from_be_bytes(value.try_into().ok()?))
    }

    /// Number of durable events.
    pub fn len(&self) -> u64 {
        self.0.log.len()
    }

    /// True before the first event.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Grown> {
        self.grown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn integrate(&self, sequence: u64, record: &[u8]) -> Result<Recorded, AuditError> {
        // The event is durable already. An index that failed is rebuilt at the next start.
        if let Err(error) = self.index.apply(sequence, record) {
            tracing::warn!(%error, "Audit index failed; lookups by report may miss new events.");
        }
        let leaf_hash = leaf_hash(record);
        let mut grown = self.lock();
        grown.add(sequence, leaf_hash);
        if grown.tree.len() - grown.stored_size >= CHECKPOINT_RECORDS
            && let Err(TrySendError::Disconnected(())) = self.wake.try_send(())
        {
            tracing::error!("The checkpoint writer is gone.");
        }
        Ok(Recorded {
            leaf_index: sequence,
            leaf_hash,
        })
    }

    /// The tree with every durable record in it.
    fn caught_up(&self) -> Result<MutexGuard<'_, Grown>, AuditError> {
        let mut grown = self.lock();
        let end = self.log.len();
        while grown.tree.len() < end {
            let sequence = grown.tree.len();
            let record = self.log.read(sequence)?.ok_or(AuditError::NoSuchLeaf)?;
            grown.add(sequence, leaf_hash(&record));
        }
        Ok(grown)
    }

    fn store_checkpoint(&self) -> Result<(), AuditError> {
        let mut grown = self.caught_up()?;
        let path = checkpoint_path(&self.config.dir);
        if grown.stored_size == grown.tree.len() && path.exists() {
            return Ok(());
        }
        let head = head(&grown.tree)?;
        let note = self.signer.sign(head);
        durable::write_atomic(&path, note.as_bytes(), 0o600).map_err(LogError::from)?;
        grown.stored_size = head.size;
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.store_checkpoint() {
            tracing::error!(%error, "The last checkpoint could not be written.");
        }
    }
}

impl Grown {
    fn add(&mut self, sequence: u64, hash: Hash) {
        if sequence >= self.tree.len() {
            self.ahead.insert(sequence, hash);
        }
        while let Some(hash) = self.ahead.remove(&self.tree.len()) {
            self.tree.push(hash);
        }
    }
}

fn head(tree: &Tree) -> Result<Checkpoint, AuditError> {
    let size = tree.len();
    let root = tree.root(size).ok_or(AuditError::NoSuchLeaf)?;
    Ok(Checkpoint { size, root })
}

/// Runs until the log is dropped. A failed write is tried again: the gap shows in `audit verify`.
fn keep_checkpoint(inner: &Weak<Inner>, woken: &Receiver<()>) {
    loop {
        match woken.recv_timeout(CHECKPOINT_EVERY) {
            Err(RecvTimeoutError::Disconnected) => return,
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
        }
        let Some(inner) = inner.upgrade() else {
            return;
        };
        if let Err(error) = inner.store_checkpoint() {
            tracing::error!(%error, "The checkpoint could not be written.");
        }
    }
}

pub(crate) fn read_checkpoint(dir: &Path) -> Result<Option<String>, LogError> {
    match std::fs::read_to_string(checkpoint_path(dir)) {
        Ok(note) => Ok(Some(note)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn index_event(sequence: u64, record: &[u8], batch: &mut Batch) {
    let Ok(event) = Event::from_bytes(record) else {
        return;
    };
    let key = event
        .report_id()
        .and_then(|report| index_key(event.action(), report));
    if let Some(key) = key
        && batch.get(&key).is_none()
    {
        batch.insert(key, sequence.to_be_bytes());
    }
}

fn index_key(action: Action, report: Uuid) -> Option<Vec<u8>> {
    let mut key = report.as_bytes().to_vec();
    key.extend(serde_json::to_vec(&action).ok()?);
    Some(key)
}
