//! What is made of files, and made again when they change.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::TlsError;
use crate::profile::TlsFiles;

/// Tells one version of a file from the next: inode, size, and time of change in ns.
type Stamp = Option<(u64, u64, i64, i64)>;

pub(crate) struct Watched<T> {
    paths: Vec<PathBuf>,
    made: Mutex<(Vec<Stamp>, T)>,
}

impl<T: Clone> Watched<T> {
    pub(crate) fn new(
        tls: &TlsFiles,
        crl: Option<&Path>,
        make: impl FnOnce() -> Result<T, TlsError>,
    ) -> Result<Self, TlsError> {
        let paths = [
            Some(&*tls.certificate),
            Some(&*tls.key),
            Some(&*tls.peer_ca),
            crl,
        ];
        let paths: Vec<_> = paths.into_iter().flatten().map(Path::to_path_buf).collect();
        // First the stamps: what changes while it is read is read again.
        let stamps = stamps(&paths);
        let made = Mutex::new((stamps, make()?));
        Ok(Self { paths, made })
    }

    /// What the files say now. A failure keeps nothing: the next call tries again.
    pub(crate) fn now(&self, make: impl FnOnce() -> Result<T, TlsError>) -> Result<T, TlsError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = stamps(&self.paths);
        if stamps != made.0 {
            *made = (stamps, make()?);
        }
        Ok(made.1.clone())
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |meta: Metadata| (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
    paths
        .iter()
        .map(|path| std::fs::metadata(path).ok().map(stamp))
        .collect()
}
