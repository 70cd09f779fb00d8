//! A calling end, to peers that have addresses and certificates that do not name them.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test program: its files need not be durable, and a surprise may end it"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use cloister_tls::issue::{Authority, Issued};
use cloister_tls::{
    Binding, Client, ClientFiles, Profile, Role, Server, ServerFiles, SpiffeId, TlsFiles,
};
use rustls::{CertificateError, Error};
use rustls_pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

fn id(name: &str) -> SpiffeId {
    SpiffeId::new("test.example", Role::Modality, name).unwrap()
}

/// As `cloister pki modality issue` does: a URI, and no name to dial.
fn nameless(authority: &Authority, name: &str) -> Issued {
    authority.issue(&id(name), &[], &[], 1).unwrap()
}

fn files(dir: &Path, name: &str, issued: &Issued, peer: &Authority) -> TlsFiles {
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

struct Scene {
    dir: tempfile::TempDir,
    authority: Authority,
    client: Client,
}

impl Scene {
    fn new(crl: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::generate("ca", 1).unwrap();
        let issued = nameless(&authority, "gateway");
        let tls = files(dir.path(), "gateway", &issued, &authority);
        let crl = crl.map(|name| dir.path().join(name));
        if let Some(crl) = &crl {
            std::fs::write(crl, authority.revoke(&[], 1).unwrap()).unwrap();
        }
        let client = Client::load(ClientFiles { tls, crl }, Profile::Dimse).unwrap();
        Self {
            dir,
            authority,
            client,
        }
    }

    /// Calls a peer that shows `shown`, and says why that fails.
    async fn call(&self, shown: &Issued, holders: &[&str]) -> Result<(), Error> {
        let tls = files(self.dir.path(), "peer", shown, &self.authority);
        let server = Server::load(ServerFiles { tls, crl: None }, Profile::Dimse, &[]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let acceptor = TlsAcceptor::from(server.config().unwrap());
            drop(acceptor.accept(tcp).await);
        });
        let holders: Vec<Binding> = holders.iter().map(|text| text.parse().unwrap()).collect();
        let config = self.client.config(&holders).unwrap();
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = ServerName::from(address.ip());
        let connected = TlsConnector::from(config).connect(name, tcp).await;
        serving.await.unwrap();
        let error = connected.map(drop).err();
        error.map_or(Ok(()), |error| {
            Err(error
                .get_ref()
                .unwrap()
                .downcast_ref::<Error>()
                .unwrap()
                .clone())
        })
    }
}

const CT: &str = "spiffe://test.example/modality/ct-1";

fn invalid(error: CertificateError) -> Result<(), Error> {
    Err(Error::InvalidCertificate(error))
}

#[tokio::test]
async fn a_holder_is_known_by_its_binding_and_needs_no_name() {
    let scene = Scene::new(None);
    let ct = nameless(&scene.authority, "ct-1");
    assert_eq!(scene.call(&ct, &[CT]).await, Ok(()));
    assert_eq!(scene.call(&ct, &["dns:pacs", "cn:ct-1"]).await, Ok(()));
    let stranger = || invalid(CertificateError::ApplicationVerificationFailure);
    assert_eq!(scene.call(&ct, &[]).await, stranger());
    assert_eq!(scene.call(&ct, &["cn:ct-2"]).await, stranger());
    // The name that is dialled makes nobody the holder.
    let loopback = [std::net::Ipv4Addr::LOCALHOST.into()];
    let named = scene.authority.issue(&id("mr-1"), &[], &loopback, 1);
    assert_eq!(scene.call(&named.unwrap(), &[CT]).await, stranger());
}

#[tokio::test]
async fn a_binding_is_worth_nothing_without_a_good_chain() {
    let scene = Scene::new(None);
    let foreign = Authority::generate("foreign", 1).unwrap();
    assert_eq!(
        scene.call(&nameless(&foreign, "ct-1"), &[CT]).await,
        invalid(CertificateError::UnknownIssuer)
    );
    let now = time::OffsetDateTime::now_utc();
    let (from, to) = (now - time::Duration::days(2), now - time::Duration::days(1));
    let old = scene
        .authority
        .issue_between(&id("ct-1"), &[], &[], from, to);
    let refused = scene.call(&old.unwrap(), &[CT]).await;
    assert!(
        matches!(
            refused,
            Err(Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. }
            ))
        ),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_revocation_list_and_a_renewed_certificate_count_from_the_next_call() {
    let scene = Scene::new(Some("ca.crl"));
    let ct = nameless(&scene.authority, "ct-1");
    let write = |text: &str| std::fs::write(scene.dir.path().join("ca.crl"), text).unwrap();
    assert_eq!(scene.call(&ct, &[CT]).await, Ok(()));
    write(&scene.authority.revoke(&[&ct.cert_pem], 1).unwrap());
    assert_eq!(
        scene.call(&ct, &[CT]).await,
        invalid(CertificateError::Revoked)
    );
    let renewed = nameless(&scene.authority, "ct-1");
    assert_eq!(scene.call(&renewed, &[CT]).await, Ok(()));
    let now = time::OffsetDateTime::now_utc();
    let (from, to) = (now - time::Duration::days(2), now - time::Duration::days(1));
    write(&scene.authority.revoke_between(&[], from, to).unwrap());
    assert!(
        scene.call(&renewed, &[CT]).await.is_err(),
        "an old list says nothing of today"
    );
    write("half a lis");
    assert!(scene.client.config(&[]).is_err());
    write(&scene.authority.revoke(&[], 1).unwrap());
    assert_eq!(scene.call(&renewed, &[CT]).await, Ok(()));
    // Our own certificate is renewed.
    let issued = nameless(&scene.authority, "gateway");
    std::fs::write(scene.dir.path().join("gateway.pem"), &issued.cert_pem).unwrap();
    assert!(scene.client.config(&[]).is_err(), "without its key");
    std::fs::write(
        scene.dir.path().join("gateway.key"),
        issued.key_pem.as_bytes(),
    )
    .unwrap();
    assert_eq!(scene.call(&renewed, &[CT]).await, Ok(()));
}
