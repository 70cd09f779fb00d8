//! `cloister bundle inspect|verify`: what a bundle says it is, and whether it may run here.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use cloister_onnx::{Bundle, Kind, TrustedHashes};
use serde_json::json;

use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: BundleCommand,
}

#[derive(Debug, Subcommand)]
enum BundleCommand {
    /// Show a bundle; checks every file's hash, not who is trusted.
    Inspect {
        /// The bundle's folder.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Check that bundles are whole and trusted, as a server does at its start.
    Verify {
        /// Folders of bundles.
        #[arg(value_name = "DIR", required = true)]
        dirs: Vec<PathBuf>,
        /// PEM file with an Ed25519 public key whose signatures are trusted; may be repeated.
        #[arg(long, value_name = "FILE")]
        trust_key: Vec<PathBuf>,
    },
}

pub(crate) fn run(args: &Args, out: Output) -> Result<()> {
    match &args.command {
        BundleCommand::Inspect { dir } => inspect(dir, out),
        BundleCommand::Verify { dirs, trust_key } => verify(dirs, trust_key, out),
    }
}

/// What a bundle is for, as `bundle.toml` writes it.
fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Report => "report",
        Kind::Guard => "guard",
        Kind::Phi => "phi",
        Kind::TextDetector => "text-detector",
        Kind::Scripted => "scripted",
        _ => "unknown",
    }
}

fn inspect(dir: &Path, out: Output) -> Result<()> {
    let bundle = Bundle::inspect(dir)?;
    let manifest = bundle.manifest();
    let sha256 = hex::encode(bundle.sha256());
    out.emit(&json!({
        "name": manifest.name,
        "version": manifest.version,
        "kind": kind(manifest.kind),
        "evaluated": manifest.evaluated,
        "sha256": sha256,
        "files": manifest.files.iter().map(|file| json!({
            "path": file.path,
            "sha256": file.sha256,
            "source": file.source,
        })).collect::<Vec<_>>(),
    }))?;
    out.say(format!(
        "{} {} ({})",
        manifest.name,
        manifest.version,
        kind(manifest.kind)
    ))?;
    out.say(format!(
        "  evaluated  {}",
        if manifest.evaluated { "yes" } else { "no" }
    ))?;
    out.say(format!("  sha256     {sha256}"))?;
    for file in &manifest.files {
        let source = file.source.as_deref().unwrap_or("in the folder");
        out.say(format!("  {}  {}  {source}", file.sha256, file.path))?;
    }
    Ok(())
}

fn verify(dirs: &[PathBuf], trust_keys: &[PathBuf], out: Output) -> Result<()> {
    let mut trust = TrustedHashes::compiled_in()?;
    for path in trust_keys {
        let pem = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        trust = trust
            .with_key_pem(&pem)
            .with_context(|| path.display().to_string())?;
    }
    let mut failed = 0usize;
    for dir in dirs {
        match Bundle::load(dir, &trust) {
            Ok(bundle) => {
                let manifest = bundle.manifest();
                let sha256 = hex::encode(bundle.sha256());
                out.emit(
                    &json!({ "dir": dir, "ok": true, "name": manifest.name, "sha256": sha256 }),
                )?;
                out.say(format!(
                    "ok      {} {} {sha256}",
                    manifest.name, manifest.version
                ))?;
            }
            Err(error) => {
                failed += 1;
                out.emit(&json!({ "dir": dir, "ok": false, "error": error.to_string() }))?;
                out.say(format!("FAILED  {}: {error}", dir.display()))?;
            }
        }
    }
    if failed > 0 {
        anyhow::bail!("{failed} of {} bundles may not run", dirs.len());
    }
    Ok(())
}
