//! Starts everything in order, and stops it in the opposite one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use cloister_audit::merge::Merger;
use cloister_audit::{Action, AuditConfig, AuditLog, Event};
use cloister_deid::Deidentifier;
use cloister_log::disk::Disk;
use cloister_log::durable;
use cloister_redact::Redactor;
use cloister_runtime::{Ready, Shutdown, admin, ready_file, telemetry};
use cloister_seal::directory::Directory;
use cloister_seal::{SigningKey, VerifyingKey, files};
use cloister_tls::{Profile, Server};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::keys::Keys;
use crate::pipeline::{self, Gateway};
use crate::receive::{self, Door, Kind, Reception};
use crate::redact::Engine;
use crate::relay::{self, Office};
use crate::spool::{Id, Spool};
use crate::store::Store;
use crate::vault::Vault;
use crate::{assemble, control, metric, retention};

/// How long open associations may go on after a stop signal.
const GRACE: Duration = Duration::from_secs(10);

/// Runs the gateway until `shutdown`.
///
/// # Errors
/// When it cannot start: a key, a log, a port or the detector is not as it should be.
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    let redact = config.redact.clone();
    let started = tokio::task::spawn_blocking(move || Redactor::start(redact)).await?;
    let engine = Engine::Pool(started.context("the redaction workers do not start")?);
    run_with(config, engine, Disk::default(), shutdown).await
}

pub(crate) async fn run_with(
    config: Config,
    engine: Engine,
    disk: Disk,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let state = &config.state_dir;
    durable::create_dir_all(state, 0o700).context("the state folder cannot be made")?;
    let ready_path = state.join("ready.json");
    ready_file::clear(&ready_path)?;
    let recorder = telemetry::recorder();
    metric::describe();
    metric::presence_net(engine.has_presence());

    let files = config.keys.clone();
    let keys = tokio::task::spawn_blocking(move || {
        Keys::load(&files.wrapping, &files.wrapping_previous, &files.pseudonym)
    });
    let keys = Arc::new(keys.await?.context("wrapping or pseudonym key")?);
    let manifest_signing = config.keys.manifest_signing.path();
    let signing = signing_key(manifest_signing).context("keys.manifest_signing")?;
    let audit_signing = config.keys.audit_signing.path();
    let audit_key = signing_key(audit_signing).context("keys.audit_signing")?;
    let enrolment =
        std::fs::read_to_string(&config.enrolment_key).context("directory.enrolment_key")?;
    let enrolment = VerifyingKey::from_pem(&enrolment).context("directory.enrolment_key")?;
    let audit = AuditConfig {
        dir: state.join("audit"),
        origin: config.audit_origin.clone(),
        key: audit_key,
    };
    let audit = AuditLog::open_on(disk.clone(), audit).context("the audit log cannot be opened")?;
    let directory = Directory::load(&config.directory_file, &enrolment);
    let entries = directory
        .context("the recipient directory cannot be used")?
        .entries()
        .len();
    audit
        .record(Event::new(Action::DirectoryLoaded).count(entries as u32))
        .await?;

    // The vault first: the names in the spool's log are made with its keys.
    let vault = Vault::open(&state.join("vault"), Arc::clone(&keys), disk.clone())
        .context("the vault cannot be opened")?;
    let spool = Spool::open(&state.join("spool"), keys, disk, config.spool)
        .context("the spool cannot be opened")?;
    if let Err(error) = spool.compact_if_long().await {
        // The log is longer than it has to be, and no worse.
        tracing::error!(%error, "The spool's log cannot be compacted.");
        anyhow::ensure!(!spool.is_distrusted(), error);
    }
    pipeline::quarantine_missing(&spool, &audit)
        .await
        .context("a missing file cannot be put on record")?;
    let tls = cloister_tls::client_config(&config.sidecar.tls, &[b"h2"])
        .context("[sidecar] TLS files")?;
    let channel = cloister_tls::channel::connect_lazy(
        &config.sidecar.endpoint,
        tls,
        &config.sidecar.identity,
    )
    .context("sidecar.endpoint")?;
    let gateway = Arc::new(Gateway {
        boot: Id::random().context("no randomness")?,
        spool: spool.clone(),
        vault: vault.clone(),
        audit: audit.clone(),
        deidentifier: Deidentifier::new(config.deidentify),
        engine,
        cleaning: Semaphore::new(config.redact.workers),
        signing,
        directory_file: config.directory_file.clone(),
        enrolment,
        channel,
        receive: config.receive.clone(),
        routes: config.routes.clone(),
        study: config.study.clone(),
        sidecar: config.sidecar.clone(),
    });

    let office = match config.relay {
        None => None,
        Some(ref relay) => {
            // Before anything could be erased.
            spool.worklist().hold_for_archive();
            let office = Office::open(relay.clone(), spool.clone(), audit.clone());
            Some(Arc::new(office.context("[commitment.tls] files")?))
        }
    };
    let doors = doors(&config).await?;
    let control = control::bind(&state.join("control.sock")).context("control.sock")?;
    let ready = Ready::new();
    let admin = admin::serve(config.admin, ready.clone(), recorder, shutdown.clone())
        .await
        .context("listen.admin")?;
    audit.record(Event::new(Action::Started)).await?;

    // What was acknowledged is worked on until the doors are closed and the last answer is given.
    let working = Shutdown::new();
    let merger = Merger::new(audit.clone());
    let merging = tokio::spawn(merger.clone().run({
        let working = working.clone();
        async move { working.cancelled().await }
    }));
    let assembling = tokio::spawn({
        let (gateway, working) = (Arc::clone(&gateway), working.clone());
        async move { assemble::run(&gateway, &working).await }
    });
    let clearing = tokio::spawn(pipeline::run(Arc::clone(&gateway), working.clone()));
    let desk = control::Desk {
        spool: spool.clone(),
        vault,
        audit: audit.clone(),
        operators: config.operators.clone(),
    };
    let controlling = tokio::spawn(control::serve(control, desk, working.clone()));
    let (keep, audited) = (config.keep, audit.clone());
    let keeping = retention::run(spool.clone(), audited, keep, working.clone());
    let keeping = tokio::spawn(keeping);
    let relaying = office.clone().map(|office| {
        let working = working.clone();
        tokio::spawn(relay::run(office, working))
    });

    let mut ports = BTreeMap::from([("admin", admin.to_string())]);
    for door in &doors {
        ports.insert(door.kind.name(), door.listener.local_addr()?.to_string());
    }
    ready_file::write(&ready_path, &ports)?;
    ready.set(true);
    tracing::info!(?ports, "Ready.");

    let store = Store::new(spool.clone(), audit.clone());
    let reception = Reception {
        config: config.receive.clone(),
        store,
        merger,
        relay: office,
    };
    receive::listen(reception, doors, shutdown, GRACE).await;

    ready.set(false);
    working.trigger();
    assembling.await?;
    clearing.await?;
    controlling.await?;
    keeping.await?;
    if let Some(relaying) = relaying {
        relaying.await?;
    }
    merging.await?.context("the audit log")?;
    // Work that cannot be cut off, on threads of its own, may still hold the logs.
    drop(gateway);
    spool.settle(GRACE).await;
    audit.record(Event::new(Action::Stopped)).await?;
    drop(std::fs::remove_file(state.join("control.sock")));
    ready_file::clear(&ready_path)?;
    Ok(())
}

