//! How much room there is: an object is refused while the disk still has some, so that what was
//! acknowledged can be worked on, and so that the modality hears of it on the same association.
//!
//! Free space is the operating system's word (`statvfs`), asked before an object and once a mebibyte
//! while it comes; the quota is our own sum over `objects/` and `cleared/`. Objects that come at the
//! same time can pass the watermark together by a mebibyte each.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::SpoolError;
use crate::metric::{self, Refusal};

/// Bytes between two looks at the disk.
const LOOK_BYTES: u64 = 1 << 20;

/// Limits of the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Objects are refused while less than this is free on the spool's disk.
    pub(crate) min_free_bytes: u64,
    /// Objects are refused while the spool's files are longer than this together.
    pub(crate) max_bytes: Option<u64>,
}

/// The spool's room on its disk.
#[derive(Debug)]
pub(crate) struct Space {
    dir: PathBuf,
    limits: Limits,
    used: AtomicU64,
    /// Something durable could not be finished, most often a directory's sync: what stands on the disk
    /// is unknown, and no later sync tells. Nothing is taken until a restart has read the disk again.
    distrusted: AtomicBool,
}

impl Space {
    pub(crate) fn new(dir: &Path, limits: Limits, used: u64) -> Self {
        metric::spool_used(used);
        Self {
            dir: dir.to_owned(),
            limits,
            used: used.into(),
            distrusted: false.into(),
        }
    }

    /// Whether another object may begin, or go on.
    pub(crate) fn admit(&self) -> Result<(), SpoolError> {
        if self.is_distrusted() {
            metric::refusal(Refusal::Distrusted);
            return Err(SpoolError::Distrusted);
        }
        let used = self.used.load(Ordering::Acquire);
        if self.limits.max_bytes.is_some_and(|most| used >= most) {
            metric::refusal(Refusal::Quota);
            return Err(SpoolError::Full);
        }
        let free = free_bytes(&self.dir)?;
        metric::spool_free(free);
        if free < self.limits.min_free_bytes {
            metric::refusal(Refusal::Watermark);
            return Err(SpoolError::Full);
        }
        Ok(())
    }

    pub(crate) fn is_distrusted(&self) -> bool {
        self.distrusted.load(Ordering::Acquire)
    }

    /// See the field.
    pub(crate) fn distrust(&self) {
        if !self.distrusted.swap(true, Ordering::AcqRel) {
            tracing::error!(
                "What stands on the spool's disk is not known; nothing is taken until a restart."
            );
        }
    }

    /// Files of so many bytes are gone.
    pub(crate) fn freed(&self, bytes: u64) {
        let taken = self
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                Some(used.saturating_sub(bytes))
            });
        metric::spool_used(taken.unwrap_or(0).saturating_sub(bytes));
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }
}

/// What one file takes; given back when dropped, unless kept.
#[derive(Debug)]
pub(crate) struct Charge {
    space: Arc<Space>,
    bytes: u64,
    looked_at: u64,
    /// Cleared objects are written even below the watermark: they are what makes room.
    limited: bool,
    kept: bool,
}

impl Charge {
    pub(crate) fn new(space: &Arc<Space>, limited: bool) -> Self {
        Self {
            space: Arc::clone(space),
            bytes: 0,
            looked_at: 0,
            limited,
            kept: false,
        }
    }

    /// Before so many bytes more are written.
    pub(crate) fn add(&mut self, bytes: u64) -> Result<(), SpoolError> {
        self.bytes += bytes;
        self.space.used.fetch_add(bytes, Ordering::AcqRel);
        if self.limited && self.bytes - self.looked_at >= LOOK_BYTES {
            self.looked_at = self.bytes;
            self.space.admit()?;
        }
        Ok(())
    }

    /// The file stays.
    pub(crate) fn keep(mut self) {
        self.kept = true;
        metric::spool_used(self.space.used());
    }

    pub(crate) fn space(&self) -> &Space {
        &self.space
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if !self.kept {
            self.space.freed(self.bytes);
        }
    }
}

/// Bytes that are free to us on the disk of `dir`.
pub(crate) fn free_bytes(dir: &Path) -> Result<u64, SpoolError> {
    let stat = rustix::fs::statvfs(dir).map_err(std::io::Error::from)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(dir: &Path, min_free_bytes: u64, max_bytes: Option<u64>, used: u64) -> Arc<Space> {
        let limits = Limits {
            min_free_bytes,
            max_bytes,
        };
        Arc::new(Space::new(dir, limits, used))
    }

    #[test]
    fn the_quota_is_looked_at_before_and_in_the_middle_and_what_is_dropped_is_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let space = space(dir.path(), 0, Some(3 << 20), 1 << 20);
        space.admit().unwrap();
        let mut charge = Charge::new(&space, true);
        charge.add(1 << 20).unwrap();
        assert!(matches!(charge.add(1 << 20), Err(SpoolError::Full)));
        assert!(matches!(space.admit(), Err(SpoolError::Full)));
        let mut cleared = Charge::new(&space, false);
        cleared.add(1 << 20).unwrap();
        cleared.keep();
        drop(charge);
        assert_eq!(space.used(), 2 << 20);
        space.admit().unwrap();
        space.freed(5 << 20);
        assert_eq!(space.used(), 0);
    }

    #[test]
    fn the_watermark_refuses_before_the_disk_is_full() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_bytes(dir.path()).unwrap() > 0);
        assert!(matches!(
            space(dir.path(), u64::MAX, None, 0).admit(),
            Err(SpoolError::Full)
        ));
    }

    #[test]
    fn a_distrusted_directory_takes_nothing_more() {
        let dir = tempfile::tempdir().unwrap();
        let space = space(dir.path(), 0, None, 0);
        space.distrust();
        assert!(matches!(space.admit(), Err(SpoolError::Distrusted)));
    }
}
