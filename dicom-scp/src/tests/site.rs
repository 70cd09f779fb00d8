//! A hospital in a folder: keys, directory, certificates, a sidecar that only listens, the room.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use cloister_audit::{AuditConfig, AuditLog, Event};
use cloister_log::disk::Disk;
use cloister_proto::v1::report_service_server::{ReportService, ReportServiceServer};
use cloister_proto::v1::submit_study_request::Part;
use cloister_proto::v1::{self, object_chunk};
use cloister_runtime::Shutdown;
use cloister_seal::{RecipientPrivateKey, SigningKey, Suite, VerifyingKey, directory, files};
use cloister_tls::issue::{Authority, Issued};
use cloister_tls::{Role, SpiffeId, TlsFiles};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::{Request, Response, Status, Streaming};

use crate::Config;
use crate::control::{Answer, QuarantineRow, StudyRow};
use crate::redact::Engine;

/// A submitted study.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) head: v1::StudyHead,
    pub(super) report: String,
    pub(super) recipient: String,
    /// Object and rendition, by index.
    pub(super) objects: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A sidecar that keeps what it gets.
#[derive(Debug, Clone, Default)]
pub(super) struct Listener {
    seen: Arc<Mutex<Vec<Seen>>>,
    /// So many attempts are answered UNAVAILABLE after everything was read.
    pub(super) unavailable: Arc<AtomicU32>,
    /// So many are answered INVALID_ARGUMENT.
    pub(super) refusing: Arc<AtomicU32>,
    pub(super) attempts: Arc<AtomicU32>,
}

impl Listener {
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

#[tonic::async_trait]
impl ReportService for Listener {
    type GenerateStreamStream = tokio_stream::Empty<Result<v1::GenerateEvent, Status>>;

    async fn generate(
        &self,
        _: Request<v1::GenerateRequest>,
    ) -> Result<Response<v1::GenerateResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn generate_stream(
        &self,
        _: Request<v1::GenerateRequest>,
    ) -> Result<Response<Self::GenerateStreamStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn submit_study(
        &self,
        request: Request<Streaming<v1::SubmitStudyRequest>>,
    ) -> Result<Response<v1::GenerateResponse>, Status> {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        let text = |key| {
            request
                .metadata()
                .get(key)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        let (report, recipient) = (text("cloister-report-id"), text("cloister-recipient"));
        let mut stream = request.into_inner();
        let Some(Part::Head(head)) = stream.message().await?.and_then(|message| message.part)
        else {
            return Err(Status::invalid_argument("no head"));
        };
        let mut objects: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        while let Some(message) = stream.message().await? {
            let Some(Part::Chunk(chunk)) = message.part else {
                return Err(Status::invalid_argument("no chunk"));
            };
            assert!(chunk.data.len() <= cloister_proto::MAX_CHUNK_BYTES);
            objects.resize(
                objects.len().max(chunk.object_index as usize + 1),
                (Vec::new(), Vec::new()),
            );
            let object = objects.last_mut().unwrap();
            match chunk.part() {
                object_chunk::Part::Object => object.0.extend_from_slice(&chunk.data),
                object_chunk::Part::Rendition => object.1.extend_from_slice(&chunk.data),
                object_chunk::Part::Unspecified => return Err(Status::invalid_argument("no part")),
            }
        }
        let refuse = |left: u32| left.checked_sub(1);
        if self
            .unavailable
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, refuse)
            .is_ok()
        {
            return Err(Status::unavailable("later"));
        }
        if self
            .refusing
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, refuse)
            .is_ok()
        {
            return Err(Status::invalid_argument("never"));
        }
        let report_id = uuid::Uuid::parse_str(&report).unwrap().as_bytes().to_vec();
        self.seen.lock().unwrap().push(Seen {
            head,
            report,
            recipient,
            objects,
        });
        let receipt = v1::Receipt {
            report_id,
            ..Default::default()
        };
        Ok(Response::new(v1::GenerateResponse {
            result: None,
            receipt: Some(receipt),
        }))
    }

    async fn validate(
        &self,
        _: Request<v1::ValidateRequest>,
    ) -> Result<Response<v1::ValidateResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn send_feedback(
        &self,
        _: Request<v1::FeedbackRequest>,
    ) -> Result<Response<v1::FeedbackResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// tonic wants to know about connections; this one has nothing to say.
struct Quiet(TlsStream<TcpStream>);

impl tonic::transport::server::Connected for Quiet {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Quiet {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Quiet {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Everything around the room.
pub(super) struct Site {
    pub(super) dir: tempfile::TempDir,
    pub(super) listener: Listener,
    pub(super) recipient: RecipientPrivateKey,
    pub(super) gateway_key: VerifyingKey,
    pub(super) audit_key: VerifyingKey,
    /// Issues every certificate here.
    pub(super) authority: Authority,
    /// Receiving ports of `[listen]`.
    pub(super) listen: String,
    /// Lines of `[keys]`.
    pub(super) wrapping: String,
    sidecar: SocketAddr,
    serving: JoinHandle<()>,
    /// More tables for the configuration.
    pub(super) tables: Mutex<String>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn public(path: &Path, text: &str) {
    cloister_log::durable::write_atomic(path, text.as_bytes(), 0o644).unwrap();
}

impl Site {
    /// More lines at the end of the configuration.
    pub(super) fn add(&self, lines: &str) {
        self.tables.lock().unwrap().push_str(lines);
    }

