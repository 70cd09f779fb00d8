//! The mailbox and the idempotency table behind one trait. Here on a segment log, where the log is
//! the truth and a sled index only finds things; PostgreSQL later.
//!
//! A report is in one of two states: held (durable, shown to nobody) and released.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use cloister_log::index::{Batch, Index};
use cloister_log::{Log, LogConfig, LogError};
use cloister_seal::KeyId;
use futures_util::future::{BoxFuture, FutureExt as _};
use prost::Message as _;
use tokio::sync::watch;
use uuid::Uuid;

use crate::error::Refusal;

mod records;

use records::{
    AcknowledgedRecord, EntryRecord, HeldRecord, Kind, PlaceRecord, Record, ReleasedRecord,
};

/// Changes whenever `index` below gives a record another meaning.
const SCHEMA: &str = "sidecar-mailbox-1";
/// Padded 100 MiB report, stanzas and names.
const MAX_RECORD_BYTES: u32 = 120 << 20;
const SEGMENT_BYTES: u64 = 256 << 20;

/// The mailbox cannot do what was asked. Nothing is shown that was not shown before.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("the mailbox is full")]
    Full,
    #[error("the mailbox log failed: {0}")]
    Log(#[source] LogError),
    #[error("this report id is held already")]
    Exists,
    #[error("no such held report")]
    Missing,
    #[error("a mailbox record cannot be read")]
    Damaged,
    #[error("the mailbox failed earlier; it opens again at the next start")]
    Failed,
}

impl From<LogError> for StoreError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Full => Self::Full,
            other => Self::Log(other),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "The mailbox failed.");
        if matches!(error, StoreError::Full) {
            Self::StoreFull
        } else {
            Self::StoreFailed
        }
    }
}

/// What is known about a stored report without its ciphertext.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) report_id: Uuid,
    /// Identity whose request made it.
    pub(crate) owner: String,
    /// Recipients as the request named them, sorted.
    pub(crate) recipients: Vec<String>,
    pub(crate) key_ids: Vec<KeyId>,
    /// Envelope header as issued.
    pub(crate) header: Vec<u8>,
    /// Report it replaces, or empty.
    pub(crate) replaces: Vec<u8>,
    pub(crate) sealed_sha256: [u8; 32],
    /// `None` while it is held.
    pub(crate) release: Option<Release>,
    /// Record with the ciphertext.
    held_sequence: u64,
}

/// Where a released report stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Release {
    /// Grows with every release; starts at 1.
    pub(crate) position: u64,
    /// Its record in the audit log.
    pub(crate) leaf_index: u64,
}

/// What goes into [`Store::hold`].
#[derive(Debug, Clone)]
pub(crate) struct Holding {
    pub(crate) report_id: Uuid,
    pub(crate) owner: String,
    pub(crate) recipients: Vec<String>,
    pub(crate) key_ids: Vec<KeyId>,
    pub(crate) header: Vec<u8>,
    pub(crate) replaces: Vec<u8>,
    pub(crate) sealed_sha256: [u8; 32],
    pub(crate) sealed: Vec<u8>,
}

/// Mailbox and idempotency table. A call that returned `Ok` is durable.
pub(crate) trait Store: Send + Sync + 'static {
    /// Keeps a sealed report, visible to nobody.
    fn hold(&self, holding: Holding) -> BoxFuture<'_, Result<Entry, StoreError>>;

    /// Makes a held report visible. Its audit record has to exist already. Answers with the entry
    /// as it then is; a second call changes nothing.
    fn release(&self, report_id: Uuid, leaf_index: u64)
    -> BoxFuture<'_, Result<Entry, StoreError>>;

    /// Remembers that `identity` has seen the report, by the audit record `leaf_index`.
    fn acknowledge<'a>(
        &'a self,
        report_id: Uuid,
        identity: &'a str,
        leaf_index: u64,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// The audit record of `identity`'s acknowledgement.
    fn acknowledged(&self, report_id: Uuid, identity: &str) -> Result<Option<u64>, StoreError>;

    /// What is known about a report, held or released.
    fn find(&self, report_id: Uuid) -> Result<Option<Entry>, StoreError>;

    /// The sealed bytes of a report, held or released.
    fn sealed<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<Vec<u8>, StoreError>>;

    /// Reports that are held: a crash came between hold and release.
    fn held(&self) -> Result<Vec<Uuid>, StoreError>;

    /// Up to `limit` released reports after `position` of which `wanted` wants a key, oldest first.
    fn released(
        &self,
        position: u64,
        limit: usize,
        wanted: &dyn Fn(&[KeyId]) -> bool,
    ) -> Result<Vec<Entry>, StoreError>;

    /// Whether no released report replaces this one.
    fn is_current(&self, report_id: Uuid) -> Result<bool, StoreError>;

    /// The position of the latest release, as it changes.
    fn latest(&self) -> watch::Receiver<u64>;
}

