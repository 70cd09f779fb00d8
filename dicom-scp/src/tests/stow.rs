//! STOW-RS, byte by byte.

use std::sync::Arc;

use cloister_audit::{Action, Reason};
use cloister_tls::issue::Issued;
use cloister_tls::{CertificateDer, Role};
use dicom_dictionary_std::uids;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::scu::Film;
use super::site::Site;

async fn site() -> (Site, Issued) {
    let site = Site::new().await;
    site.certificate(Role::Gateway, "stow");
    site.add(
        r#"
[[modality]]
calling_ae = "PACS_1"
identity = "spiffe://example.org/modality/pacs-1"
[[modality]]
calling_ae = "CT_1"
identity = "spiffe://example.org/modality/ct-1"
[stow]
listen = "127.0.0.1:0"
certificate = "stow.crt"
key = "stow.tls.key"
peer_ca = "ca.crt"
clients = ["PACS_1"]
max_request_bytes = 40000000
"#,
    );
    let pacs = site.certificate(Role::Modality, "pacs-1");
    (site, pacs)
}

/// Sends bytes over TLS 1.3; everything that comes back.
async fn exchange(site: &Site, shown: &Issued, request: &[u8]) -> Vec<u8> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(site.authority.ca_pem().as_bytes()).unwrap();
    roots.add(ca).unwrap();
    let leaf = CertificateDer::from_pem_slice(shown.cert_pem.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(shown.key_pem.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![leaf], key)
        .unwrap();
    let stream = TcpStream::connect(site.port("stow").unwrap())
        .await
        .unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let (mut reader, mut writer) = tokio::io::split(stream.await.unwrap());
    let mut answer = Vec::new();
    let writing = async {
        // Whoever is refused early may not be let to the end.
        writer.write_all(request).await.ok();
        writer.flush().await.ok();
    };
    let ((), read) = tokio::join!(writing, reader.read_to_end(&mut answer));
    read.ok();
    answer
}

const KIND: &str = "multipart/related; type=\"application/dicom\"; boundary=cut-here";

fn multipart(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts {
        body.extend_from_slice(b"\r\n--cut-here\r\nContent-Type: application/dicom\r\n\r\n");
        body.extend_from_slice(part);
    }
    body.extend_from_slice(b"\r\n--cut-here--\r\n");
    body
}

