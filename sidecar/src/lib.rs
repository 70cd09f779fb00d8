//! cloister-sidecar: the one way in and out of the pod.
//!
//! Mutual TLS 1.3 outside, Unix sockets inside. Whatever the server answers leaves as a sealed
//! report, after the audit log knows about it, or not at all. [`stack`](self) lists the steps.
//!
//! Crash safety: a report is held (durable, invisible) before it is recorded, and recorded before
//! it is released. At start every held report is recorded, if its record is missing, and released;
//! the caller's next try with the same report id gets the same bytes. The server is asked at most
//! once for a report that was ever held.

mod config;

mod stack;

mod accept;

mod identify;

mod authorize;

mod limit;

mod route;

mod upstream;

mod wire;

mod flight;

mod admit;

mod seal;

mod hold;

mod record;

mod release;

mod inbox;

mod audit_service;

mod directory;

mod store;

mod metric;

mod error;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use cloister_audit::merge::Merger;
use cloister_audit::{Action, AuditConfig, AuditLog, Event};
use cloister_proto::v1::audit_service_server::AuditServiceServer;
use cloister_proto::v1::directory_service_server::DirectoryServiceServer;
use cloister_proto::v1::inbox_service_server::InboxServiceServer;
use cloister_runtime::{Ready, Shutdown, admin, ready_file, telemetry};
use cloister_seal::{SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

pub use config::Config;

use accept::{ALPN, Acceptor};
use directory::Directory;
use record::Audit;
use stack::Stack;
use store::{LogStore, Store};

/// Serves until `shutdown`, then drains.
///
/// # Errors
/// When a key, the directory, the audit log or the mailbox cannot be used, or a port not be bound.
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    let ready_path = config.state.join("ready.json");
    ready_file::clear(&ready_path)?;
    let handle = telemetry::recorder();
    metric::describe();

    // Keys and certificates first: without them nothing else makes sense.
    let tls = cloister_tls::server_config(&config.tls, ALPN)?;
    let node = signing_key(&config.signing_key)?;
    let log = AuditLog::open(AuditConfig {
        dir: config.state.join("audit"),
        origin: config.audit_origin.clone(),
        key: signing_key(&config.audit_key)?,
    })
    .context("the audit log")?;
    log.record(Event::new(Action::Started))
        .await
        .context("the audit log")?;
    let directory = load_directory(&config, &log).await?;
    let store = LogStore::open(&config.state.join("mailbox")).context("the mailbox")?;

    let stack = Arc::new(build(
        &config,
        node,
        &log,
        directory,
        Arc::new(store),
        &shutdown,
    ));
    // Before anybody can ask: what a crash left half-way is finished first.
    stack.resume_all().await.context("held reports")?;

    let ready = Ready::new();
    let admin = admin::serve(config.admin, ready.clone(), handle, shutdown.clone())
        .await
        .context("admin port")?;
    let listener = TcpListener::bind(config.listen)
        .await
        .context("mTLS port")?;
    let mtls = listener.local_addr()?;
    let merger = Merger::new(log.clone());
    // Stops after the last connection, not with it: their refusals are to be recorded as well.
    let merging = Shutdown::new();
    let merged = {
        let (merger, stop) = (merger.clone(), merging.clone());
        tokio::spawn(async move { merger.run(async move { stop.cancelled().await }).await })
    };

    ready_file::write(
        &ready_path,
        &BTreeMap::from([("mtls", mtls.to_string()), ("admin", admin.to_string())]),
    )?;
    ready.set(true);
    tracing::info!(%mtls, %admin, "Serving.");
    let (limits, draining) = (config.limits, ready.clone());
    let acceptor = Acceptor {
        tls,
        stack: Arc::clone(&stack),
        merger,
        limits,
        shutdown: shutdown.clone(),
    };
    let unready = {
        let shutdown = shutdown.clone();
        async move {
            shutdown.cancelled().await;
            draining.set(false);
        }
    };
    tokio::join!(accept::serve(listener, Arc::new(acceptor)), unready);

    stack.out.close();
    if tokio::time::timeout(limits.drain_timeout, stack.out.wait())
        .await
        .is_err()
    {
        tracing::warn!("Reports on their way out were cut off; held ones go on at the next start.");
    }
    merging.trigger();
    merged
        .await
        .context("merged audit events")?
        .context("merged audit events")?;
    log.record(Event::new(Action::Stopped))
        .await
        .context("the audit log")?;
    ready_file::clear(&ready_path)?;
    Ok(())
}

fn build(
    config: &Config,
    node: SigningKey,
    log: &AuditLog,
    directory: Directory,
    store: Arc<dyn Store>,
    shutdown: &Shutdown,
) -> Stack {
    let audit: Arc<dyn Audit> = Arc::new(log.clone());
    let inbox = inbox::Service {
        store: Arc::clone(&store),
        audit: Arc::clone(&audit),
        log: log.clone(),
        directory: directory.clone(),
        shutdown: shutdown.clone(),
    };
    let audits = audit_service::Service {
        log: log.clone(),
        audit: Arc::clone(&audit),
    };
    let entries = directory::Service {
        directory: directory.clone(),
        audit: Arc::clone(&audit),
    };
    Stack {
        policy: config.policy.clone(),
        limits: config.limits,
        directory,
        upstream: upstream::Upstream::new(&config.server),
        store,
        audit,
        node,
        flights: flight::Flights::default(),
        places: Arc::new(Semaphore::new(config.limits.max_reports_in_flight)),
        out: TaskTracker::new(),
        inbox: InboxServiceServer::new(inbox),
        audits: AuditServiceServer::new(audits),
        entries: DirectoryServiceServer::new(entries),
    }
}

fn signing_key(path: &Path) -> anyhow::Result<SigningKey> {
    let pem =
        cloister_seal::files::read_secret(path).with_context(|| path.display().to_string())?;
    let text = std::str::from_utf8(&pem).with_context(|| path.display().to_string())?;
    SigningKey::from_pkcs8_pem(text).with_context(|| path.display().to_string())
}

/// Loads the directory, and puts into the audit log which one.
async fn load_directory(config: &Config, log: &AuditLog) -> anyhow::Result<Directory> {
    let pem = tokio::fs::read_to_string(&config.enrolment_key)
        .await
        .with_context(|| config.enrolment_key.display().to_string())?;
    let enrolment =
        VerifyingKey::from_pem(&pem).with_context(|| config.enrolment_key.display().to_string())?;
    let file = &config.directory_file;
    let bytes = tokio::fs::read(file)
        .await
        .with_context(|| file.display().to_string())?;
    let directory =
        Directory::load(file, &enrolment).with_context(|| file.display().to_string())?;
    let event = Event::new(Action::DirectoryLoaded).object_sha256(Sha256::digest(&bytes).into());
    log.record(event).await.context("the audit log")?;
    Ok(directory)
}
