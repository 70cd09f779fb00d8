//! Two real ends on loopback: who gets through the handshake and who does not.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test program: its files need not be durable, and a surprise may end it"
)]

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use cloister_tls::issue::Authority;
use cloister_tls::{Role, SpiffeId, TlsError, TlsFiles, client_config, server_config};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn id(role: Role, name: &str) -> SpiffeId {
    SpiffeId::new("test.example", role, name).unwrap()
}

fn files(dir: &Path, name: &str, issuer: &Authority, peer: &Authority, who: &SpiffeId) -> TlsFiles {
    let issued = issuer.issue(who, &["localhost"], &[LOOPBACK], 1).unwrap();
    let files = TlsFiles {
        certificate: dir.join(format!("{name}.pem")),
        key: dir.join(format!("{name}.key")),
        peer_ca: dir.join(format!("{name}.ca")),
    };
    std::fs::write(&files.certificate, &issued.cert_pem).unwrap();
    std::fs::write(&files.key, issued.key_pem.as_bytes()).unwrap();
    std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&files.peer_ca, peer.ca_pem()).unwrap();
    files
}

/// Runs one handshake and one echoed byte; answers with what the server saw.
async fn meet(
    server: Arc<rustls::ServerConfig>,
    client: Arc<rustls::ClientConfig>,
) -> Result<(u16, u16), String> {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut tls = TlsAcceptor::from(server)
            .accept(tcp)
            .await
            .map_err(|e| e.to_string())?;
        let (_, session) = tls.get_ref();
        let version = session.protocol_version().unwrap().into();
        let group = session
            .negotiated_key_exchange_group()
            .unwrap()
            .name()
            .into();
        tls.write_all(b"!").await.map_err(|e| e.to_string())?;
        Ok((version, group))
    });
    let tcp = TcpStream::connect(addr).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    if let Ok(mut tls) = TlsConnector::from(client).connect(name, tcp).await {
        let mut byte = [0];
        tls.read_exact(&mut byte).await.ok();
    }
    serving.await.unwrap()
}

#[tokio::test]
async fn both_ends_meet_on_tls_13_with_the_hybrid_group() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::generate("ca", 1).unwrap();
    let server = files(dir.path(), "s", &ca, &ca, &id(Role::Sidecar, "s"));
    let client = files(dir.path(), "c", &ca, &ca, &id(Role::Ehr, "c"));
    let met = meet(
        server_config(&server, &[b"h2"]).unwrap(),
        client_config(&client, &[b"h2"]).unwrap(),
    )
    .await;
    assert_eq!(met, Ok((0x0304, 0x11ec)), "TLS 1.3, X25519MLKEM768");
}

#[tokio::test]
async fn a_client_of_a_foreign_ca_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, foreign) = (
        Authority::generate("ca", 1).unwrap(),
        Authority::generate("foreign", 1).unwrap(),
    );
    let server = files(dir.path(), "s", &ca, &ca, &id(Role::Sidecar, "s"));
    let client = files(dir.path(), "c", &foreign, &ca, &id(Role::Ehr, "c"));
    let met = meet(
        server_config(&server, &[]).unwrap(),
        client_config(&client, &[]).unwrap(),
    )
    .await;
    assert!(
        met.unwrap_err().contains("certificate"),
        "refused for its certificate"
    );
}

#[tokio::test]
async fn a_client_without_certificate_and_a_tls_12_client_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::generate("ca", 1).unwrap();
    let server = server_config(
        &files(dir.path(), "s", &ca, &ca, &id(Role::Sidecar, "s")),
        &[],
    )
    .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    let pem = rustls_pki_types::pem::PemObject::from_pem_slice(ca.ca_pem().as_bytes()).unwrap();
    roots.add(pem).unwrap();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        assert!(
            meet(Arc::clone(&server), Arc::new(client)).await.is_err(),
            "{version:?}"
        );
    }
}

#[tokio::test]
async fn an_expired_client_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::generate("ca", 1).unwrap();
    let server = files(dir.path(), "s", &ca, &ca, &id(Role::Sidecar, "s"));
    let client = files(dir.path(), "c", &ca, &ca, &id(Role::Ehr, "c"));
    let now = time::OffsetDateTime::now_utc();
    let (from, to) = (now - time::Duration::days(2), now - time::Duration::days(1));
    let old = ca
        .issue_between(&id(Role::Ehr, "c"), &[], &[], from, to)
        .unwrap();
    std::fs::write(&client.certificate, &old.cert_pem).unwrap();
    std::fs::write(&client.key, old.key_pem.as_bytes()).unwrap();
    let met = meet(
        server_config(&server, &[]).unwrap(),
        client_config(&client, &[]).unwrap(),
    )
    .await;
    assert!(met.unwrap_err().contains("xpired"));
}

#[tokio::test]
async fn a_channel_refuses_a_server_of_another_name() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::generate("ca", 1).unwrap();
    let server = server_config(
        &files(dir.path(), "s", &ca, &ca, &id(Role::Sidecar, "other")),
        &[b"h2"],
    )
    .unwrap();
    let client = client_config(
        &files(dir.path(), "c", &ca, &ca, &id(Role::Ehr, "c")),
        &[b"h2"],
    )
    .unwrap();
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let endpoint = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            TlsAcceptor::from(Arc::clone(&server))
                .accept(tcp)
                .await
                .ok();
        }
    });
    let refused = cloister_tls::channel::connect(&endpoint, client, &id(Role::Sidecar, "s"))
        .await
        .unwrap_err();
    assert!(matches!(refused, TlsError::WrongPeer { .. }), "{refused}");
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::generate("ca", 1).unwrap();
    let server = files(dir.path(), "s", &ca, &ca, &id(Role::Sidecar, "s"));
    std::fs::set_permissions(&server.key, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(
        server_config(&server, &[]),
        Err(TlsError::KeyPermissions { .. })
    ));
}
