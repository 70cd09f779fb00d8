//! DIMSE over TLS: who gets in, and as whom.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use cloister_audit::{Action, Actor, Reason};
use cloister_phi::AeTitle;
use cloister_tls::issue::{Authority, Issued};
use cloister_tls::{CertificateDer, Role, SpiffeId};
use dicom_ul::pdu::{AssociationRJServiceUserReason as User, AssociationRJSource, Pdu};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::scu::{Film, Scu, request};
use super::site::{Room, Site};

const BOUND: &str = r#"
[[modality]]
calling_ae = "CT_1"
identity = "spiffe://example.org/modality/ct-1"
[[modality]]
calling_ae = "MR_1"
identity = ["cn:somebody else", "dns:mr1.example"]
[[modality]]
calling_ae = "WARD"
issuer = "WARD-7"
"#;

/// A site with a TLS port, and CT_1's certificate.
async fn site(listen: &str) -> (Site, Issued) {
    let mut site = Site::new().await;
    site.certificate(Role::Gateway, "dimse");
    site.listen = listen.to_owned();
    site.add(&format!(
        "{BOUND}\n[dimse_tls]\ncertificate = \"dimse.crt\"\nkey = \"dimse.tls.key\"\npeer_ca = \"ca.crt\"\n"
    ));
    let issued = site.certificate(Role::Modality, "ct-1");
    (site, issued)
}

const TLS_ONLY: &str = "dimse_tls = \"127.0.0.1:0\"";
const BOTH: &str = "dimse_tls = \"127.0.0.1:0\"\ndimse = \"127.0.0.1:0\"";

