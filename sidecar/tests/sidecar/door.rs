//! Who gets in, and to what.

use std::sync::Arc;

use bytes::Bytes;
use cloister_proto::v1;
use cloister_proto::v1::audit_service_client::AuditServiceClient;
use cloister_proto::v1::inbox_service_client::InboxServiceClient;
use cloister_tls::issue::Authority;
use cloister_tls::{Role, client_config};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::SupportedProtocolVersion;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Code;
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::harness::{Harness, Running, eventually, id, order, within};

/// Whether a byte comes back through TLS; a refused client certificate shows only then.
async fn gets_through(running: &Running, tls: Arc<rustls::ClientConfig>) -> bool {
    let tcp = TcpStream::connect(running.addr).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let Ok(mut tls) = TlsConnector::from(tls).connect(name, tcp).await else {
        return false;
    };
    // An HTTP/2 server speaks first: its SETTINGS.
    let mut byte = [0];
    within(tls.read_exact(&mut byte)).await.is_ok()
}

fn nameless(
    harness: &Harness,
    version: &'static SupportedProtocolVersion,
) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(harness.ca.ca_pem().as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(tls)
}

async fn metrics(running: &Running) -> String {
    let mut page = TcpStream::connect(running.admin).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    page.write_all(request).await.unwrap();
    let mut answer = String::new();
    within(page.read_to_string(&mut answer)).await.unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[tokio::test]
async fn promtool_accepts_the_metrics() {
    let harness = Harness::new().await;
    // A process of its own: in this one, other tests write into the same recorder.
    let spawned = harness.spawn().await;
    let request = order(
        v1::GenerateRequest::default(),
        Uuid::new_v4(),
        &["group:radiology"],
    );
    harness
        .reports(&spawned.running, Role::Ehr)
        .await
        .generate(request)
        .await
        .unwrap();
    let metrics = metrics(&spawned.running).await;
    spawned.kill();
    for step in ["upstream", "seal", "hold", "record", "release"] {
        let count = format!("cloister_sidecar_step_duration_seconds_count{{step=\"{step}\"}} 1");
        assert!(metrics.contains(&count), "{step}: {metrics}");
    }
    let promtool = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        println!("SKIPPED: promtool is not installed");
        return;
    };
    std::io::Write::write_all(&mut promtool.stdin.take().unwrap(), metrics.as_bytes()).unwrap();
    let checked = promtool.wait_with_output().unwrap();
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );
    assert_eq!(
        String::from_utf8_lossy(&checked.stderr),
        "",
        "no advice either"
    );
}

#[tokio::test]
async fn strangers_are_refused_in_the_handshake_counted_and_recorded() {
    let harness = Harness::new().await;
    let running = harness.start().await;
    assert!(
        !gets_through(&running, nameless(&harness, &rustls::version::TLS12)).await,
        "TLS 1.2"
    );
    assert!(
        !gets_through(&running, nameless(&harness, &rustls::version::TLS13)).await,
        "no certificate"
    );
    let foreign = Authority::generate("foreign", 1).unwrap();
    let files = harness.certificate(&foreign, "foreign", &id(Role::Ehr, "x"));
    assert!(
        !gets_through(&running, client_config(&files, &[b"h2"]).unwrap()).await,
        "foreign CA"
    );
    let mut garbage = TcpStream::connect(running.addr).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    within(garbage.read_to_end(&mut Vec::new())).await.ok();
    let good = harness.certificate(&harness.ca, "good", &id(Role::Ehr, "x"));
    assert!(
        gets_through(&running, client_config(&good, &[b"h2"]).unwrap()).await,
        "a good certificate"
    );

    let metrics = metrics(&running).await;
    assert!(
        metrics.contains("cloister_sidecar_connections_total{result=\"refused\"}"),
        "{metrics}"
    );

    running.stop().await;
    let events = harness.events().join("\n");
    for reason in [
        "ProtocolVersion",
        "NoCertificate",
        "UnknownAuthority",
        "NotTls",
    ] {
        let snake = reason.chars().flat_map(|c| {
            [
                c.is_uppercase().then_some('_'),
                Some(c.to_ascii_lowercase()),
            ]
        });
        let snake: String = snake.flatten().skip(1).collect();
        assert!(
            events.contains(reason) || events.contains(&snake),
            "{reason} in {events}"
        );
    }
}

