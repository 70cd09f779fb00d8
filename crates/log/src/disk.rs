//! The seam below everything durable: each operation that changes the disk goes through a [`Disk`].
//!
//! In production a disk is the operating system and nothing else. A test puts a [`Watch`] into it:
//! that one sees every operation before it happens, may refuse it, cut it short or write it down, and
//! so stands for a disk that is full, breaks or loses its power.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, os::fd};

/// One operation that changes the disk.
#[derive(Debug, Clone, Copy)]
pub enum Op<'a> {
    /// A new, empty file.
    Create(&'a Path),
    /// A new, empty directory.
    CreateDir(&'a Path),
    /// Bytes at an offset.
    Write(&'a Path, u64, &'a [u8]),
    /// Another length.
    SetLen(&'a Path, u64),
    /// `fsync` or `fdatasync` of a file.
    Sync(&'a Path),
    /// `fsync` of a directory.
    SyncDir(&'a Path),
    /// A second name for a file.
    Link(&'a Path, &'a Path),
    /// Another name, in place of what had it.
    Rename(&'a Path, &'a Path),
    /// A name is taken away.
    Remove(&'a Path),
    /// An empty directory is taken away.
    RemoveDir(&'a Path),
}

/// What a test puts below the disk.
pub trait Watch: Send + Sync {
    /// Performs `op` by calling `run`, or refuses it. `run` takes how many bytes of a
    /// [`Op::Write`] are written; for every other operation the number means nothing.
    ///
    /// # Errors
    /// Those of `run`, or the one that this disk is to have.
    fn perform(&self, op: &Op<'_>, run: &mut dyn FnMut(usize) -> io::Result<()>) -> io::Result<()>;
}

/// Where files are written. Clones are the same disk.
#[derive(Clone, Default)]
pub struct Disk(Option<Arc<dyn Watch>>);

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Disk (watched)"
        } else {
            "Disk"
        })
    }
}

impl Disk {
    /// A disk under observation.
    pub fn watched(watch: Arc<dyn Watch>) -> Self {
        Self(Some(watch))
    }

    fn perform(&self, op: &Op<'_>, mut run: impl FnMut(usize) -> io::Result<()>) -> io::Result<()> {
        match &self.0 {
            None => run(usize::MAX),
            Some(watch) => watch.perform(op, &mut run),
        }
    }

    /// Creates a file that must not exist yet.
    pub fn create(&self, path: &Path, mode: u32) -> io::Result<DiskFile> {
        let mut created = None;
        self.perform(&Op::Create(path), |_| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(true).mode(mode);
            created = Some(options.open(path)?);
            Ok(())
        })?;
        let file = created.ok_or(io::ErrorKind::Other)?;
        Ok(self.file(file, path))
    }

    /// Opens a file for reading and writing.
    pub fn open(&self, path: &Path) -> io::Result<DiskFile> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(self.file(file, path))
    }

    fn file(&self, file: fs::File, path: &Path) -> DiskFile {
        DiskFile {
            file,
            path: path.to_owned(),
            disk: self.clone(),
        }
    }

    /// Makes the names in the directory `path` durable.
    pub fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.perform(&Op::SyncDir(path), |_| fs::File::open(path)?.sync_all())
    }

    /// Gives `from` the name `to` as well; an existing `to` is refused.
    pub fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.perform(&Op::Link(from, to), |_| fs::hard_link(from, to))
    }

    /// Gives `from` the name `to` instead of its own.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.perform(&Op::Rename(from, to), |_| fs::rename(from, to))
    }

    /// Takes a name away; durable after [`Disk::sync_dir`] only.
    pub fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.perform(&Op::Remove(path), |_| fs::remove_file(path))
    }

    /// Takes an empty directory away.
    pub fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.perform(&Op::RemoveDir(path), |_| fs::remove_dir(path))
    }

    /// Creates a directory; durable after a [`Disk::sync_dir`] of its parent only.
    pub fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.perform(&Op::CreateDir(path), |_| {
            DirBuilder::new().mode(mode).create(path)
        })
    }
}

/// A file on a [`Disk`].
#[derive(Debug)]
pub struct DiskFile {
    file: fs::File,
    path: PathBuf,
    disk: Disk,
}

impl DiskFile {
    /// Writes all of `bytes` at `offset`.
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let op = Op::Write(&self.path, offset, bytes);
        self.disk.perform(&op, |limit| {
            let now = bytes.get(..limit.min(bytes.len())).unwrap_or(bytes);
            self.file.write_all_at(now, offset)
        })
    }

    /// Cuts or extends the file.
    pub fn set_len(&self, length: u64) -> io::Result<()> {
        let op = Op::SetLen(&self.path, length);
        self.disk.perform(&op, |_| self.file.set_len(length))
    }

    /// Asks the operating system to begin writing `length` bytes at `offset` to the disk now, so that a
    /// later sync finds less to do. An advice: nothing is durable by it, and whether it was taken makes
    /// no difference to what a sync answers. (Linux starts to write dirty pages of a range that is said
    /// to be no longer needed, and keeps those that are not clean yet.)
    pub fn begin_writing(&self, offset: u64, length: u64) {
        let length = std::num::NonZeroU64::new(length);
        let advice = rustix::fs::Advice::DontNeed;
        if let Err(error) = rustix::fs::fadvise(&self.file, offset, length, advice) {
            tracing::trace!(%error, "The file system takes no advice.");
        }
    }

    /// `fsync`.
    pub fn sync_all(&self) -> io::Result<()> {
        let op = Op::Sync(&self.path);
        self.disk.perform(&op, |_| self.file.sync_all())
    }

    /// `fdatasync`.
    pub fn sync_data(&self) -> io::Result<()> {
        let op = Op::Sync(&self.path);
        self.disk.perform(&op, |_| self.file.sync_data())
    }

    /// The file itself, for reading.
    pub fn as_file(&self) -> &fs::File {
        &self.file
    }
}

impl fd::AsFd for DiskFile {
    fn as_fd(&self) -> fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}
