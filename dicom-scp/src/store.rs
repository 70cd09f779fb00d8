//! Second step: makes an object durable before anybody says so. Before it stands `receive`, after it
//! `assemble`.
//!
//! Order: file and directory fsynced, then the audit record, then the spool record (each one
//! `fdatasync`, shared with whoever else is waiting), then the answer. Whatever the disk refuses, the
//! answer is A700 on the same association and the object is the sender's. A kill in between leaves an
//! object that the sender still has: a file without a spool record is removed at start; a spool
//! record without an answer meets the sender's second try as a duplicate, and its audit record
//! stands already.

use std::fmt;
use std::sync::Arc;

use cloister_audit::{Action, Actor, AuditError, AuditLog, Event};
use cloister_log::LogError;
use tokio::sync::Mutex;

use crate::error::SpoolError;
use crate::metric::{self, Answered};
use crate::quarantine::{self, Reason};
use crate::receive::object::Received;
use crate::spool::record::{Record, StoredRecord, now_unix_ms};
use crate::spool::worklist::Novelty;
use crate::spool::{Id, Spool};
use cloister_dimse::command::Status;

/// Instances stored at a time; the same instance is always in the same shard, so that two
/// associations that send it never both find it new.
const SHARDS: usize = 64;

/// Where objects go.
pub(crate) struct Store {
    pub(crate) spool: Spool,
    audit: AuditLog,
    shards: Arc<[Mutex<()>]>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

/// An object that is durable, recorded and audited.
#[derive(Debug)]
pub(crate) struct Stored {
    conflict: bool,
}

impl Store {
    pub(crate) fn new(spool: Spool, audit: AuditLog) -> Self {
        Self {
            spool,
            audit,
            shards: (0..SHARDS).map(|_| Mutex::new(())).collect(),
        }
    }
}

/// Stores, and says what to answer.
pub(crate) async fn store(store: &Store, received: Received) -> (Answered, Status) {
    match keep(store, received).await {
        Ok(Some(Stored { conflict: false })) => (Answered::Stored, Status::Success),
        Ok(Some(Stored { conflict: true })) => (Answered::Conflict, Status::Success),
        Ok(None) => (Answered::Duplicate, Status::Success),
        Err(error) => {
            tracing::error!(%error, "An object cannot be stored.");
            let status = if error.is_full() {
                Status::Full
            } else {
                Status::OutOfResources
            };
            (Answered::OutOfResources, status)
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum StoreError {
    #[error("the audit log: {0}")]
    Audit(#[from] AuditError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("the spool's log: {0}")]
    Log(#[from] LogError),
    #[error("the writing thread panicked")]
    Thread,
}

impl StoreError {
    /// Whether a larger disk would have helped.
    fn is_full(&self) -> bool {
        matches!(
            self,
            Self::Spool(SpoolError::Full)
                | Self::Log(LogError::Full)
                | Self::Audit(AuditError::Log(LogError::Full))
        )
    }
}

/// `None` for the same bytes again.
async fn keep(store: &Store, received: Received) -> Result<Option<Stored>, StoreError> {
    let parts = received.into_parts();
    let keys = store.spool.keys();
    let instance = keys.lookup("instance", &[parts.heading.sop_instance.expose().as_str()]);
    let study = Id::of_hash(&keys.lookup("study", &[parts.heading.study.expose().as_str()]));

    // Cheap look before the fsync; the binding one is under the lock.
    if store.spool.worklist().novelty(&instance, &parts.content) == Novelty::Duplicate {
        return Ok(None);
    }
    let shard = usize::from(instance[0]) % SHARDS;
    let writer = parts.writer;
    let finished = tokio::task::spawn_blocking(move || writer.finish())
        .await
        .map_err(|_| StoreError::Thread)?;
    finished?;
    let spool = &store.spool;
    let held = spool.hold().await;
    let lock = match store.shards.get(shard) {
        Some(shard) => Some(shard.lock().await),
        None => None,
    };
    let novelty = store.spool.worklist().novelty(&instance, &parts.content);
    if novelty == Novelty::Duplicate {
        spool.discard(parts.object);
        return Ok(None);
    }
    let conflict = novelty == Novelty::Conflict;
    if conflict {
        // No version will ever take it up, so it would stay under the receive key.
        let (spool, object) = (spool.clone(), parts.object);
        let rewrapped = tokio::task::spawn_blocking(move || {
            let key = spool.study_key(study)?;
            spool.rewrap(object, &key)
        });
        rewrapped
            .await
            .map_err(|_| StoreError::Thread)?
            .inspect_err(|_| store.spool.discard(parts.object))?;
    }
    let record = Record::Stored(StoredRecord {
        object: parts.object,
        study,
        instance,
        content: parts.content,
        calling_ae: parts.calling.as_str().to_owned(),
        bytes: parts.bytes,
        at_unix_ms: now_unix_ms(),
        conflict,
        sop_class: Some(parts.heading.sop_class.as_str().to_owned()),
    });
    let actor = || Actor::ae_title(&parts.calling);
    // The audit record first: were it second and failed, the object would be spooled, and the
    // sender's second try acknowledged as a duplicate without any record.
    let audited = async {
        let event = Event::new(Action::ObjectStored).actor(actor());
        store.audit.record(event).await?;
        if conflict {
            let event = Event::refused(Action::ObjectQuarantined, Reason::UidConflict.audit());
            let event = quarantine::about(event, parts.object);
            store.audit.record(event.actor(actor())).await?;
        }
        Ok::<(), AuditError>(())
    };
    // No record names the file yet.
    audited.await.inspect_err(|_| spool.discard(parts.object))?;
    spool.append(record).await.inspect_err(|error| {
        // In the other cases the record may be there after a restart, and then it needs its file.
        if matches!(error, LogError::Full | LogError::TooLarge) {
            spool.discard(parts.object);
        }
    })?;
    drop((lock, held));
    if conflict {
        metric::quarantined(Reason::UidConflict);
    }
    metric::object_bytes(parts.bytes);
    Ok(Some(Stored { conflict }))
}
