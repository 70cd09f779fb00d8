//! A running sidecar with its PKI, directory and a fake server behind it, all in one folder.

use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cloister_audit::{AuditConfig, AuditLog};
use cloister_proto::v1;
use cloister_proto::v1::report_service_client::ReportServiceClient;
use cloister_runtime::Shutdown;
use cloister_seal::{RecipientPrivateKey, SigningKey, Suite, directory};
use cloister_sidecar::{Config, run};
use cloister_tls::issue::Authority;
use cloister_tls::{Role, SpiffeId, TlsFiles, channel, client_config};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::fake::Fake;

pub(crate) const ORIGIN: &str = "test/sidecar/0";
const LOOPBACK: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

pub(crate) fn id(role: Role, name: &str) -> SpiffeId {
    SpiffeId::new("test.example", role, name).unwrap()
}

pub(crate) struct Harness {
    pub(crate) dir: TempDir,
    pub(crate) ca: Authority,
    pub(crate) node: SigningKey,
    pub(crate) audit: SigningKey,
    pub(crate) alice: RecipientPrivateKey,
    pub(crate) bob: RecipientPrivateKey,
    pub(crate) fake: Arc<Fake>,
}

pub(crate) struct Running {
    pub(crate) addr: SocketAddr,
    pub(crate) admin: SocketAddr,
    shutdown: Shutdown,
    task: JoinHandle<anyhow::Result<()>>,
}

/// A sidecar in a process of its own.
pub(crate) struct Spawned {
    pub(crate) running: Running,
    child: std::process::Child,
}

impl Harness {
    /// The gateway's next manifests name the keys of these.
    pub(crate) fn name_in_manifest(&self, recipients: &[&RecipientPrivateKey]) {
        let ids = recipients
            .iter()
            .map(|key| key.public().key_id().as_bytes().to_vec());
        *self.fake.keys.lock().unwrap() = ids.collect();
    }

    /// Everything but the running sidecar.
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::generate("test CA", 1).unwrap();
        let key = || SigningKey::generate().unwrap();
        let (node, audit, enrolment) = (key(), key(), key());
        for (name, key) in [("node.key", &node), ("audit.key", &audit)] {
            secret(
                &dir.path().join(name),
                key.to_pkcs8_pem().unwrap().as_bytes(),
            );
        }
        write(
            &dir.path().join("enrolment.pub"),
            enrolment.verifying_key().to_pem().unwrap().as_bytes(),
        );
        let recipient = || RecipientPrivateKey::generate(Suite::HpkeXwing).unwrap();
        let (alice, bob) = (recipient(), recipient());
        for (name, key, group) in [("alice", &alice, "radiology"), ("bob", &bob, "surgery")] {
            enrol(
                &dir.path().join("directory.jsonl"),
                &enrolment,
                name,
                key,
                group,
            );
        }
        let fake = Fake::start(&dir.path().join("grpc.sock"), &dir.path().join("http.sock")).await;
        let harness = Self {
            dir,
            ca,
            node,
            audit,
            alice,
            bob,
            fake,
        };
        harness.certificate(&harness.ca, "sidecar", &id(Role::Sidecar, "sidecar"));
        harness
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a certificate of `issuer` for `who`, and trusts our CA.
    pub(crate) fn certificate(&self, issuer: &Authority, name: &str, who: &SpiffeId) -> TlsFiles {
        let issued = issuer.issue(who, &["localhost"], &[LOOPBACK], 1).unwrap();
        let files = TlsFiles {
            certificate: self.path(&format!("{name}.crt")),
            key: self.path(&format!("{name}.key")),
            peer_ca: self.path("ca.crt"),
        };
        write(&files.certificate, issued.cert_pem.as_bytes());
        secret(&files.key, issued.key_pem.as_bytes());
        write(&files.peer_ca, self.ca.ca_pem().as_bytes());
        files
    }

    pub(crate) fn config(&self, more: &str) -> Config {
        let text = format!(
            r#"
            state = "state"
            listen = "127.0.0.1:0"
            admin = "127.0.0.1:0"
            [tls]
            certificate = "sidecar.crt"
            key = "sidecar.key"
            peer_ca = "ca.crt"
            [server]
            grpc_socket = "grpc.sock"
            http_socket = "http.sock"
            [seal]
            signing_key = "node.key"
            [audit]
            origin = "{ORIGIN}"
            key = "audit.key"
            [directory]
            file = "directory.jsonl"
            enrolment_key = "enrolment.pub"
            [policy]
            trust_domain = "test.example"
            [[policy.ehr]]
            identity = "*"
            recipients = ["group:radiology"]
            {more}
            "#
        );
        let path = self.path("sidecar.toml");
        write(&path, text.as_bytes());
        Config::load(&path).unwrap()
    }

    pub(crate) async fn start(&self) -> Running {
        self.start_with("").await
    }