async fn connect(
    site: &Site,
    shown: Option<&Issued>,
    version: &'static SupportedProtocolVersion,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(site.authority.ca_pem().as_bytes()).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let config = match shown {
        None => config.with_no_client_auth(),
        Some(issued) => {
            let leaf = CertificateDer::from_pem_slice(issued.cert_pem.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
            config.with_client_auth_cert(vec![leaf], key).unwrap()
        }
    };
    let stream = TcpStream::connect(site.port("dimse_tls").unwrap()).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

async fn associate(
    stream: TlsStream<TcpStream>,
    calling: &str,
) -> (Scu<TlsStream<TcpStream>>, Option<Pdu>) {
    let mut scu = Scu::over(stream);
    let answer = scu
        .ask(&Pdu::AssociationRQ(request("CLOISTER", calling)))
        .await;
    (scu, answer)
}

/// Whether a peer that shows `shown` gets as far as an association.
async fn lets_in(site: &Site, shown: Option<&Issued>) -> bool {
    match connect(site, shown, &TLS13).await {
        Err(_) => false,
        // In TLS 1.3 the client is through before its certificate is looked at.
        Ok(stream) => associate(stream, "CT_1").await.1.is_some(),
    }
}

fn refusals(site: &Site, action: Action, reason: Reason) -> u32 {
    let events = site.events();
    let these = events
        .iter()
        .filter(|event| (event.action(), event.why()) == (action, Some(reason)));
    these.map(cloister_audit::Event::occurrences).sum()
}

#[tokio::test]
async fn a_bound_title_delivers_over_tls_1_2_and_1_3() {
    let (site, ct) = site(TLS_ONLY).await;
    let room = site.start().await;
    assert!(site.dimse().is_none(), "the plain port is off");
    for (instance, version) in [(1, &TLS12), (2, &TLS13)] {
        let stream = connect(&site, Some(&ct), version).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        let (mut scu, answer) = associate(stream, "CT_1").await;
        assert!(matches!(answer, Some(Pdu::AssociationAC(_))), "{answer:?}");
        assert_eq!(scu.echo().await, Some(0));
        let film = Film {
            side: 600,
            ..Film::new(1, instance)
        };
        assert_eq!(scu.store(&film).await, Some(0));
        scu.release().await;
    }
    let rows = room.settled(1).await;
    assert_eq!((rows[0].cleared, rows[0].state.as_str()), (2, "forwarded"));
    room.stop().await;
}

#[tokio::test]
async fn a_valid_certificate_with_another_title_is_rejected_and_on_record() {
    let (site, ct) = site(TLS_ONLY).await;
    let room = site.start().await;
    for calling in ["MR_1", "WARD", "ANYBODY"] {
        let stream = connect(&site, Some(&ct), &TLS13).await.unwrap();
        let (mut scu, answer) = associate(stream, calling).await;
        let Some(Pdu::AssociationRJ(rejection)) = answer else {
            panic!("{answer:?}")
        };
        let reason = User::CallingAETitleNotRecognized;
        assert_eq!(rejection.source, AssociationRJSource::ServiceUser(reason));
        assert!(scu.read().await.is_none());
    }
    room.stop().await;
    let refused = refusals(
        &site,
        Action::AssociationRefused,
        Reason::CallingAeCertificate,
    );
    assert_eq!(refused, 3);
}

#[tokio::test]
async fn a_title_with_a_certificate_cannot_be_taken_without_one() {
    let (site, _) = site(BOTH).await;
    let room = site.start().await;
    for (calling, accepted) in [("CT_1", false), ("WARD", true), ("TESTER", true)] {
        let mut scu = Scu::connect(room.dimse).await;
        let answer = scu
            .ask(&Pdu::AssociationRQ(request("CLOISTER", calling)))
            .await;
        let accepts = matches!(answer, Some(Pdu::AssociationAC(_)));
        assert_eq!(accepts, accepted, "{calling}: {answer:?}");
    }
    room.stop().await;
}

#[tokio::test]
async fn no_certificate_an_expired_and_a_foreign_one_end_in_the_handshake() {
    let (site, ct) = site(TLS_ONLY).await;
    let room = site.start().await;
    let id = SpiffeId::new("example.org", Role::Modality, "ct-1").unwrap();
    let now = time::OffsetDateTime::now_utc();
    let (from, to) = (now - time::Duration::days(2), now - time::Duration::days(1));
    let expired = site
        .authority
        .issue_between(&id, &[], &[], from, to)
        .unwrap();
    let foreign = Authority::generate("foreign", 1).unwrap();
    let foreign = foreign.issue(&id, &[], &[], 1).unwrap();
    assert!(lets_in(&site, Some(&ct)).await);
    for shown in [None, Some(&expired), Some(&foreign)] {
        assert!(!lets_in(&site, shown).await);
    }
    room.stop().await;
    for reason in [
        Reason::NoCertificate,
        Reason::ExpiredCertificate,
        Reason::UnknownAuthority,
    ] {
        assert_eq!(
            refusals(&site, Action::ConnectionRefused, reason),
            1,
            "{reason:?}"
        );
    }
}

#[tokio::test]
async fn a_revocation_list_counts_from_the_next_connection_and_a_bad_one_lets_nobody_in() {
    let (site, ct) = site(TLS_ONLY).await;
    site.add("crl = \"ca.crl\"\n");
    let other = site.certificate(Role::Modality, "mr-1");
    let list = |revoked: &[&str]| site.authority.revoke(revoked, 1).unwrap();
    let write = |text: &str| {
        cloister_log::durable::write_atomic(&site.at("ca.crl"), text.as_bytes(), 0o644).unwrap();
    };
    write(&list(&[&other.cert_pem]));
    let room = site.start().await;
    assert!(lets_in(&site, Some(&ct)).await);
    write(&list(&[&other.cert_pem, &ct.cert_pem]));
    assert!(!lets_in(&site, Some(&ct)).await, "revoked");
    write("half a lis");
    assert!(
        !lets_in(&site, Some(&ct)).await,
        "whether it is revoked is not known"
    );
    let now = time::OffsetDateTime::now_utc();
    let (from, to) = (now - time::Duration::days(2), now - time::Duration::days(1));
    write(&site.authority.revoke_between(&[], from, to).unwrap());
    assert!(
        !lets_in(&site, Some(&ct)).await,
        "an old list says nothing of today"
    );
    write(&list(&[]));
    assert!(lets_in(&site, Some(&ct)).await);
    room.stop().await;
    assert_eq!(
        refusals(&site, Action::ConnectionRefused, Reason::RevokedCertificate),
        2
    );
}

#[tokio::test]
async fn what_is_no_tls_is_closed_at_once_and_a_handshake_has_its_time() {
    let (site, _) = site(TLS_ONLY).await;
    let room = site.start_with("request_timeout_ms = 200", "").await;
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[1, 0, 0, 0, 0, 200, 0, 1],
        // The first bytes of a ClientHello, and silence.
        &[0x16, 3, 1, 2, 0],
        b"",
    ] {
        let mut stream = TcpStream::connect(room.dimse).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // Reset or closed: both are an end, in time.
        let reading = stream.read_to_end(&mut answer);
        tokio::time::timeout(Duration::from_secs(20), reading)
            .await
            .unwrap()
            .ok();
        assert!(answer.len() < 100);
    }
    room.stop().await;
    assert_eq!(
        refusals(&site, Action::ConnectionRefused, Reason::NotTls),
        2
    );
    assert_eq!(
        refusals(&site, Action::ConnectionRefused, Reason::HandshakeTimeout),
        2
    );
}

#[tokio::test]
async fn a_broken_modality_has_its_refusals_merged_under_its_title() {
    let (site, ct) = site(TLS_ONLY).await;
    let room = site.start().await;
    let stream = connect(&site, Some(&ct), &TLS13).await.unwrap();
    let (mut scu, _) = associate(stream, "CT_1").await;
    for _ in 0..40 {
        let film = Film::new(1, 1);
        let answer = scu
            .store_as("1.2.3.4", &film.data_set(), super::scu::WHOLE)
            .await;
        assert_eq!(answer, Some(0xA900));
    }
    room.stop().await;
    let events = site.events();
    let these: Vec<_> = events
        .iter()
        .filter(|event| event.action() == Action::ObjectRefused)
        .collect();
    let count: u32 = these.iter().map(|event| event.occurrences()).sum();
    assert!(count == 40 && these.len() < 10, "{}", these.len());
    let ct = Actor::ae_title(&AeTitle::parse("CT_1").unwrap());
    assert!(these.iter().all(|event| event.who() == Some(&ct)));
}

