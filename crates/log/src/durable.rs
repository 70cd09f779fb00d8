//! File operations that survive a power cut: content is synced before its name appears, and the
//! directory is synced before the call returns.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Replaces `path` with `bytes`, or leaves it as it was.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = write_temporary(path, bytes, mode)?;
    remove_on_error(&temporary, fs::rename(&temporary, path))?;
    sync_dir(parent(path))
}

/// Creates `path` with `bytes`, whole or not at all.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if `path` exists; it is not touched.
pub fn create_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = write_temporary(path, bytes, mode)?;
    // A hard link, unlike a rename, refuses an existing name.
    remove_on_error(&temporary, fs::hard_link(&temporary, path))?;
    fs::remove_file(&temporary)?;
    sync_dir(parent(path))
}

/// Makes the names in the directory `path` durable.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Creates `path` and its missing parents with `mode`, each synced into its parent.
pub fn create_dir_all(path: &Path, mode: u32) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    create_dir_all(parent(path), mode)?;
    match DirBuilder::new().mode(mode).create(path) {
        // Another thread was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        other => other?,
    }
    sync_dir(parent(path))
}

/// Unlinks `path` and makes that durable.
pub fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    sync_dir(parent(path))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn write_temporary(path: &Path, bytes: &[u8], mode: u32) -> io::Result<PathBuf> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = OsStr::new(".").to_owned();
    temporary.push(name);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    temporary.push(format!(".{}.{count}.tmp", std::process::id()));
    let temporary = parent(path).join(temporary);
    // A leftover of a killed process that had our id.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    remove_on_error(&temporary, written)?;
    Ok(temporary)
}

fn remove_on_error(temporary: &Path, result: io::Result<()>) -> io::Result<()> {
    if result.is_err() {
        // The first error is the one worth telling.
        drop(fs::remove_file(temporary));
    }
    result
}

#[cfg(test)]
mod tests {
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
