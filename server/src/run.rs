//! From a configuration to a serving process: load, bind, say "ready", serve, drain.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use cloister_deid::{Deidentifier, HmacPseudonyms, Policy};
use cloister_onnx::{Bundle, Kind, Runtime, SessionOptions};
use cloister_redact::{RedactConfig, Redactor};
use cloister_runtime::{Ready, Shutdown, admin, ready_file, telemetry};
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, UnixListener};
use tonic::service::Routes;
use tonic::transport::Server;

use crate::assess::Assessor;
use crate::check::Checker;
use crate::clean::Cleaner;
use crate::config::{Config, ModelConfig, PseudonymKey};
use crate::draft::onnx::OnnxEngine;
use crate::draft::scripted::Scripted;
use crate::draft::{Drafter, Engine};
use crate::grpc::{self, Shared};
use crate::peer::{self, AllowedUids};
use crate::pipeline::Pipeline;
use crate::screen::Screener;
use crate::{http, metric};

/// How long requests under way may take once the process has to stop.
const DRAIN: Duration = Duration::from_secs(20);
/// How often the model's thread is looked after.
const LOOK_AFTER: Duration = Duration::from_millis(500);

/// The rules that decide about requests: their text is the server's policy, whose hash stands in
/// every report.
const POLICY: [&str; 7] = [
    include_str!("screen/injection.rs"),
    include_str!("screen/malign.rs"),
    include_str!("screen/crisis.rs"),
    include_str!("screen/relevance.rs"),
    include_str!("screen/text.rs"),
    include_str!("check/rules.rs"),
    include_str!("assess.rs"),
];

/// Serves until `shutdown`.
///
/// # Errors
/// When a bundle, a key, a worker or a socket cannot be used, or the model's thread dies.
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    let ready_json = config.state_dir.join("ready.json");
    // What an earlier run bound is no longer true.
    std::fs::remove_file(&ready_json).ok();
    let recorder = telemetry::recorder();
    metric::describe();
    let ready = Ready::new();
    let admin = admin::serve(config.admin, ready.clone(), recorder, shutdown.clone())
        .await
        .context("the admin port cannot be bound")?;

    let parts = Parts {
        model: config.model,
        redact: config.redact,
        pseudonym_key: config.pseudonym_key,
        max_query_chars: config.max_query_chars,
        guard_timeout: config.guard_timeout,
    };
    // Hashing and loading take seconds.
    let pipeline = tokio::task::spawn_blocking(move || parts.assemble()).await??;
    let engine = Arc::clone(&pipeline.drafter.engine);
    let shared = Arc::new(Shared {
        pipeline,
        gateway_keys: config.gateway_keys,
        limits: config.limits,
        inspect: config.inspect,
        shutdown: shutdown.clone(),
    });
    let (routes, health) = grpc::routes(Arc::clone(&shared), config.reflection).await?;

    let allowed = AllowedUids::new(&config.allowed_uids);
    let socket = peer::bind(&config.socket).context("the socket cannot be bound")?;
    let http_socket = peer::bind(&config.http_socket).context("the HTTP socket cannot be bound")?;
    let mut ports = BTreeMap::from([
        ("admin", admin.to_string()),
        ("grpc", config.socket.display().to_string()),
        ("http", config.http_socket.display().to_string()),
    ]);
    let dev = match config.dev_listen {
        None => None,
        Some(addr) => {
            let listener = TcpListener::bind(addr)
                .await
                .context("dev_listen cannot be bound")?;
            tracing::warn!(
                "Development only: the services also listen on loopback, without the peer check."
            );
            ports.insert("dev", listener.local_addr()?.to_string());
            Some(listener)
        }
    };

    let http_task = tokio::spawn(http::serve(
        http_socket,
        allowed.clone(),
        shared,
        shutdown.clone(),
    ));
    let unix = tokio::spawn(serve_unix(
        routes.clone(),
        socket,
        allowed,
        shutdown.clone(),
    ));
    let tcp = tokio::spawn(serve_tcp(routes, dev, shutdown.clone()));
    ready_file::write(&ready_json, &ports).context("ready.json cannot be written")?;
    ready.set(true);
    tracing::info!("Serving.");

    let died = look_after(&*engine, &shutdown).await;
    ready.set(false);
    grpc::stop_serving(&health).await;
    shutdown.trigger();
    let drained =
        tokio::time::timeout(DRAIN, async { (unix.await, tcp.await, http_task.await) }).await;
    for path in [&config.socket, &config.http_socket, &ready_json] {
        std::fs::remove_file(path).ok();
    }
    if died {
        bail!("the model's thread died");
    }
    match drained {
        Err(_) => tracing::warn!("Requests under way were cut off."),
        Ok((unix, tcp, http)) => {
            unix??;
            tcp??;
            http?;
        }
    }
    Ok(())
}