/// [`Store`] on one segment log and its index.
#[derive(Debug)]
pub(crate) struct LogStore {
    log: Log,
    index: Index,
    latest: watch::Sender<u64>,
    /// A record is durable that the index does not know: answering from it could make a report
    /// twice.
    failed: AtomicBool,
}

/// Index keys: a letter, then the fixed-width rest.
mod key {
    use uuid::Uuid;

    pub(super) const HELD: &[u8] = b"h";
    pub(super) const PLACE: &[u8] = b"p";

    pub(super) fn report(id: &[u8]) -> Vec<u8> {
        [b"r", id].concat()
    }
    pub(super) fn held(id: &[u8]) -> Vec<u8> {
        [HELD, id].concat()
    }
    pub(super) fn place(position: u64) -> Vec<u8> {
        [PLACE, &position.to_be_bytes()].concat()
    }
    pub(super) fn replaced(id: &[u8]) -> Vec<u8> {
        [b"x", id].concat()
    }
    pub(super) fn acknowledged(id: Uuid, identity: &str) -> Vec<u8> {
        [b"a", id.as_bytes().as_slice(), identity.as_bytes()].concat()
    }
    pub(super) const LATEST: &[u8] = b"l";
}

/// What one record means.
fn index(sequence: u64, record: &[u8], batch: &mut Batch) {
    // Every record was written by this file; one that does not decode would be damage, which the
    // log itself reports.
    let Ok(Record { kind: Some(kind) }) = Record::decode(record) else {
        return;
    };
    match kind {
        Kind::Held(held) => {
            if batch.get(&key::report(&held.report_id)).is_none() {
                batch.insert(key::held(&held.report_id), []);
                batch.insert(
                    key::report(&held.report_id),
                    held.into_entry(sequence).encode_to_vec(),
                );
            }
        }
        Kind::Released(released) => {
            let report = key::report(&released.report_id);
            let Some(entry) = batch.get(&report) else {
                return;
            };
            let Ok(mut entry) = EntryRecord::decode(&*entry) else {
                return;
            };
            if entry.position != 0 {
                return;
            }
            entry.position = sequence + 1;
            entry.leaf_index = released.leaf_index;
            let place = PlaceRecord {
                report_id: entry.report_id.clone(),
                key_ids: entry.key_ids.clone(),
            };
            batch.insert(key::place(entry.position), place.encode_to_vec());
            batch.insert(key::LATEST, entry.position.to_be_bytes());
            if !entry.replaces.is_empty() {
                batch.insert(key::replaced(&entry.replaces), &entry.report_id);
            }
            batch.remove(key::held(&entry.report_id));
            batch.insert(report, entry.encode_to_vec());
        }
        Kind::Acknowledged(acknowledged) => {
            if let Ok(id) = Uuid::from_slice(&acknowledged.report_id) {
                let key = key::acknowledged(id, &acknowledged.identity);
                batch.insert(key, acknowledged.leaf_index.to_be_bytes());
            }
        }
    }
}

impl LogStore {
    /// Opens the mailbox in `dir`, or makes it.
    ///
    /// # Errors
    /// [`StoreError::Log`] when it is damaged or in use.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        let config = LogConfig {
            segment_bytes: SEGMENT_BYTES,
            max_record_bytes: MAX_RECORD_BYTES,
            ..LogConfig::at(dir.join("log"))
        };
        let log = Log::open(config)?;
        let index = Index::open(&dir.join("index"), SCHEMA, &log, index)?;
        let latest = match index.get(key::LATEST)? {
            Some(bytes) => u64::from_be_bytes(bytes.try_into().map_err(|_| StoreError::Damaged)?),
            None => 0,
        };
        Ok(Self {
            log,
            index,
            latest: watch::Sender::new(latest),
            failed: AtomicBool::new(false),
        })
    }

    /// Appends, then indexes.
    async fn append(&self, kind: Kind) -> Result<u64, StoreError> {
        self.usable()?;
        let record = Record { kind: Some(kind) }.encode_to_vec();
        let sequence = self.log.append(record.clone()).await?;
        if let Err(error) = self.index.apply(sequence, &record) {
            self.failed.store(true, Ordering::Release);
            return Err(error.into());
        }
        Ok(sequence)
    }

    fn usable(&self) -> Result<(), StoreError> {
        if self.failed.load(Ordering::Acquire) {
            Err(StoreError::Failed)
        } else {
            Ok(())
        }
    }

    fn entry(&self, id: &[u8]) -> Result<Option<Entry>, StoreError> {
        self.usable()?;
        let Some(bytes) = self.index.get(&key::report(id))? else {
            return Ok(None);
        };
        let record = EntryRecord::decode(&*bytes).map_err(|_| StoreError::Damaged)?;
        Entry::try_from(record).map(Some)
    }
}

