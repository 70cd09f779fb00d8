//! Callers of the sidecar that must be refused, and what the audit log says of them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use cloister::client::Client;
use cloister::pki::identity_of_party;
use cloister::state::State;
use cloister_audit::{Action, Event, Reason};
use cloister_proto::v1;
use cloister_proto::v1::audit_service_client::AuditServiceClient;
use cloister_tls::issue::{Authority, Issued};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::files::write;
use crate::waiting::within;

/// Connection preface and an empty SETTINGS frame (RFC 9113 section 3.4).
const HTTP2_HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const TRUST_DOMAIN: &str = "cloister.test";

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// The clinician, as it should be.
    Known,
    /// The clinician's certificate over TLS 1.2.
    Tls12,
    /// Nobody.
    NoCertificate,
    /// The right name from another CA.
    ForeignCa,
    /// From the right CA, but of yesterday.
    Expired,
}

/// Calls the sidecar and waits for its first byte of HTTP/2: in TLS 1.3 a client is done before
/// the server has looked at its certificate, so a finished handshake alone says nothing.
///
/// # Errors
/// When the sidecar refuses.
pub async fn try_handshake(state: &State, address: SocketAddr, caller: Caller) -> Result<()> {
    let config = config(state, caller)?;
    within("a handshake", 20, async {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost")?;
        let mut tls = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await?;
        tls.write_all(HTTP2_HELLO).await?;
        let read = tls.read(&mut [0; 9]).await?;
        ensure!(read > 0, "the sidecar closed the connection");
        Ok(())
    })
    .await
}

fn config(state: &State, caller: Caller) -> Result<ClientConfig> {
    let pki = state.pki();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pki.ca())?)?;
    let versions: &[&SupportedProtocolVersion] = if caller == Caller::Tls12 {
        &[&version::TLS12]
    } else {
        &[&version::TLS13]
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_root_certificates(roots);
    let with = |certificate: &str, key: &str| -> Result<ClientConfig> {
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
        Ok(builder.clone().with_client_auth_cert(chain, key)?)
    };
    let mut config = match caller {
        Caller::Known | Caller::Tls12 => {
            let certificate = std::fs::read_to_string(pki.certificate("clinician"))?;
            with(
                &certificate,
                &std::fs::read_to_string(pki.tls_key("clinician"))?,
            )?
        }
        Caller::NoCertificate => builder.clone().with_no_client_auth(),
        Caller::ForeignCa => {
            let issued = foreign()?;
            with(&issued.cert_pem, &issued.key_pem)?
        }
        Caller::Expired => {
            let authority = Authority::load(
                &std::fs::read_to_string(pki.ca())?,
                &std::fs::read_to_string(pki.ca_key())?,
            )?;
            let identity = identity_of_party(TRUST_DOMAIN, "clinician")?;
            let day = Duration::from_hours(24);
            let now = SystemTime::now();
            let (from, to) = (now - 2 * day, now - day);
            let issued = authority.issue_between(&identity, &[], &[], from.into(), to.into())?;
            with(&issued.cert_pem, &issued.key_pem)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn foreign() -> Result<Issued> {
    let identity = identity_of_party(TRUST_DOMAIN, "clinician")?;
    Ok(Authority::generate("A CA that nobody here knows", 30)?.issue(&identity, &[], &[], 30)?)
}

/// A foreign CA's certificate for the clinician and its key, as files.
///
/// # Errors
/// When they cannot be written.
pub fn foreign_files(dir: &Path) -> Result<(PathBuf, PathBuf)> {
    let issued = foreign()?;
    let (certificate, key) = (dir.join("foreign.crt"), dir.join("foreign.key"));
    write(&certificate, issued.cert_pem.as_bytes())?;
    write(&key, issued.key_pem.as_bytes())?;
    Ok((certificate, key))
}

/// The reason of every refusal in the sidecar's audit log, read as the auditor.
///
/// # Errors
/// When the sidecar does not run or refuses the auditor.
pub async fn refusals(state: &State) -> Result<Vec<Reason>> {
    let channel = Client::of_state(state, "auditor")?.channel().await?;
    let mut audit = AuditServiceClient::new(channel);
    let (mut from, mut reasons) = (0, Vec::new());
    loop {
        let request = v1::ListEventsRequest { from, limit: 1000 };
        let page = audit.list_events(request).await?.into_inner();
        for bytes in &page.events {
            let event = Event::from_bytes(bytes).context("an audit event cannot be read")?;
            if matches!(
                event.action(),
                Action::ConnectionRefused | Action::RequestRefused
            ) {
                reasons.extend(event.why());
            }
        }
        // Reading is itself an event: the log never ends for a reader who waits for an empty page.
        if page.events.len() < 1000 || page.next <= from {
            return Ok(reasons);
        }
        from = page.next;
    }
}