/// Runs a program of another TLS stack to its end; `None` where it is not installed.
async fn run(program: &str, args: &[&str], dir: &Path) -> Option<(bool, String)> {
    let mut command = Command::new(program);
    command
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let running = tokio::time::timeout(Duration::from_mins(1), command.output());
    match running.await.unwrap() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: {program} is not installed");
            None
        }
        output => {
            let output = output.unwrap();
            let text = [output.stdout, output.stderr].concat();
            Some((
                output.status.success(),
                String::from_utf8_lossy(&text).into_owned(),
            ))
        }
    }
}

async fn s_client(room: &Room, site: &Site, options: &[&str]) -> Option<(bool, String)> {
    let address = room.dimse.to_string();
    let fixed = [
        "s_client",
        "-connect",
        &address,
        "-cert",
        "ct-1.crt",
        "-key",
        "ct-1.tls.key",
        "-CAfile",
        "ca.crt",
        "-verify_return_error",
        "-brief",
    ];
    run("openssl", &[&fixed, options].concat(), site.dir.path()).await
}

#[tokio::test]
async fn openssl_gets_no_older_version_no_cbc_and_no_rsa_key_exchange() {
    let (site, _) = site(TLS_ONLY).await;
    let room = site.start().await;
    // The same tool must get through with what is allowed, or its failures say nothing.
    let Some((through, text)) = s_client(&room, &site, &["-tls1_2"]).await else {
        return room.stop().await;
    };
    assert!(
        through && text.contains("TLSv1.2") && text.contains("ECDHE"),
        "{text}"
    );
    assert!(s_client(&room, &site, &["-tls1_3"]).await.unwrap().0);
    for refused in [
        &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"][..],
        &["-tls1", "-cipher", "ALL:@SECLEVEL=0"],
        &[
            "-tls1_2",
            "-cipher",
            "ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA",
        ],
        &["-tls1_2", "-cipher", "AES256-GCM-SHA384:AES128-SHA"],
        &["-tls1_2", "-cipher", "DHE-RSA-AES256-GCM-SHA384"],
    ] {
        let (through, text) = s_client(&room, &site, refused).await.unwrap();
        assert!(!through, "{refused:?}: {text}");
    }
    room.stop().await;
}

#[tokio::test]
async fn dcmtk_delivers_over_tls() {
    let (site, _) = site(TLS_ONLY).await;
    let room = site.start().await;
    let film = Film::new(1, 1);
    cloister_log::durable::write_atomic(&site.at("film.dcm"), &film.file(), 0o600).unwrap();
    let port = room.dimse.port().to_string();
    let send = |calling: &'static str| {
        let args = [
            "+tls",
            "ct-1.tls.key",
            "ct-1.crt",
            "+cf",
            "ca.crt",
            "-aet",
            calling,
            "-aec",
            "CLOISTER",
            "localhost",
            &port,
            "film.dcm",
        ]
        .map(str::to_owned);
        let dir = site.dir.path();
        async move {
            let args: Vec<_> = args.iter().map(String::as_str).collect();
            run("storescu", &args, dir).await
        }
    };
    if let Some((sent, text)) = send("CT_1").await {
        assert!(sent, "{text}");
        assert_eq!(room.settled(1).await[0].state, "forwarded");
        assert!(!send("MR_1").await.unwrap().0);
    }
    room.stop().await;
}

#[tokio::test]
async fn over_tls_a_report_on_a_commitment_takes_the_archives_certificate() {
    use super::relay::{Message, list, proposing, utter};
    let (site, ct) = site(TLS_ONLY).await;
    let pacs = site.certificate(Role::Modality, "pacs");
    site.add(
        "[[modality]]\ncalling_ae = \"PACS\"\nidentity = \"spiffe://example.org/modality/pacs\"\n\
         [commitment]\narchive = \"127.0.0.1:9\"\narchive_ae_title = \"PACS\"\n",
    );
    let route = "default_recipient = \"group:radiology\"";
    let room = site.start_with("commitment = \"relay\"", route).await;
    // The title with another's certificate is no association at all.
    let stream = connect(&site, Some(&ct), &TLS13).await.unwrap();
    let (_, answer) = associate(stream, "PACS").await;
    assert!(matches!(answer, Some(Pdu::AssociationRJ(_))), "{answer:?}");
    // Nobody asked: the archive is told that, and whoever is not the archive is told nothing.
    let report = list("2.25.7", &["1.2.826.0.1.99.1.1"]);
    for (shown, calling, role, expected) in [
        (&ct, "CT_1", true, 0x0124),
        (&pacs, "PACS", false, 0x0124),
        (&pacs, "PACS", true, 0x0115),
    ] {
        let stream = connect(&site, Some(shown), &TLS13).await.unwrap();
        let mut scu = proposing(Scu::over(stream), calling, role).await;
        let status = utter(&mut scu, Message::Event(1), &report).await;
        assert_eq!(status, Some(expected), "{calling} {role}");
    }
    room.stop().await;
}