    pub(super) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["wrapping.key", "pseudonym.key"] {
            let mut key = [0; 32];
            getrandom::fill(&mut key).unwrap();
            files::write_secret(&at(name), &key).unwrap();
        }
        let mut publics = Vec::new();
        for name in ["manifest.key", "audit.key"] {
            let key = SigningKey::generate().unwrap();
            files::write_secret(&at(name), key.to_pkcs8_pem().unwrap().as_bytes()).unwrap();
            publics.push(key.verifying_key());
        }
        let enrolment = SigningKey::generate().unwrap();
        public(
            &at("enrolment.pub"),
            &enrolment.verifying_key().to_pem().unwrap(),
        );
        let recipient = RecipientPrivateKey::generate(Suite::HpkeXwing).unwrap();
        let entry = v1::DirectoryEntry {
            format: 1,
            identity: "spiffe://example.org/clinician/house".to_owned(),
            suite: Suite::HpkeXwing.into(),
            public_key: recipient.public().to_bytes(),
            key_id: recipient.public().key_id().as_bytes().to_vec(),
            groups: vec!["radiology".to_owned()],
            not_before_unix_ms: 0,
            not_after_unix_ms: i64::MAX,
        };
        let entry = directory::sign_entry(&entry, &enrolment);
        directory::append_file(&at("directory.jsonl"), &entry).unwrap();

        let authority = Authority::generate("test", 1).unwrap();
        public(&at("ca.crt"), authority.ca_pem());
        for (name, role) in [("gateway", Role::Gateway), ("sidecar", Role::Sidecar)] {
            let identity = SpiffeId::new("example.org", role, name).unwrap();
            let issued = authority
                .issue(&identity, &["localhost"], &[Ipv4Addr::LOCALHOST.into()], 1)
                .unwrap();
            public(&at(&format!("{name}.crt")), &issued.cert_pem);
            files::write_secret(&at(&format!("{name}.tls.key")), issued.key_pem.as_bytes())
                .unwrap();
        }
        let tls = TlsFiles {
            certificate: at("sidecar.crt"),
            key: at("sidecar.tls.key"),
            peer_ca: at("ca.crt"),
        };
        let tls = cloister_tls::server_config(&tls, &[b"h2"]).unwrap();
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let sidecar = socket.local_addr().unwrap();
        let listener = Listener::default();
        let serving = tokio::spawn(serve(socket, TlsAcceptor::from(tls), listener.clone()));
        let audit_key = publics.pop().unwrap();
        let gateway_key = publics.pop().unwrap();
        Self {
            dir,
            listener,
            recipient,
            gateway_key,
            audit_key,
            authority,
            wrapping: "wrapping = \"wrapping.key\"".to_owned(),
            listen: "dimse = \"127.0.0.1:0\"".to_owned(),
            sidecar,
            serving,
            tables: Mutex::new("[spool]\nmin_free_bytes = 0\n".to_owned()),
        }
    }

    /// A certificate for `role/name`, and its key, as `NAME.crt` and `NAME.tls.key`.
    pub(super) fn certificate(&self, role: Role, name: &str) -> Issued {
        let identity = SpiffeId::new("example.org", role, name).unwrap();
        let loopback = [Ipv4Addr::LOCALHOST.into()];
        let issued = self
            .authority
            .issue(&identity, &["localhost"], &loopback, 1);
        let issued = issued.unwrap();
        self.keep(name, &issued);
        issued
    }

