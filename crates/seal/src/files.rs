//! Secret files: mode 0600, never the environment.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

/// A key file is some kilobytes.
const LARGEST_BYTES: u64 = 1 << 20;

/// A secret file was not read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// Group or others may read it, so it is no secret any more.
    #[error("group or others have access to the secret file; it must have mode 0600")]
    Exposed,
    /// Too long for a key, or no regular file.
    #[error("not a key file")]
    NotAKeyFile,
    /// The file is not UTF-8 text.
    #[error("the secret file is not text")]
    NotText,
    /// The operating system refused.
    #[error("secret file: {0}")]
    Io(#[from] io::Error),
}

/// Reads a secret, refusing a file that group or others may touch.
///
/// # Errors
/// [`FileError`].
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let file = File::open(path)?;
    // Of the open file, not of the path: nobody can exchange it in between.
    let metadata = file.metadata()?;
    if metadata.mode() & 0o077 != 0 {
        return Err(FileError::Exposed);
    }
    if !metadata.is_file() || metadata.len() > LARGEST_BYTES {
        return Err(FileError::NotAKeyFile);
    }
    // Allocated once: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
    file.take(LARGEST_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// As [`read_secret`], for PEM.
///
/// # Errors
/// [`FileError`].
pub fn read_secret_text(path: &Path) -> Result<Zeroizing<String>, FileError> {
    let bytes = read_secret(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| FileError::NotText)?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Writes a new secret file with mode 0600, durably. It never replaces one: an overwritten key is
/// lost, and with it everything sealed to it.
///
/// # Errors
/// [`FileError::Io`] with [`io::ErrorKind::AlreadyExists`] if the file exists.
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_new(path, bytes, 0o600)?;
    Ok(())
}

/// Creates `path`, synced together with its name; removed again if that fails.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // The first error is the one worth telling.
        drop(fs::remove_file(path));
    }
    written?;
    sync_parent(path)
}

pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_written_0600_and_an_exposed_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_secret(&path, b"secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(&read_secret(&path).unwrap()[..], b"secret");
        for mode in [0o640, 0o604, 0o620, 0o601, 0o777] {
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            assert!(
                matches!(read_secret(&path), Err(FileError::Exposed)),
                "{mode:o}"
            );
        }
        fs::set_permissions(&path, PermissionsExt::from_mode(0o400)).unwrap();
        assert_eq!(read_secret_text(&path).unwrap().as_str(), "secret");
    }

    #[test]
    fn an_existing_secret_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_secret(&path, b"one").unwrap();
        assert!(write_secret(&path, b"two").is_err());
        assert_eq!(&read_secret(&path).unwrap()[..], b"one");
        assert!(matches!(
            read_secret(dir.path()),
            Err(FileError::Exposed | FileError::NotAKeyFile)
        ));
    }
}