impl Store for LogStore {
    fn hold(&self, holding: Holding) -> BoxFuture<'_, Result<Entry, StoreError>> {
        async move {
            let id = holding.report_id;
            if self.find(id)?.is_some() {
                return Err(StoreError::Exists);
            }
            self.append(Kind::Held(HeldRecord::from(holding))).await?;
            self.find(id)?.ok_or(StoreError::Missing)
        }
        .boxed()
    }

    fn release(
        &self,
        report_id: Uuid,
        leaf_index: u64,
    ) -> BoxFuture<'_, Result<Entry, StoreError>> {
        async move {
            let entry = self.find(report_id)?.ok_or(StoreError::Missing)?;
            if entry.release.is_some() {
                return Ok(entry);
            }
            let record = ReleasedRecord {
                report_id: report_id.as_bytes().to_vec(),
                leaf_index,
            };
            let sequence = self.append(Kind::Released(record)).await?;
            self.latest.send_if_modified(|latest| {
                let grown = sequence + 1 > *latest;
                *latest = (*latest).max(sequence + 1);
                grown
            });
            self.find(report_id)?.ok_or(StoreError::Missing)
        }
        .boxed()
    }

    fn acknowledge<'a>(
        &'a self,
        report_id: Uuid,
        identity: &'a str,
        leaf_index: u64,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let report_id = report_id.as_bytes().to_vec();
            let record = AcknowledgedRecord {
                report_id,
                identity: identity.to_owned(),
                leaf_index,
            };
            self.append(Kind::Acknowledged(record)).await.map(|_| ())
        }
        .boxed()
    }

    fn acknowledged(&self, report_id: Uuid, identity: &str) -> Result<Option<u64>, StoreError> {
        self.usable()?;
        let found = self.index.get(&key::acknowledged(report_id, identity))?;
        found
            .map(|bytes| {
                bytes
                    .try_into()
                    .map(u64::from_be_bytes)
                    .map_err(|_| StoreError::Damaged)
            })
            .transpose()
    }

    fn find(&self, report_id: Uuid) -> Result<Option<Entry>, StoreError> {
        self.entry(report_id.as_bytes())
    }

    fn sealed<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<Vec<u8>, StoreError>> {
        let (log, sequence) = (self.log.clone(), entry.held_sequence);
        async move {
            let read = tokio::task::spawn_blocking(move || log.read(sequence));
            let record = read
                .await
                .map_err(|_| StoreError::Failed)??
                .ok_or(StoreError::Missing)?;
            match Record::decode(&*record) {
                Ok(Record {
                    kind: Some(Kind::Held(held)),
                }) => Ok(held.sealed),
                _ => Err(StoreError::Damaged),
            }
        }
        .boxed()
    }

    fn held(&self) -> Result<Vec<Uuid>, StoreError> {
        self.usable()?;
        self.index
            .scan_prefix(key::HELD)
            .map(|item| {
                let (key, _) = item?;
                key.get(1..)
                    .and_then(|id| Uuid::from_slice(id).ok())
                    .ok_or(StoreError::Damaged)
            })
            .collect()
    }

    fn released(
        &self,
        position: u64,
        limit: usize,
        wanted: &dyn Fn(&[KeyId]) -> bool,
    ) -> Result<Vec<Entry>, StoreError> {
        self.usable()?;
        let mut found = Vec::new();
        for item in self.index.scan_after(key::PLACE, &position.to_be_bytes()) {
            if found.len() == limit {
                break;
            }
            let (_, value) = item?;
            let place = PlaceRecord::decode(&*value).map_err(|_| StoreError::Damaged)?;
            if wanted(&records::key_ids(&place.key_ids)?) {
                found.push(self.entry(&place.report_id)?.ok_or(StoreError::Damaged)?);
            }
        }
        Ok(found)
    }

    fn is_current(&self, report_id: Uuid) -> Result<bool, StoreError> {
        self.usable()?;
        Ok(self
            .index
            .get(&key::replaced(report_id.as_bytes()))?
            .is_none())
    }

    fn latest(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }
}

#[cfg(test)]
mod tests;