fn post(path: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Status and body.
fn parse(answer: &[u8]) -> (u16, Value) {
    let text = String::from_utf8(answer.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let json = serde_json::from_str(body).unwrap_or(Value::Null);
    if !json.is_null() {
        assert!(
            head.to_lowercase()
                .contains("content-type: application/dicom+json"),
            "{head}"
        );
    }
    (status.unwrap_or(0), json)
}

async fn store(site: &Site, shown: &Issued, path: &str, parts: &[Vec<u8>]) -> (u16, Value) {
    parse(&exchange(site, shown, &post(path, KIND, &multipart(parts))).await)
}

fn instances(answer: &Value, sequence: &str) -> Vec<String> {
    let items = answer[sequence]["Value"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let instance = |item: &Value| {
        item["00081155"]["Value"][0]
            .as_str()
            .unwrap_or("-")
            .to_owned()
    };
    items.iter().map(instance).collect()
}

fn reasons(answer: &Value, sequence: &str) -> Vec<u64> {
    let items = answer[sequence]["Value"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let reason = |item: &Value| item["00081197"]["Value"][0].as_u64().unwrap();
    items.iter().map(reason).collect()
}

const FAILED: &str = "00081198";
const STORED: &str = "00081199";
const OTHERS: &str = "0008119A";

#[tokio::test]
async fn films_that_come_by_stow_go_the_way_of_all_films() {
    let (site, pacs) = site().await;
    let room = site.start().await;
    let films = [
        Film::new(1, 1),
        Film {
            side: 1200,
            ..Film::new(1, 2)
        },
    ];
    let files: Vec<_> = films.iter().map(Film::file).collect();
    let (status, answer) = store(&site, &pacs, "/studies", &files).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(instances(&answer, STORED), films.map(|film| film.instance));
    // Again, to the study: the same bytes are there already.
    let path = "/studies/1.2.826.0.1.99.1";
    assert_eq!(store(&site, &pacs, path, &files).await.0, 200);
    let rows = room.settled(1).await;
    assert_eq!((rows[0].objects, rows[0].cleared), (2, 2));
    assert_eq!(rows[0].state, "forwarded");
    room.stop().await;
}

#[tokio::test]
async fn each_part_is_answered_for_itself() {
    let (site, pacs) = site().await;
    let room = site.start_with("max_object_bytes = 100000", "").await;
    let good = Film::new(1, 1);
    let mut other_instance = Film::new(1, 2).file();
    // The file meta of one film before the data set of another.
    let data_set = Film::new(1, 3).data_set();
    other_instance.truncate(other_instance.len() - data_set.len());
    other_instance.extend_from_slice(&data_set);
    let large = Film {
        side: 400,
        ..Film::new(1, 4)
    };
    let cut = Film::new(1, 5).file();
    let parts = [
        good.file(),
        b"no film at all".to_vec(),
        other_instance,
        large.file(),
        cut[..cut.len() - 9].to_vec(),
        Film::new(1, 6).file_in("1.2.840.10008.1.2.4.100"),
    ];
    let (status, answer) = store(&site, &pacs, "/studies", &parts).await;
    assert_eq!(status, 202, "{answer}");
    assert_eq!(
        instances(&answer, STORED),
        std::slice::from_ref(&good.instance)
    );
    assert_eq!(reasons(&answer, FAILED), [0xA900, 0xA700, 0xC000, 0xC122]);
    assert_eq!(reasons(&answer, OTHERS), [0xC000]);

    let (status, answer) = store(&site, &pacs, "/studies/1.2.3", &[Film::new(1, 7).file()]).await;
    assert_eq!((status, reasons(&answer, FAILED)), (409, vec![0xA900]));
    assert_eq!(room.studies().await[0].objects, 1);
    room.stop().await;
    let left = std::fs::read_dir(site.state().join("spool/objects")).unwrap();
    assert_eq!(left.count(), 1);
    let refused: u32 = site
        .events()
        .iter()
        .filter(|event| event.action() == Action::ObjectRefused)
        .map(cloister_audit::Event::occurrences)
        .sum();
    assert_eq!(refused, 6);
}

#[tokio::test]
async fn requests_that_are_none_are_refused_as_a_whole() {
    let (site, pacs) = site().await;
    let room = site.start_with("max_objects = 2", "").await;
    let film = Film::new(1, 1).file();
    let body = multipart(std::slice::from_ref(&film));
    let get = b"GET /studies HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_vec();
    let xml = post(
        "/studies",
        &format!("{KIND}\r\nAccept: application/dicom+xml"),
        &body,
    );
    let huge = format!(
        "POST /studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: {KIND}\r\nContent-Length: 40000001\r\n\r\n"
    );
    let three = multipart(&[film.clone(), film.clone(), film]);
    for (request, status) in [
        (get, 405),
        (post("/series", KIND, &body), 404),
        (post("/studies/..", KIND, &body), 404),
        (post("/studies", "application/dicom", &body), 415),
        (
            post("/studies", "multipart/related; boundary=cut-here", &body),
            415,
        ),
        (xml, 406),
        (huge.into_bytes(), 413),
        (post("/studies", KIND, b"--cut-here--"), 400),
        (post("/studies", KIND, &body[..body.len() - 9]), 400),
        (post("/studies", KIND, &three), 413),
        (b"POST /studies SPDY/3\r\n\r\n".to_vec(), 400),
    ] {
        let (answered, _) = parse(&exchange(&site, &pacs, &request).await);
        assert_eq!(
            answered,
            status,
            "{}",
            String::from_utf8_lossy(&request[..60.min(request.len())])
        );
    }
    room.stop().await;
}

#[tokio::test]
async fn chunked_requests_stream_and_two_may_share_a_connection() {
    let (site, pacs) = site().await;
    let room = site.start().await;
    let mut bytes = Vec::new();
    for (instance, close) in [(1, ""), (2, "Connection: close\r\n")] {
        let film = Film {
            side: 700,
            ..Film::new(1, instance)
        };
        let head = format!(
            "POST /studies HTTP/1.1\r\nHost: localhost\r\n{close}Content-Type: {KIND}\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        bytes.extend_from_slice(head.as_bytes());
        for chunk in multipart(&[film.file()]).chunks(1013) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
    }
    let answer = String::from_utf8(exchange(&site, &pacs, &bytes).await).unwrap();
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
    assert_eq!(room.studies().await[0].objects, 2);
    room.stop().await;
}

#[tokio::test]
async fn a_modality_that_is_not_on_the_list_gets_no_answer() {
    let (site, _) = site().await;
    let room = site.start().await;
    let ct = site.certificate(Role::Modality, "ct-1");
    let body = multipart(&[Film::new(1, 1).file()]);
    let answer = exchange(&site, &ct, &post("/studies", KIND, &body)).await;
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    assert!(room.studies().await.is_empty());
    room.stop().await;
    let refused = site.events().iter().any(|event| {
        let refused = (event.action(), event.why());
        refused
            == (
                Action::ConnectionRefused,
                Some(Reason::CallingAeCertificate),
            )
    });
    assert!(refused);
}

#[test]
fn the_syntax_that_one_part_names_is_one_that_is_not_stored() {
    // Else `each_part_is_answered_for_itself` would prove nothing.
    let stored = crate::receive::negotiate::storable_syntax;
    assert!(stored("1.2.840.10008.1.2.4.100").is_none());
    assert!(stored(uids::EXPLICIT_VR_LITTLE_ENDIAN).is_some());
}
