//! What can go wrong with events, the log and its verification.

use std::io;

use cloister_log::LogError;

/// The event is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// Not the JSON of an event of this version.
    #[error("malformed event")]
    Malformed,
    /// The actor is no SPIFFE URI.
    #[error("malformed identity")]
    Identity,
}

/// Nothing is on record: the caller must not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The log failed.
    #[error("audit log: {0}")]
    Log(#[from] LogError),
    /// The event could not be written down.
    #[error("audit event: {0}")]
    Event(#[from] EventError),
    /// The origin is empty or holds white space or plus signs.
    #[error("malformed audit log origin")]
    Origin,
    /// The records are not those that the last checkpoint signed: edited, dropped or rolled back.
    #[error("the audit log does not agree with its own last checkpoint")]
    Tampered,
    /// The checkpoint is not signed by this log's key.
    #[error("the audit log's checkpoint is not its own")]
    Checkpoint,
    /// There is no such record.
    #[error("no such audit record")]
    NoSuchLeaf,
    /// The checkpoint file was not read or written.
    #[error("audit checkpoint: {0}")]
    Io(#[from] io::Error),
}

/// The log, or a proof from it, is not to be believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Damaged records.
    #[error("audit log: {0}")]
    Log(#[from] LogError),
    /// There is no checkpoint.
    #[error("the checkpoint is missing")]
    NoCheckpoint,
    /// The checkpoint was not read.
    #[error("audit checkpoint: {0}")]
    Io(#[from] io::Error),
    /// No C2SP checkpoint.
    #[error("malformed checkpoint")]
    Malformed,
    /// A checkpoint of another log.
    #[error("the checkpoint belongs to another log")]
    Origin,
    /// Not signed by the pinned key.
    #[error("the checkpoint's signature does not verify")]
    Signature,
    /// Records before the checkpoint are gone.
    #[error("the log holds {records} records, its checkpoint covers {covered}")]
    Cut {
        /// Records found.
        records: u64,
        /// Records that the checkpoint covers.
        covered: u64,
    },
    /// Records before the checkpoint were changed, dropped or reordered.
    #[error("the records do not give the root that the checkpoint signed")]
    Root,
    /// A record is no event.
    #[error("record {record} is no event")]
    Event {
        /// Its number.
        record: u64,
    },
    /// The path does not lead from the record to the checkpoint.
    #[error("the inclusion proof does not verify")]
    Inclusion,
}
