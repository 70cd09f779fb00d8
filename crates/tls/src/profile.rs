//! The two ends of mutual TLS 1.3: before a connection is accepted or opened.
//!
//! Reviewed against RFC 8446: no earlier version, no resumption (every connection shows and checks
//! its certificate anew, so an expired one does not live on in a ticket), no early data.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::error::TlsError;

/// Largest certificate or key file, in bytes.
const MAX_PEM_BYTES: u64 = 1 << 20;

/// The only version. Pinned here because features of rustls are unified over the whole build.
pub(crate) const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// Where one end finds its certificate, its key and the CA of its peers. All PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Certificate chain, leaf first.
    pub certificate: PathBuf,
    /// Private key, mode 0600 or 0400.
    pub key: PathBuf,
    /// CA certificates that peers are checked against. The system's roots never count.
    pub peer_ca: PathBuf,
}

/// The listening end: TLS 1.3 only, and no peer without a certificate of `peer_ca`.
///
/// # Errors
/// [`TlsError`] when a file is missing, unsafe or does not fit.
pub fn server_config(files: &TlsFiles, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, TlsError> {
    let alpn: Vec<_> = alpn.iter().map(|name| name.to_vec()).collect();
    acceptor(files, Vec::new(), provider(), VERSIONS, &alpn)
}

/// A listening end that demands a certificate of `peer_ca`, none of `crls` revoked.
pub(crate) fn acceptor(
    files: &TlsFiles,
    crls: Vec<CertificateRevocationListDer<'static>>,
    provider: CryptoProvider,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[Vec<u8>],
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(provider);
    let roots = Arc::new(roots(&files.peer_ca)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .with_crls(crls)
        .enforce_revocation_expiration()
        .build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(&files.certificate)?, key(&files.key)?)?;
    config.alpn_protocols = alpn.to_vec();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// The calling end, with its own certificate.
///
/// # Errors
/// [`TlsError`] when a file is missing, unsafe or does not fit.
pub fn client_config(files: &TlsFiles, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
    let (config, _) = caller(files, Vec::new(), provider(), VERSIONS, alpn)?;
    Ok(config)
}

/// A calling end that shows its certificate and checks the other's against `peer_ca` and `crls`, and how
/// it checks.
pub(crate) fn caller(
    files: &TlsFiles,
    crls: Vec<CertificateRevocationListDer<'static>>,
    provider: CryptoProvider,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&[u8]],
) -> Result<(Arc<ClientConfig>, Arc<WebPkiServerVerifier>), TlsError> {
    let provider = Arc::new(provider);
    let roots = Arc::new(roots(&files.peer_ca)?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .with_crls(crls)
        .enforce_revocation_expiration()
        .build()?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_webpki_verifier(Arc::clone(&verifier))
        .with_client_auth_cert(chain(&files.certificate)?, key(&files.key)?)?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok((Arc::new(config), verifier))
}

/// aws-lc-rs with TLS 1.3 suites only; the hybrid key exchange first.
pub(crate) fn provider() -> CryptoProvider {
    use aws_lc_rs::{cipher_suite, kx_group};
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
        ],
        ..aws_lc_rs::default_provider()
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let failed = |source| TlsError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Zeroizing::new(Vec::new());
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_PEM_BYTES)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}

/// The revocation lists of a file.
pub(crate) fn crls(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> =
        CertificateRevocationListDer::pem_slice_iter(&read(path)?).collect();
    found
        .ok()
        .filter(|found| !found.is_empty())
        .ok_or_else(|| TlsError::Pem {
            path: path.to_owned(),
            what: "revocation list",
        })
}

fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = || TlsError::Pem {
        path: path.to_owned(),
        what,
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(bad)
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    certificates(path, "certificate")
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path, "CA certificate")? {
        store.add(certificate)?;
    }
    Ok(store)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    use std::os::unix::fs::PermissionsExt as _;
    let meta = std::fs::metadata(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })?;
    if !meta.is_file() || meta.permissions().mode() & 0o077 != 0 {
        return Err(TlsError::KeyPermissions {
            path: path.to_owned(),
        });
    }
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| TlsError::Pem {
        path: path.to_owned(),
        what: "private key",
    })
}