    pub(crate) async fn start_with(&self, more: &str) -> Running {
        let shutdown = Shutdown::new();
        let task = tokio::spawn(run(self.config(more), shutdown.clone()));
        let found = self
            .ready(std::process::id(), || {
                assert!(!task.is_finished(), "the sidecar ended before it was ready");
            })
            .await;
        let port = |name: &str| found["ports"][name].as_str().unwrap().parse().unwrap();
        Running {
            addr: port("mtls"),
            admin: port("admin"),
            shutdown,
            task,
        }
    }

    /// Starts the binary, so that it can be killed.
    pub(crate) async fn spawn(&self) -> Spawned {
        self.config("");
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_cloister-sidecar"))
            .arg("--config")
            .arg(self.path("sidecar.toml"))
            .spawn()
            .unwrap();
        let pid = child.id();
        let found = self
            .ready(pid, || {
                assert!(child.try_wait().unwrap().is_none(), "it ended");
            })
            .await;
        let port = |name: &str| found["ports"][name].as_str().unwrap().parse().unwrap();
        let task = tokio::spawn(async { Ok(()) });
        let running = Running {
            addr: port("mtls"),
            admin: port("admin"),
            shutdown: Shutdown::new(),
            task,
        };
        Spawned { running, child }
    }

    async fn ready(&self, pid: u32, mut alive: impl FnMut()) -> serde_json::Value {
        let ready = self.path("state/ready.json");
        eventually("ready.json", || {
            alive();
            let found: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&ready).ok()?).ok()?;
            (found["pid"] == pid).then_some(found)
        })
        .await
    }

    /// A caller's channel.
    pub(crate) async fn channel(&self, running: &Running, role: Role, name: &str) -> Channel {
        let files = self.certificate(&self.ca, &format!("{role}-{name}"), &id(role, name));
        let endpoint = format!("https://{}", running.addr);
        let tls = client_config(&files, &[b"h2"]).unwrap();
        channel::connect(&endpoint, tls, &id(Role::Sidecar, "sidecar"))
            .await
            .unwrap()
    }

    pub(crate) async fn reports(
        &self,
        running: &Running,
        role: Role,
    ) -> ReportServiceClient<Channel> {
        ReportServiceClient::new(self.channel(running, role, "x").await)
            .max_decoding_message_size(64 << 20)
    }

    /// The audit log of a stopped sidecar, one JSON text per event.
    pub(crate) fn events(&self) -> Vec<String> {
        let config = AuditConfig {
            dir: self.path("state/audit"),
            origin: ORIGIN.to_owned(),
            key: self.audit.clone(),
        };
        let log = AuditLog::open(config).unwrap();
        log.events(0, 10_000)
            .unwrap()
            .into_iter()
            .map(|(_, leaf)| String::from_utf8(leaf).unwrap())
            .collect()
    }
}

impl Running {
    pub(crate) async fn stop(self) {
        self.shutdown.trigger();
        within(self.task).await.unwrap().unwrap();
    }
}

impl Spawned {
    /// SIGKILL: no drain, no farewell.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A request with the metadata that a report needs.
pub(crate) fn order<T>(message: T, report: Uuid, recipients: &[&str]) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert(
        cloister_proto::METADATA_REPORT_ID,
        report.to_string().parse().unwrap(),
    );
    for recipient in recipients {
        request.metadata_mut().append(
            cloister_proto::METADATA_RECIPIENT,
            recipient.parse().unwrap(),
        );
    }
    request
}

/// The sealed report of an answer.
pub(crate) fn sealed(answer: v1::GenerateResponse) -> (v1::SealedReport, v1::Receipt) {
    match answer.result {
        Some(v1::generate_response::Result::Sealed(sealed)) => (sealed, answer.receipt.unwrap()),
        _ => panic!("no sealed report"),
    }
}

fn enrol(path: &Path, enrolment: &SigningKey, name: &str, key: &RecipientPrivateKey, group: &str) {
    let public = key.public();
    let entry = v1::DirectoryEntry {
        format: 1,
        identity: id(Role::Clinician, name).to_string(),
        suite: public.suite().into(),
        public_key: public.to_bytes(),
        key_id: public.key_id().as_bytes().to_vec(),
        groups: vec![group.to_owned()],
        not_before_unix_ms: 0,
        not_after_unix_ms: 4_000_000_000_000,
    };
    directory::append_file(path, &directory::sign_entry(&entry, enrolment)).unwrap();
}

pub(crate) fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

fn secret(path: &Path, bytes: &[u8]) {
    write(path, bytes);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Polls `look` until it finds something.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let mut poll = tokio::time::interval(Duration::from_millis(10));
    loop {
        poll.tick().await;
        if let Some(found) = look() {
            return found;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{what} did not happen in time"
        );
    }
}

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future)
        .await
        .expect("in time")
}
