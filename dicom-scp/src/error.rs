//! What can go wrong in the room. Small facts; no text from an object.

use std::io;

use cloister_log::LogError;

use crate::keys::{KeyError, NotTheKey};
use crate::quarantine::{DeadReason, Reason};
use crate::spool::Id;

/// The spool cannot do what it is asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    #[error("what stands on the spool's disk is not known; restart when the disk is mended")]
    Distrusted,
    #[error("no space left in the spool")]
    Full,
    #[error("spool input/output failed: {0}")]
    Io(#[source] io::Error),
    #[error("a key of the spool: {0}")]
    Key(#[from] KeyError),
    #[error("the spool's log: {0}")]
    Log(#[source] LogError),
    #[error("the file of acknowledged object {object} is missing")]
    Missing { object: Id },
    #[error("the spool's log is not there, but there are traces of one")]
    NoLog,
    #[error("{keys} keys cannot be opened with any wrapping key, so the keyring keeps its own")]
    NotRenewed { keys: u32 },
    #[error("no randomness")]
    Randomness,
    #[error("record {sequence} of the spool's log is not one of this version")]
    Record { sequence: u64 },
    #[error("the vault's keys have changed meanwhile")]
    Rotated,
    #[error("a sealed file was changed or cut")]
    Sealed,
}

impl NotTheKey for SpoolError {
    fn is_not_the_key(&self) -> bool {
        matches!(self, Self::Key(KeyError::Opening))
    }
}

impl From<LogError> for SpoolError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Full => Self::Full,
            other => Self::Log(other),
        }
    }
}

impl From<io::Error> for SpoolError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Io(error),
        }
    }
}

/// Why an object does not pass a step.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// The object itself is the cause: quarantine.
    #[error("quarantined: {}", .0.code())]
    Quarantine(Reason),
    /// The room is the cause: try the study again later.
    #[error("not now: {0}")]
    Later(#[from] Later),
}

/// Why a study has to wait.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Later {
    #[error("the audit log refuses")]
    Audit,
    #[error("the directory cannot be used")]
    Directory,
    #[error("the redaction workers are not available")]
    Redactor,
    #[error("the sidecar refuses the study: {0:?}")]
    Refused(tonic::Code),
    #[error("sealing failed")]
    Seal,
    #[error("the study is never going to be taken: {}", .0.code())]
    Never(DeadReason),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("the room stops")]
    Stopping,
    #[error("the sidecar cannot be reached: {0:?}")]
    Unavailable(tonic::Code),
    #[error("the vault refuses")]
    Vault,
}

impl From<SpoolError> for StepError {
    fn from(error: SpoolError) -> Self {
        match error {
            // Waiting mends neither a changed file nor a lost key.
            SpoolError::Sealed
            | SpoolError::Key(KeyError::Opening)
            | SpoolError::Missing { .. } => Self::Quarantine(Reason::Damaged),
            other => Self::Later(other.into()),
        }
    }
}

impl From<LogError> for Later {
    fn from(error: LogError) -> Self {
        Self::Spool(error.into())
    }
}
