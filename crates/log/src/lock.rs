//! A lock between processes: `flock` on a file that stays where it is.
//!
//! The lock belongs to the open file and not to one descriptor of it. A process that forks to start
//! another copies every descriptor until the child's `exec` closes it (close-on-exec does no more than
//! that), so closing ours would leave the lock to a child that knows nothing of it. Unlocking does not:
//! it counts for every copy (flock(2)).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, retry_on_intr};

/// Held until it is dropped, or the process ends.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Takes the lock; `None` if somebody has it.
    ///
    /// # Errors
    /// When the file cannot be made or opened.
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        let file = open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno.into()),
            Ok(()) => Ok(Some(Self(file))),
        }
    }

    /// Takes the lock. Blocks for as long as somebody has it.
    ///
    /// # Errors
    /// When the file cannot be made or opened.
    pub fn wait(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))?;
        Ok(Self(file))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // If it fails, the last copy's end unlocks.
        flock(&self.0, FlockOperation::Unlock).ok();
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_when_it_is_dropped_although_a_child_has_a_copy_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = Lock::take(&path).unwrap().unwrap();
        // What fork does to a descriptor.
        let copy = lock.0.try_clone().unwrap();
        assert!(Lock::take(&path).unwrap().is_none());
        drop(lock);
        let again = Lock::take(&path).unwrap();
        assert!(again.is_some(), "the copy holds nothing");
        drop(copy);
        assert!(Lock::take(&path).unwrap().is_none());
        drop(again);
        drop(Lock::wait(&path).unwrap());
    }
}
