//! The two ends of mutual TLS 1.3.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};

use crate::error::TlsError;
use crate::identity::SpiffeId;

/// Where one end finds its certificate, its key and the CA of its peers. All PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Certificate chain, leaf first.
    pub certificate: PathBuf,
    /// Private key, mode 0600.
    pub key: PathBuf,
    /// CA certificates that peers are checked against. The system's roots never count.
    pub peer_ca: PathBuf,
}

/// Who the server has to be.
pub type ServerIdentity = SpiffeId;

/// The listening end.
pub fn server_config(_files: &TlsFiles, _alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, TlsError> {
    todo!()
}

/// The calling end.
pub fn client_config(_files: &TlsFiles, _alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
    todo!()
}
