//! `cloister demo`: the whole path on loopback, with every check that a clinician's program makes.
//!
//! Steps, each said in plain words: keys → processes → films → C-STORE → wait → open → pictures →
//! canary scan → audit. A check that fails ends the demo with a non-zero exit code.

mod films;
mod steps;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cloister_runtime::Shutdown;

use super::serve::until_stopped;
use crate::detector::models_dir;
use crate::failure::usage;
use crate::installation::Installation;
use crate::output::Output;
use crate::rooms::{LogTo, ReadyFile, own_binaries};
use crate::settings::Settings;
use crate::state::{Room, State};

/// Written into a state folder that the demo made, so that it may be thrown away.
const MARKER: &str = "made-by-cloister-demo";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder with one's own DICOM films, instead of a drawn phantom.
    #[arg(long, value_name = "DIR")]
    study: Option<PathBuf>,
    /// Keep everything up afterwards and print how to send, list and open.
    #[arg(long)]
    serve: bool,
    /// Where keys, configurations, logs and results go. An earlier demo's folder is replaced.
    #[arg(long, value_name = "DIR", default_value = "demo-state")]
    state: PathBuf,
    /// Folder with the reference bundles.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Folder of the report bundle; `cxr-report-ref` of the models folder by default.
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// ONNX Runtime library; the pinned one in the cache by default.
    #[arg(long, value_name = "FILE")]
    runtime_library: Option<PathBuf>,
    /// Folder of the three executables; that of this one by default.
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
    /// How long to wait for the reports, in seconds.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    wait_seconds: u64,
}

/// Numbers the steps.
#[derive(Debug)]
struct Narrator {
    out: Output,
    step: u32,
}

impl Narrator {
    fn step(&mut self, text: &str) -> Result<()> {
        self.step += 1;
        self.out.say(format!("\n{}. {text}", self.step))
    }

    fn detail(&self, text: impl std::fmt::Display) -> Result<()> {
        self.out.say(format!("   {text}"))
    }
}

pub(crate) async fn run(args: Args, out: Output) -> Result<()> {
    let films = films::choose(args.study.as_deref())?;
    let mut narrator = Narrator { out, step: 0 };
    let state = State::at(&args.state)?;
    clear(&state)?;

    narrator.step("Keys: a CA, certificates, signing keys, and one clinician's key")?;
    let models = models_dir(args.models.as_deref())?;
    let mut settings = Settings::with_models(&models);
    if let Some(bundle) = &args.bundle {
        settings.report_bundle = std::path::absolute(bundle)?;
    }
    settings.runtime_library = args
        .runtime_library
        .as_deref()
        .map(std::path::absolute)
        .transpose()?;
    let binaries = match &args.binaries {
        Some(dir) => dir.clone(),
        None => own_binaries()?,
    };
    let mut installation = Installation::create(state.root(), settings, binaries, LogTo::File)?;
    mark(&state)?;
    narrator.detail(format!("everything is in {}", state.root().display()))?;
    narrator.detail(format!("the clinician is {}", installation.clinician()?))?;

    let shutdown = Shutdown::on_signals()?;
    let worked = tokio::select! {
        worked = work(&args, &mut installation, &films, &mut narrator) => worked,
        () = shutdown.cancelled() => Err(anyhow::anyhow!("interrupted")),
    };
    if let Err(error) = worked {
        // The first error is the one to tell.
        installation.stop().await.ok();
        return Err(error.context(format!(
            "logs are in {}",
            state.root().join("logs").display()
        )));
    }
    if args.serve {
        steps::how_to_go_on(&installation, &narrator)?;
        return until_stopped(installation.into_rooms(), &shutdown).await;
    }
    installation.stop().await?;
    out.say("\nAll checks passed; the three processes are stopped.")
}

async fn work(
    args: &Args,
    installation: &mut Installation,
    films: &films::Films,
    narrator: &mut Narrator,
) -> Result<()> {
    narrator.step("Processes: server, sidecar, dicom-scp")?;
    for room in Room::ALL {
        let spinner = narrator.out.spinner(format!("starting {room}"));
        let started = installation.start_room(room).await;
        spinner.finish_and_clear();
        started?;
        let ready = ReadyFile::read(installation.state(), room);
        let ports = ready.map(|ready| ready.ports).unwrap_or_default();
        let listed: Vec<_> = ports
            .iter()
            .map(|(name, at)| format!("{name} {at}"))
            .collect();
        narrator.detail(format!("{room} is ready: {}", listed.join(", ")))?;
    }

    narrator.step("A study is sent by C-STORE, as a modality does")?;
    narrator.detail(&films.description)?;
    let sent = steps::send(installation, films, narrator).await?;

    narrator
        .step("The gateway removes identity, the server drafts, the sidecar seals and records")?;
    let patience = Duration::from_secs(args.wait_seconds);
    let settled = steps::wait(installation, sent, patience, narrator).await?;
    steps::tell_quarantine(installation, narrator).await?;

    narrator.step("The clinician opens what arrived")?;
    let opened = steps::open_all(installation, &settled, narrator).await?;
    steps::refuse_another_key(installation, &opened, narrator).await?;

    narrator.step("The film before and after")?;
    steps::pictures(installation, films, narrator).await?;

    narrator.step("Nobody else held the patient's name")?;
    steps::canary(installation, &opened, narrator)?;

    narrator.step("Both audit logs are verified")?;
    steps::verify_audit(installation, narrator)
}

/// Makes room: an earlier demo's folder goes, anything else stays and is refused.
fn clear(state: &State) -> Result<()> {
    let root = state.root();
    if !root.exists() || std::fs::read_dir(root)?.next().is_none() {
        return Ok(());
    }
    if !root.join(MARKER).is_file() {
        return Err(usage(format!(
            "{} exists and was not made by a demo; choose another --state",
            root.display()
        )));
    }
    if let Some(room) = Room::ALL.into_iter().find(|room| is_alive(state, *room)) {
        bail!(
            "a demo still runs in {} ({room}); stop it first",
            root.display()
        );
    }
    std::fs::remove_dir_all(root).with_context(|| root.display().to_string())
}

fn is_alive(state: &State, room: Room) -> bool {
    ReadyFile::read(state, room)
        .is_some_and(|ready| Path::new("/proc").join(ready.pid.to_string()).exists())
}

fn mark(state: &State) -> Result<()> {
    let path = state.root().join(MARKER);
    cloister_log::durable::write_atomic(&path, b"", 0o600)
        .with_context(|| path.display().to_string())
}