#[tokio::test]
async fn many_failures_of_one_source_are_one_record() {
    let harness = Harness::new().await;
    let running = harness.start().await;
    for _ in 0..20 {
        assert!(!gets_through(&running, nameless(&harness, &rustls::version::TLS13)).await);
    }
    running.stop().await;
    let events = harness.events();
    let refused = events.iter().filter(|event| {
        event
            .to_lowercase()
            .replace('_', "")
            .contains("nocertificate")
    });
    assert!((1..=2).contains(&refused.count()), "{events:?}");
}

#[tokio::test]
async fn a_role_may_use_its_own_methods_only() {
    let harness = Harness::new().await;
    let running = harness.start().await;
    let request = || {
        order(
            v1::GenerateRequest::default(),
            Uuid::new_v4(),
            &["group:radiology"],
        )
    };
    for role in [Role::Gateway, Role::Clinician, Role::Auditor, Role::Peer] {
        let refused = harness
            .reports(&running, role)
            .await
            .generate(request())
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{role}");
        assert_eq!(
            refused.get_details_error_info().unwrap().reason,
            "ROLE_NOT_ALLOWED"
        );
    }
    let mut inbox = InboxServiceClient::new(harness.channel(&running, Role::Ehr, "x").await);
    let refused = inbox
        .list_reports(v1::ListReportsRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let mut audit = AuditServiceClient::new(harness.channel(&running, Role::Auditor, "x").await);
    let listed = audit
        .list_events(v1::ListEventsRequest::default())
        .await
        .unwrap()
        .into_inner();
    let refusals = listed.events.iter().filter(|event| {
        String::from_utf8_lossy(event)
            .to_lowercase()
            .replace('_', "")
            .contains("requestrefused")
    });
    assert_eq!(refusals.count(), 5, "each refusal left one record");
    assert_eq!(harness.fake.calls(), 0, "nothing went upstream");
    running.stop().await;
}

#[tokio::test]
async fn a_caller_of_another_trust_domain_is_refused() {
    let harness = Harness::new().await;
    let running = harness.start().await;
    let stranger = cloister_tls::SpiffeId::new("other.example", Role::Ehr, "x").unwrap();
    let tls = client_config(
        &harness.certificate(&harness.ca, "other", &stranger),
        &[b"h2"],
    )
    .unwrap();
    let endpoint = format!("https://{}", running.addr);
    let channel = cloister_tls::channel::connect(&endpoint, tls, &id(Role::Sidecar, "sidecar"))
        .await
        .unwrap();
    let mut client = v1::report_service_client::ReportServiceClient::new(channel);
    let refused = client
        .validate(v1::ValidateRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    running.stop().await;
}

#[tokio::test]
async fn recipients_are_checked_before_a_byte_goes_upstream() {
    let harness = Harness::new().await;
    let running = harness.start().await;
    let mut ehr = harness.reports(&running, Role::Ehr).await;
    let id = Uuid::new_v4();
    let alice = "spiffe://test.example/clinician/alice";
    for (recipients, code) in [
        (&["group:surgery"][..], Code::PermissionDenied),
        (
            &["spiffe://test.example/clinician/bob"],
            Code::PermissionDenied,
        ),
        (
            &["spiffe://test.example/clinician/nobody"],
            Code::PermissionDenied,
        ),
        (
            &["group:radiology", "group:surgery"],
            Code::PermissionDenied,
        ),
        (&[], Code::InvalidArgument),
    ] {
        let refused = ehr
            .generate(order(v1::GenerateRequest::default(), id, recipients))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), code, "{recipients:?}");
    }
    let mut nil = order(v1::GenerateRequest::default(), Uuid::nil(), &[alice]);
    assert_eq!(
        ehr.generate(nil).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    nil = tonic::Request::new(v1::GenerateRequest::default());
    assert_eq!(
        ehr.generate(nil).await.unwrap_err().code(),
        Code::InvalidArgument,
        "no report id"
    );
    assert_eq!(harness.fake.calls(), 0);
    // A member of an allowed group may be named alone.
    ehr.generate(order(v1::GenerateRequest::default(), id, &[alice]))
        .await
        .unwrap();
    running.stop().await;
}

#[tokio::test]
async fn statuses_details_and_trailers_pass_through() {
    let harness = Harness::new().await;
    let running = harness.start().await;
    let mut ehr = harness.reports(&running, Role::Ehr).await;
    let good = v1::ValidateRequest {
        findings: "x".into(),
        ..v1::ValidateRequest::default()
    };
    ehr.validate(good).await.unwrap();
    let refused = ehr
        .validate(v1::ValidateRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), refused.message(), refused.details()),
        (Code::InvalidArgument, "empty", &b"why"[..])
    );
    assert_eq!(refused.metadata().get("cloister-test").unwrap(), "kept");
    running.stop().await;
}