/// Every receiving port of the configuration, bound.
async fn doors(config: &Config) -> anyhow::Result<Vec<Door>> {
    let mut doors = Vec::new();
    if let Some(address) = config.dimse {
        let listener = TcpListener::bind(address).await.context("listen.dimse")?;
        let kind = Kind::Dimse;
        doors.push(Door { listener, kind });
    }
    if let Some(tls) = &config.dimse_tls {
        let server = Server::load(tls.files.clone(), Profile::Dimse, &[]);
        let kind = Kind::DimseTls(server.context("[dimse_tls] files")?);
        let listener = TcpListener::bind(tls.listen).await;
        let listener = listener.context("listen.dimse_tls")?;
        doors.push(Door { listener, kind });
    }
    if let Some(stow) = &config.stow {
        let files = stow.door.files.clone();
        let server = Server::load(files, Profile::Tls13, receive::STOW_ALPN);
        let kind = Kind::Stow(server.context("[stow] files")?, stow.clone());
        let listener = TcpListener::bind(stow.door.listen).await;
        let listener = listener.context("stow.listen")?;
        doors.push(Door { listener, kind });
    }
    Ok(doors)
}

fn signing_key(path: &std::path::Path) -> anyhow::Result<SigningKey> {
    let pem = files::read_secret(path)?;
    Ok(SigningKey::from_pkcs8_pem(std::str::from_utf8(&pem)?)?)
}
