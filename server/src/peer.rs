//! The Unix sockets: mode 0600, and only our own user and those the configuration names may speak.

use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use tokio::net::{UnixListener, UnixStream};

use crate::metric::Metric;

/// Users that may connect.
#[derive(Debug, Clone)]
pub(crate) struct AllowedUids(Arc<[u32]>);

impl AllowedUids {
    /// Our own user and `further` ones.
    pub(crate) fn new(further: &[u32]) -> Self {
        let own = rustix::process::geteuid().as_raw();
        Self(further.iter().copied().chain([own]).collect())
    }

    /// Accepts the next connection of an allowed user; others are closed and counted.
    pub(crate) async fn accept(&self, listener: &UnixListener) -> io::Result<UnixStream> {
        loop {
            let (stream, _) = listener.accept().await?;
            // What the kernel says about the other end, not what the other end says.
            match stream.peer_cred() {
                Ok(peer) if self.0.contains(&peer.uid()) => return Ok(stream),
                _ => metrics::counter!(Metric::PeersRefusedTotal.name()).increment(1),
            }
        }
    }
}

/// Binds a socket that only its owner may open. A stale socket of an earlier run is replaced; any
/// other file is not.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "the socket's path is taken by a file",
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