/// Waits for the end: true when the model's thread died, false when the process has to stop.
async fn look_after(engine: &dyn Engine, shutdown: &Shutdown) -> bool {
    let mut tick = tokio::time::interval(LOOK_AFTER);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return false,
            _ = tick.tick() => if !engine.is_alive() { return true },
        }
    }
}

async fn serve_unix(
    routes: Routes,
    listener: UnixListener,
    allowed: AllowedUids,
    shutdown: Shutdown,
) -> Result<(), tonic::transport::Error> {
    let incoming = futures_util::stream::unfold((listener, allowed), |(listener, allowed)| async {
        loop {
            match allowed.accept(&listener).await {
                Ok(stream) => return Some((Ok::<_, std::io::Error>(stream), (listener, allowed))),
                // Out of descriptors, most likely: wait for some to be freed.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    });
    let stop = async move { shutdown.cancelled().await };
    Server::builder()
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, stop)
        .await
}

async fn serve_tcp(
    routes: Routes,
    listener: Option<TcpListener>,
    shutdown: Shutdown,
) -> Result<(), tonic::transport::Error> {
    let stop = async move { shutdown.cancelled().await };
    match listener {
        None => {
            tokio::select! {
                () = stop => Ok(()),
                () = pending() => Ok(()),
            }
        }
        Some(listener) => {
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            Server::builder()
                .add_routes(routes)
                .serve_with_incoming_shutdown(incoming, stop)
                .await
        }
    }
}

/// What a pipeline is made of.
pub(crate) struct Parts {
    pub(crate) model: ModelConfig,
    pub(crate) redact: Option<RedactConfig>,
    pub(crate) pseudonym_key: PseudonymKey,
    pub(crate) max_query_chars: usize,
    pub(crate) guard_timeout: Duration,
}

impl Parts {
    /// Loads the bundle and starts workers. Blocks.
    pub(crate) fn assemble(self) -> anyhow::Result<Pipeline> {
        let engine = engine(&self.model)?;
        let redactor = self
            .redact
            .map(Redactor::start)
            .transpose()
            .context("the workers cannot be started")?;
        let has_presence = redactor.as_ref().is_some_and(Redactor::has_presence);
        metrics::gauge!(metric::Metric::PresenceNetLoaded.name())
            .set(f64::from(u8::from(has_presence)));
        let facts = engine.facts();
        let mut policy = Sha256::new();
        for rules in POLICY {
            policy.update((rules.len() as u64).to_be_bytes());
            policy.update(rules);
        }
        policy.update((self.max_query_chars as u64).to_be_bytes());
        policy.update(
            self.model
                .confidence_threshold
                .unwrap_or(facts.confidence_threshold)
                .to_be_bytes(),
        );
        let assessor = Assessor::new(
            facts,
            self.model.confidence_threshold,
            policy.finalize().into(),
        );
        let checker = Checker::new(&facts.prefix, self.guard_timeout);
        let pseudonyms = HmacPseudonyms::new(self.pseudonym_key.0);
        Ok(Pipeline {
            cleaner: Arc::new(Cleaner::new(
                Deidentifier::new(Policy::basic()),
                pseudonyms,
                redactor,
            )),
            screener: Arc::new(Screener::new(self.max_query_chars, self.guard_timeout)),
            checker: Arc::new(checker),
            assessor,
            drafter: Arc::new(Drafter { engine }),
        })
    }
}

fn engine(config: &ModelConfig) -> anyhow::Result<Arc<dyn Engine>> {
    let bundle =
        Bundle::load(&config.bundle, &config.trust).context("the bundle cannot be used")?;
    let manifest = bundle.manifest();
    tracing::info!(
        name = manifest.name,
        version = manifest.version,
        sha256 = hex::encode(bundle.sha256()),
        "Bundle."
    );
    match manifest.kind {
        Kind::Scripted => {
            tracing::warn!("A scripted bundle answers from a file: for tests only.");
            Ok(Arc::new(Scripted::load(&bundle)?))
        }
        Kind::Report => {
            let library = match &config.runtime_library {
                Some(library) => library.clone(),
                None => cloister_onnx::library_path()?,
            };
            let runtime = Runtime::init(&library)?;
            let options = SessionOptions {
                threads: config.threads,
                provider: config.provider,
                ..SessionOptions::default()
            };
            Ok(Arc::new(OnnxEngine::start(
                &runtime,
                &bundle,
                options,
                config.limits,
            )?))
        }
        _ => bail!("the bundle is no report model"),
    }
}
