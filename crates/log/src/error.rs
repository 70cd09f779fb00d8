//! What can go wrong with a log. No variant carries a byte of any record.

use std::io;

use rustix::io::Errno;

/// Why a log operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The operating system refused; the record is not durable.
    #[error("log input/output failed: {0}")]
    Io(#[source] io::Error),
    /// No space or no quota left. The log stays usable and the record is not in it.
    #[error("no space left for the log")]
    Full,
    /// Acknowledged bytes are damaged or gone. Nothing is repaired: a human has to look.
    #[error("log damaged in the segment that starts at record {segment}, byte {offset}")]
    Corrupt {
        /// First sequence number of the damaged segment.
        segment: u64,
        /// Byte offset in its file.
        offset: u64,
    },
    /// The record is longer than `max_record_bytes`.
    #[error("record too large for the log")]
    TooLarge,
    /// The writer has stopped, or an earlier `fdatasync` failed and what is on the disk is unknown.
    #[error("log closed")]
    Closed,
    /// Another process has the directory open.
    #[error("log directory is in use by another process")]
    Locked,
    /// The sled index failed; it is rebuilt from the log at the next start.
    #[error("log index failed")]
    Index,
}

impl From<io::Error> for LogError {
    fn from(error: io::Error) -> Self {
        let full = [Errno::NOSPC, Errno::DQUOT].map(Errno::raw_os_error);
        match error.raw_os_error() {
            Some(code) if full.contains(&code) => Self::Full,
            _ => Self::Io(error),
        }
    }
}

impl LogError {
    /// The same fact for another waiter of the same batch (`io::Error` is not `Clone`).
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Io(error) => Self::Io(error.kind().into()),
            Self::Full => Self::Full,
            Self::Corrupt { segment, offset } => Self::Corrupt {
                segment: *segment,
                offset: *offset,
            },
            Self::TooLarge => Self::TooLarge,
            Self::Closed => Self::Closed,
            Self::Locked => Self::Locked,
            Self::Index => Self::Index,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_space_and_no_quota_are_full_and_the_rest_is_io() {
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            assert!(matches!(LogError::from(error), LogError::Full));
        }
        let error = io::Error::from_raw_os_error(Errno::IO.raw_os_error());
        assert!(matches!(LogError::from(error), LogError::Io(_)));
    }
}
