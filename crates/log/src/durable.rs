//! File operations that survive a power cut: content is synced before its name appears, and the
//! directory is synced before the call returns.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk::Disk;

/// Replaces `path` with `bytes`, or leaves it as it was.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    Disk::default().write_atomic(path, bytes, mode)
}

/// Creates `path` with `bytes`, whole or not at all.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if `path` exists; it is not touched.
pub fn create_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    Disk::default().create_new(path, bytes, mode)
}

/// Makes the names in the directory `path` durable.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    Disk::default().sync_dir(path)
}

/// Creates `path` and its missing parents with `mode`, each synced into its parent.
pub fn create_dir_all(path: &Path, mode: u32) -> io::Result<()> {
    Disk::default().create_dir_all(path, mode)
}

/// Unlinks `path` and makes that durable.
pub fn remove(path: &Path) -> io::Result<()> {
    Disk::default().remove(path)
}

impl Disk {
    /// As [`write_atomic`].
    pub fn write_atomic(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let temporary = self.write_temporary(path, bytes, mode)?;
        self.remove_on_error(&temporary, self.rename(&temporary, path))?;
        self.sync_dir(parent(path))
    }

    /// As [`create_new`].
    ///
    /// # Errors
    /// As [`create_new`]. After any other error the name may or may not be there; its content is
    /// whole.
    pub fn create_new(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let temporary = self.write_temporary(path, bytes, mode)?;
        // A hard link, unlike a rename, refuses an existing name.
        self.remove_on_error(&temporary, self.hard_link(&temporary, path))?;
        self.remove_file(&temporary)?;
        self.sync_dir(parent(path))
    }

    /// As [`create_dir_all`].
    pub fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        if path.as_os_str().is_empty() || path.is_dir() {
            return Ok(());
        }
        self.create_dir_all(parent(path), mode)?;
        match self.create_dir(path, mode) {
            // Another thread was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            other => other?,
        }
        self.sync_dir(parent(path))
    }

    /// As [`remove`].
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.remove_file(path)?;
        self.sync_dir(parent(path))
    }

    fn write_temporary(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<PathBuf> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut temporary = OsStr::new(".").to_owned();
        temporary.push(name);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        temporary.push(format!(".{}.{count}.tmp", std::process::id()));
        let temporary = parent(path).join(temporary);
        // A leftover of a killed process that had our id.
        if temporary.exists() {
            self.remove_file(&temporary)?;
        }
        let file = self.create(&temporary, mode)?;
        let written = file.write_all_at(bytes, 0).and_then(|()| file.sync_all());
        self.remove_on_error(&temporary, written)?;
        Ok(temporary)
    }

    fn remove_on_error(&self, temporary: &Path, result: io::Result<()>) -> io::Result<()> {
        if result.is_err() {
            // The first error is the one worth telling.
            drop(self.remove_file(temporary));
        }
        result
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn write_atomic_replaces_and_keeps_the_mode_and_leaves_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/file");
        create_dir_all(path.parent().unwrap(), 0o700).unwrap();
        write_atomic(&path, b"one", 0o600).unwrap();
        write_atomic(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn create_new_refuses_an_existing_file_and_does_not_touch_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        create_new(&path, b"one", 0o600).unwrap();
        let error = create_new(&path, b"two", 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        remove(&path).unwrap();
        assert_eq!(remove(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
