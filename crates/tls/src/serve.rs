//! Listening ends other than the sidecar's: the profile for modalities, and files that may change
//! while the room runs.
//!
//! The modality profile is TLS 1.3, and TLS 1.2 with ephemeral elliptic curves and AEAD (RFC 9325
//! section 4.2), because PS3.15 annex B.12 demands 1.2 and many modalities speak nothing newer. No
//! CBC, no RSA key exchange, nothing older, no resumption, no renegotiation.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ServerConfig, SupportedProtocolVersion};

use crate::error::TlsError;
use crate::profile::{self, TlsFiles};
use crate::watch::Watched;

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
    pub(crate) fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::Dimse => DIMSE_VERSIONS,
            Self::Tls13 => profile::VERSIONS,
        }
    }

    pub(crate) fn provider(self) -> CryptoProvider {
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
    watched: Watched<Arc<ServerConfig>>,
}

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
        let make = || build(&files, profile, &alpn);
        let watched = Watched::new(&files.tls, files.crl.as_deref(), make)?;
        Ok(Self {
            files,
            profile,
            alpn,
            watched,
        })
    }

    /// For the next handshake: what the files say now.
    ///
    /// # Errors
    /// [`TlsError`] when a changed file cannot be used. The older version is not used instead: it
    /// may let in a certificate that was revoked since. Every call tries again.
    pub fn config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        self.watched
            .now(|| build(&self.files, self.profile, &self.alpn))
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
