//! Second step: makes an object durable before anybody says so. Before it stands `receive`, after it
//! `assemble`.
//!
//! Order: file and directory fsynced, then the audit record, then the spool record (each one
//! `fdatasync`, shared with whoever else is waiting), then the answer. A kill in between leaves an
//! object that the sender still has: a file without a spool record is removed at start; a spool
//! record without an answer meets the sender's second try as a duplicate, and its audit record
//! stands already.

use std::fmt;
use std::sync::Arc;

use cloister_audit::{Action, Actor, AuditLog, Event};
use tokio::sync::Mutex;

use crate::error::SpoolError;
use crate::metric::{self, Answered};
use crate::quarantine::Reason;
use crate::receive::command::Status;
use crate::receive::object::Received;
use crate::spool::record::{Record, StoredRecord, now_unix_ms};
use crate::spool::worklist::Novelty;
use crate::spool::{Id, Spool};

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
            (Answered::OutOfResources, Status::OutOfResources)
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum StoreError {
    #[error("the audit log: {0}")]
    Audit(#[from] cloister_audit::AuditError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("the writing thread panicked")]
    Thread,
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
    let file = store.spool.objects().join(parts.object.to_string());

    let lock = match store.shards.get(shard) {
        Some(shard) => Some(shard.lock().await),
        None => None,
    };
    let novelty = store.spool.worklist().novelty(&instance, &parts.content);
    if novelty == Novelty::Duplicate {
        drop(std::fs::remove_file(&file));
        return Ok(None);
    }
    let conflict = novelty == Novelty::Conflict;
    let record = Record::Stored(StoredRecord {
        object: parts.object,
        study,
        instance,
        content: parts.content,
        calling_ae: parts.calling.as_str().to_owned(),
        bytes: parts.bytes,
        at_unix_ms: now_unix_ms(),
        conflict,
    });
    let actor = || Actor::ae_title(&parts.calling);
    // The audit record first: were it second and failed, the object would be spooled, and the
    // sender's second try acknowledged as a duplicate without any record.
    store
        .audit
        .record(Event::new(Action::ObjectStored).actor(actor()))
        .await?;
    if conflict {
        let event =
            Event::refused(Action::ObjectQuarantined, Reason::UidConflict.audit()).actor(actor());
        store.audit.record(event).await?;
    }
    store.spool.append(record).await.map_err(SpoolError::from)?;
    drop(lock);
    if conflict {
        metric::quarantined(Reason::UidConflict);
    }
    metric::object_bytes(parts.bytes);
    Ok(Some(Stored { conflict }))
}