#[tokio::test]
async fn http_json_goes_to_the_servers_http_socket_and_only_for_an_ehr() {
    let harness = Harness::new().await;
    let running = harness.start().await;
    for (role, status, text) in [
        (Role::Ehr, 200, "/v1/evaluate {}"),
        (Role::Clinician, 403, "ROLE_NOT_ALLOWED"),
    ] {
        let tls = client_config(
            &harness.certificate(&harness.ca, "http", &id(role, "x")),
            &[b"h2"],
        )
        .unwrap();
        let tcp = TcpStream::connect(running.addr).await.unwrap();
        let tls = TlsConnector::from(tls)
            .connect(ServerName::try_from("localhost").unwrap(), tcp)
            .await
            .unwrap();
        let (mut send, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls))
                .await
                .unwrap();
        tokio::spawn(connection);
        let uri = "https://localhost/v1/evaluate";
        let request = http::Request::post(uri)
            .body(Full::new(Bytes::from_static(b"{}")))
            .unwrap();
        let answer = within(send.send_request(request)).await.unwrap();
        assert_eq!(answer.status(), status);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&body).contains(text), "{body:?}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_server_that_is_down_is_unavailable_and_comes_back() {
    let harness = Harness::new().await;
    let (socket, away) = (harness.path("grpc.sock"), harness.path("away.sock"));
    std::fs::rename(&socket, &away).unwrap();
    let running = harness.start().await;
    let mut ehr = harness.reports(&running, Role::Ehr).await;
    let request = order(
        v1::GenerateRequest::default(),
        Uuid::new_v4(),
        &["group:radiology"],
    );
    let down = ehr.generate(request).await.unwrap_err();
    assert_eq!(down.code(), Code::Unavailable);
    assert!(down.get_details_retry_info().unwrap().retry_delay.is_some());
    std::fs::rename(&away, &socket).unwrap();
    let request = order(
        v1::GenerateRequest::default(),
        Uuid::new_v4(),
        &["group:radiology"],
    );
    ehr.generate(request).await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn a_request_larger_than_allowed_is_cut_off() {
    let harness = Harness::new().await;
    let running = harness
        .start_with("[limits]\nmax_study_bytes = 2000000\nmax_header_bytes = 4096")
        .await;
    let mut gateway = harness.reports(&running, Role::Gateway).await;
    let chunk = v1::ObjectChunk {
        data: vec![0; 1 << 20].into(),
        ..v1::ObjectChunk::default()
    };
    let part = v1::SubmitStudyRequest {
        part: Some(v1::submit_study_request::Part::Chunk(chunk)),
    };
    let parts = tokio_stream::iter(vec![part; 3]);
    let refused = gateway
        .submit_study(order(parts, Uuid::new_v4(), &["group:surgery"]))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let mut request = order(
        v1::GenerateRequest::default(),
        Uuid::new_v4(),
        &["group:radiology"],
    );
    request
        .metadata_mut()
        .insert("x-long", "y".repeat(8192).parse().unwrap());
    assert!(
        harness
            .reports(&running, Role::Ehr)
            .await
            .generate(request)
            .await
            .is_err(),
        "headers"
    );
    running.stop().await;
}

#[tokio::test]
async fn a_drain_lets_a_running_request_end() {
    let harness = Harness::new().await;
    let gate = Arc::new(tokio::sync::Notify::new());
    *harness.fake.gate.lock().unwrap() = Some(Arc::clone(&gate));
    let running = harness.start().await;
    let mut ehr = harness.reports(&running, Role::Ehr).await;
    let request = order(
        v1::GenerateRequest::default(),
        Uuid::new_v4(),
        &["group:radiology"],
    );
    let asking = tokio::spawn(async move { ehr.generate(request).await });
    eventually("the call", || (harness.fake.calls() == 1).then_some(())).await;
    let addr = running.addr;
    let stopping = tokio::spawn(running.stop());
    loop {
        // The listener closes first; the running request goes on.
        if TcpStream::connect(addr).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    gate.notify_one();
    within(asking).await.unwrap().unwrap();
    within(stopping).await.unwrap();
}
