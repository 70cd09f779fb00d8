//! What can go wrong with an audit log. No variant carries a byte of any record.

use cloister_log::LogError;

/// Why an event cannot be made or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// The actor is neither a SPIFFE URI, an AE title nor an address.
    #[error("the actor is malformed")]
    Actor,
    /// The bytes are not an event.
    #[error("the record is not an audit event")]
    Malformed,
}

/// Why the audit log failed. A caller that gets this must refuse, withhold or quarantine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The segment log failed.
    #[error("audit log: {0}")]
    Log(#[from] LogError),
    /// The event could not be encoded.
    #[error("audit event: {0}")]
    Event(#[from] EventError),
    /// The signing key is unusable.
    #[error("the audit signing key is unusable")]
    Key,
    /// The origin is empty, or holds a space, a plus sign or a control character.
    #[error("the audit origin is malformed")]
    Origin,
    /// There is no such leaf yet.
    #[error("no such leaf")]
    NoSuchLeaf,
    /// The checkpoint on disk claims more records than the log holds: somebody cut the log.
    #[error("the log holds {records} records, the stored checkpoint covers {covered}")]
    Truncated {
        /// Records in the log.
        records: u64,
        /// Records that the checkpoint covers.
        covered: u64,
    },
    /// The checkpoint on disk is not ours, or its root is not the log's.
    #[error("the stored checkpoint does not match the log: {0}")]
    Checkpoint(#[from] VerifyError),
}

/// Why an audit log or a proof is not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The log's files are damaged.
    #[error("audit log: {0}")]
    Log(#[from] LogError),
    /// The checkpoint is missing.
    #[error("the checkpoint is missing")]
    NoCheckpoint,
    /// The checkpoint is not a C2SP signed note.
    #[error("the checkpoint is malformed")]
    Malformed,
    /// The checkpoint names another log.
    #[error("the checkpoint belongs to another log")]
    Origin,
    /// No signature on the checkpoint verifies with the pinned key.
    #[error("the checkpoint's signature does not verify")]
    Signature,
    /// Records that the checkpoint covers are gone.
    #[error("the log holds {records} records, the checkpoint covers {covered}")]
    Cut {
        /// Records in the log.
        records: u64,
        /// Records that the checkpoint covers.
        covered: u64,
    },
    /// A record before the checkpoint was changed, dropped or moved.
    #[error("the log's root is not the checkpoint's")]
    Root,
    /// The path does not lead from the leaf to the root.
    #[error("the inclusion proof does not verify")]
    Inclusion,
    /// The record is not an event.
    #[error("record {0} is not an audit event")]
    Event(u64),
    /// The signing key is unusable.
    #[error("the pinned key is unusable")]
    Key,
}
