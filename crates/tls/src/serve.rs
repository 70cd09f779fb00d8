//! Listening ends other than the sidecar's: the profile for modalities, and files that may change
//! while the room runs.
//!
//! The modality profile is TLS 1.3, and TLS 1.2 with ephemeral elliptic curves and AEAD (RFC 9325
//! section 4.2), because PS3.15 annex B.12 demands 1.2 and many modalities speak nothing newer. No
//! CBC, no RSA key exchange, nothing older, no resumption, no renegotiation.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};

use crate::error::TlsError;
use crate::profile::{self, TlsFiles};

const DIMSE_VERSIONS: &[&SupportedProtocolVersion] =
    &[&rustls::version::TLS13, &rustls::version::TLS12];

/// Which versions and suites an end speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// TLS 1.2 and 1.3, for modalities.
    Dimse,
    /// TLS 1.3 alone.
    Tls13,
}

impl Profile {
    /// The calling end of the same profile, with its own certificate.
    ///
    /// # Errors
    /// [`TlsError`] when a file is missing, unsafe or does not fit.
    pub fn client(self, files: &TlsFiles) -> Result<Arc<ClientConfig>, TlsError> {
        profile::caller(files, self.provider(), self.versions(), &[])
    }

    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::Dimse => DIMSE_VERSIONS,
            Self::Tls13 => profile::VERSIONS,
        }
    }

    fn provider(self) -> CryptoProvider {
        use aws_lc_rs::cipher_suite as suite;
        let mut provider = profile::provider();
        if self == Self::Dimse {
            provider.cipher_suites.extend([
                suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
                suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
                suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
                suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            ]);
        }
        provider
    }
}

/// Where a listening end finds its files, and who it lets in.
#[derive(Debug, Clone)]
pub struct ServerFiles {
    /// Own certificate and key, and the CA of the peers.
    pub tls: TlsFiles,
    /// Revocation lists (PEM) of every issuer in `peer_ca` and below. With a list, a certificate
    /// whose issuer has none is refused, and so is every certificate once the list is past its next
    /// update: whether it is still good is not known then.
    pub crl: Option<PathBuf>,
}

/// A listening end that reads its files again when they change, so that a renewed certificate or a
/// newer revocation list needs no restart.
pub struct Server {
    files: ServerFiles,
    profile: Profile,
    alpn: Vec<Vec<u8>>,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    stamps: Vec<Stamp>,
    config: Arc<ServerConfig>,
}

/// Tells one version of a file from the next: inode, size, and time of change in ns.
type Stamp = Option<(u64, u64, i64, i64)>;

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] when one is missing, unsafe or does not fit.
    pub fn load(files: ServerFiles, profile: Profile, alpn: &[&[u8]]) -> Result<Self, TlsError> {
        let alpn: Vec<_> = alpn.iter().map(|name| name.to_vec()).collect();
        let stamps = stamps(&files);
        let config = build(&files, profile, &alpn)?;
        Ok(Self {
            files,
            profile,
            alpn,
            loaded: Mutex::new(Loaded { stamps, config }),
        })
    }

    /// For the next handshake: what the files say now.
    ///
    /// # Errors
    /// [`TlsError`] when a changed file cannot be used. The older version is not used instead: it
    /// may let in a certificate that was revoked since. Every call tries again.
    pub fn config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamps(&self.files);
        if now != loaded.stamps {
            let config = build(&self.files, self.profile, &self.alpn)?;
            *loaded = Loaded {
                stamps: now,
                config,
            };
        }
        Ok(Arc::clone(&loaded.config))
    }
}

fn build(
    files: &ServerFiles,
    profile: Profile,
    alpn: &[Vec<u8>],
) -> Result<Arc<ServerConfig>, TlsError> {
    let crls = match &files.crl {
        Some(path) => profile::crls(path)?,
        None => Vec::new(),
    };
    profile::acceptor(
        &files.tls,
        crls,
        profile.provider(),
        profile.versions(),
        alpn,
    )
}

fn stamps(files: &ServerFiles) -> Vec<Stamp> {
    let stamp = |meta: Metadata| (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
    let tls = &files.tls;
    [
        Some(&tls.certificate),
        Some(&tls.key),
        Some(&tls.peer_ca),
        files.crl.as_ref(),
    ]
    .into_iter()
    .flatten()
    .map(|path| std::fs::metadata(path).ok().map(stamp))
    .collect()
}