    pub(super) fn keep(&self, name: &str, issued: &Issued) {
        public(&self.at(&format!("{name}.crt")), &issued.cert_pem);
        let key = self.at(&format!("{name}.tls.key"));
        files::write_secret(&key, issued.key_pem.as_bytes()).unwrap();
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What is on record, once the room has stopped.
    pub(super) fn events(&self) -> Vec<Event> {
        let key = std::fs::read_to_string(self.at("audit.key")).unwrap();
        let log = AuditLog::open(AuditConfig {
            dir: self.state().join("audit"),
            origin: "test/dicom-scp/0".to_owned(),
            key: SigningKey::from_pkcs8_pem(&key).unwrap(),
        })
        .unwrap();
        let events = log.events(0, 10_000).unwrap();
        let events = events.iter().map(|(_, event)| Event::from_bytes(event));
        events.map(Result::unwrap).collect()
    }

    pub(super) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// The configuration, with more lines for some of its tables.
    pub(super) fn config(&self, receive: &str, route: &str) -> Config {
        let text = format!(
            r#"
state_dir = "state"
site = "test"
[listen]
{}
admin = "127.0.0.1:0"
[receive]
{receive}
[keys]
{}
pseudonym = "pseudonym.key"
manifest_signing = "manifest.key"
audit_signing = "audit.key"
[directory]
file = "directory.jsonl"
enrolment_key = "enrolment.pub"
[route]
{route}
[study]
quiet_ms = 300
[redact]
detector_bundle = "none"
runtime_library = "none"
[sidecar]
endpoint = "https://127.0.0.1:{}"
identity = "spiffe://example.org/sidecar/sidecar"
certificate = "gateway.crt"
key = "gateway.tls.key"
peer_ca = "ca.crt"
retry_initial_ms = 50
retry_max_ms = 200
{}
"#,
            self.listen,
            self.wrapping,
            self.sidecar.port(),
            self.tables.lock().unwrap(),
        );
        let path = self.dir.path().join("dicom-scp.toml");
        public(&path, &text);
        Config::load(&path).unwrap()
    }

    /// Where the room that is ready now listens.
    pub(super) fn dimse(&self) -> Option<SocketAddr> {
        self.port("dimse")
    }

    /// A port of the room that is ready now.
    pub(super) fn port(&self, name: &str) -> Option<SocketAddr> {
        let ready = std::fs::read(self.state().join("ready.json")).ok()?;
        let ready: serde_json::Value = serde_json::from_slice(&ready).ok()?;
        ready["ports"][name].as_str()?.parse().ok()
    }

    pub(super) async fn start(&self) -> Room {
        self.start_with("", "default_recipient = \"group:radiology\"")
            .await
    }

    pub(super) async fn start_with(&self, receive: &str, route: &str) -> Room {
        let config = self.config(receive, route);
        self.start_on(config, Disk::default()).await
    }

    pub(super) async fn start_on(&self, config: Config, disk: Disk) -> Room {
        let shutdown = Shutdown::new();
        // One of a room that ended badly would be believed.
        drop(std::fs::remove_file(self.state().join("ready.json")));
        let running = tokio::spawn(crate::room::run_with(
            config,
            Engine::PassThrough,
            disk,
            shutdown.clone(),
        ));
        let dimse = poll("the room is ready", || {
            assert!(!running.is_finished(), "the room did not start");
            ["dimse", "dimse_tls", "stow"]
                .iter()
                .find_map(|name| self.port(name))
        })
        .await;
        Room {
            dimse,
            control: self.state().join("control.sock"),
            shutdown,
            running: Some(running),
        }
    }
}

async fn serve(socket: TcpListener, acceptor: TlsAcceptor, listener: Listener) {
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await
                && sender
                    .send(Ok::<_, std::io::Error>(Quiet(stream)))
                    .await
                    .is_err()
            {
                return;
            }
        }
    });
    let incoming = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let service = ReportServiceServer::new(listener);
    tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming(incoming)
        .await
        .unwrap();
}

/// A running room.
pub(super) struct Room {
    pub(super) dimse: SocketAddr,
    control: PathBuf,
    shutdown: Shutdown,
    /// `None` for a room in another process.
    running: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Room {
    /// A room in another process.
    pub(super) fn elsewhere(site: &Site) -> Self {
        let dimse = site.dimse().unwrap();
        let control = site.state().join("control.sock");
        Self {
            dimse,
            control,
            shutdown: Shutdown::new(),
            running: None,
        }
    }

    pub(super) async fn stop(self) {
        self.shutdown.trigger();
        if let Some(running) = self.running {
            running.await.unwrap().unwrap();
        }
    }

    /// As [`Room::stop`], for a room whose disk may not let it end in good order.
    pub(super) async fn stop_badly(self) {
        self.shutdown.trigger();
        if let Some(running) = self.running {
            drop(running.await.unwrap());
        }
    }

    async fn ask(&self, list: &str) -> Answer {
        self.request(&format!("{{\"list\":\"{list}\"}}")).await
    }

    /// One line to the control socket.
    pub(super) async fn request(&self, line: &str) -> Answer {
        use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
        let mut stream = tokio::net::UnixStream::connect(&self.control)
            .await
            .unwrap();
        stream
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await.unwrap();
        serde_json::from_str(&line).unwrap()
    }

    pub(super) async fn studies(&self) -> Vec<StudyRow> {
        match self.ask("studies").await {
            Answer::Studies(rows) => rows,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn quarantine(&self) -> Vec<QuarantineRow> {
        match self.ask("quarantine").await {
            Answer::Quarantine(rows) => rows,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn bad_request(&self) -> bool {
        matches!(self.ask("everything").await, Answer::Error(_))
    }

    /// Waits until every study has come to an end.
    pub(super) async fn settled(&self, studies: usize) -> Vec<StudyRow> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let rows = self.studies().await;
            let ended = ["forwarded", "withheld", "dead"];
            let done = |row: &StudyRow| ended.contains(&row.state.as_str());
            if rows.len() == studies && rows.iter().all(done) {
                return rows;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "not settled: {rows:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Polls a condition, with a deadline.
pub(super) async fn poll<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(tokio::time::Instant::now() < deadline, "timed out: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
