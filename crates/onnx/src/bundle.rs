//! A bundle: a folder whose `bundle.toml` names every file with its hash. Loading verifies trust
//! first, then every file; nothing of it is used before.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::cache::cached;
use crate::error::BundleError;
use crate::manifest::{FileEntry, Kind, Manifest};
use crate::trust::TrustedHashes;

/// Largest `bundle.toml`, in bytes.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// Largest file of a bundle that is read into memory, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 30;

/// A verified, trusted bundle.
#[derive(Debug, Clone)]
pub struct Bundle {
    manifest: Manifest,
    sha256: [u8; 32],
    files: Vec<PathBuf>,
}

impl Bundle {
    /// Verifies the bundle in `dir`: trusted by hash or by a signature in `bundle.sig`, and every
    /// file as `bundle.toml` names it. Files with a `source` are looked up in the cache.
    ///
    /// # Errors
    /// [`BundleError`]; an untrusted or altered bundle stops the start.
    pub fn load(dir: &Path, trust: &TrustedHashes) -> Result<Self, BundleError> {
        let path = dir.join("bundle.toml");
        let text = read_capped(&path, MAX_MANIFEST_BYTES).map_err(|source| BundleError::Read {
            path: path.clone(),
            source,
        })?;
        let sha256: [u8; 32] = Sha256::digest(&text).into();
        let signature = read_capped(&dir.join("bundle.sig"), 64).ok();
        let signature = signature
            .as_deref()
            .and_then(|bytes| <&[u8; 64]>::try_from(bytes).ok());
        if !trust.allows(&sha256, signature) {
            return Err(BundleError::Untrusted {
                sha256: hex::encode(sha256),
            });
        }
        Self::verify(dir, &text, sha256)
    }

    /// Verifies every file of the bundle in `dir`, trusted or not: for `cloister bundle inspect`,
    /// never for running it.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn inspect(dir: &Path) -> Result<Self, BundleError> {
        let path = dir.join("bundle.toml");
        let text = read_capped(&path, MAX_MANIFEST_BYTES)
            .map_err(|source| BundleError::Read { path, source })?;
        let sha256 = Sha256::digest(&text).into();
        Self::verify(dir, &text, sha256)
    }

    fn verify(dir: &Path, text: &[u8], sha256: [u8; 32]) -> Result<Self, BundleError> {
        let text = std::str::from_utf8(text).map_err(|_| BundleError::Invalid {
            key: "bundle.toml",
            reason: "is not UTF-8",
        })?;
        let manifest = Manifest::parse(text)?;
        let mut files = Vec::with_capacity(manifest.files.len());
        for entry in &manifest.files {
            let path = locate(dir, entry)?;
            let found = sha256_of_file(&path).map_err(|source| BundleError::Read {
                path: path.clone(),
                source,
            })?;
            if hex::encode(found) != entry.sha256 {
                return Err(BundleError::Altered {
                    name: entry.path.clone(),
                });
            }
            files.push(path);
        }
        Ok(Self {
            manifest,
            sha256,
            files,
        })
    }

    /// The parsed `bundle.toml`.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of `bundle.toml`, which itself lists every file's: the bundle's identity.
    pub const fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// Where the file `name` lies.
    ///
    /// # Errors
    /// [`BundleError::NoSuchFile`].
    pub fn file(&self, name: &str) -> Result<&Path, BundleError> {
        self.entry(name).map(|(_, path)| path)
    }

    /// Bytes of the file `name`, verified again: what was checked is what is used, even when the
    /// file changed on disk since [`Bundle::load`].
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn read(&self, name: &str) -> Result<Vec<u8>, BundleError> {
        let (entry, path) = self.entry(name)?;
        let bytes = read_capped(path, MAX_FILE_BYTES).map_err(|source| BundleError::Read {
            path: path.to_owned(),
            source,
        })?;
        if hex::encode(Sha256::digest(&bytes)) == entry.sha256 {
            Ok(bytes)
        } else {
            Err(BundleError::Altered {
                name: name.to_owned(),
            })
        }
    }

    /// Refuses a bundle of another kind.
    ///
    /// # Errors
    /// [`BundleError::WrongKind`].
    pub fn require(&self, kind: Kind) -> Result<(), BundleError> {
        if self.manifest.kind == kind {
            Ok(())
        } else {
            Err(BundleError::WrongKind)
        }
    }

    fn entry(&self, name: &str) -> Result<(&FileEntry, &Path), BundleError> {
        self.manifest
            .files
            .iter()
            .zip(&self.files)
            .find(|(entry, _)| entry.path == name)
            .map(|(entry, path)| (entry, path.as_path()))
            .ok_or_else(|| BundleError::NoSuchFile {
                name: name.to_owned(),
            })
    }
}

/// A file that is in the folder is taken from there, so that a bundle can be carried whole.
fn locate(dir: &Path, entry: &FileEntry) -> Result<PathBuf, BundleError> {
    let inside = dir.join(&entry.path);
    if entry.source.is_none() || inside.exists() {
        return Ok(inside);
    }
    cached(&entry.sha256)
        .filter(|path| path.exists())
        .ok_or_else(|| BundleError::NotFetched {
            name: entry.path.clone(),
        })
}

pub(crate) fn sha256_of_file(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hasher.finalize().into());
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
    }
}

fn read_capped(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes =
        Vec::with_capacity(usize::try_from(file.metadata()?.len().min(max_bytes)).unwrap_or(0));
    file.take(max_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "larger than allowed",
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "test fixtures need not survive a power cut"
)]
mod tests;
