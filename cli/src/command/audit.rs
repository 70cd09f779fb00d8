//! `cloister audit verify`: recomputes the trees of audit logs and checks their signed heads.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use cloister_seal::trust::TrustFile;
use serde_json::json;

use crate::failure::usage;
use crate::output::Output;
use crate::state::{Room, State};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Verify every record of one or more audit logs against the keys in the trust file.
    Verify(VerifyArgs),
}

#[derive(Debug, clap::Args)]
struct VerifyArgs {
    /// Folders of audit logs.
    #[arg(value_name = "DIR")]
    logs: Vec<PathBuf>,
    /// State folder of a local installation: verifies its two logs.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Trust file that pins origin and key of each log.
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, out: Output) -> Result<()> {
    let AuditCommand::Verify(args) = &args.command;
    let mut logs = args.logs.clone();
    let mut trust = args.trust.clone();
    if let Some(dir) = &args.state {
        let state = State::at(dir)?;
        logs.extend([Room::DicomScp, Room::Sidecar].map(|room| state.audit(room)));
        trust.get_or_insert_with(|| state.pki().trust());
    }
    let trust = trust.ok_or_else(|| usage("give --state or --trust"))?;
    if logs.is_empty() {
        return Err(usage("give at least one audit log folder, or --state"));
    }
    let trust = TrustFile::load(&trust).with_context(|| trust.display().to_string())?;
    verify(&logs, &trust, out)
}

/// Verifies each log; says all results before it fails.
pub(super) fn verify(logs: &[PathBuf], trust: &TrustFile, out: Output) -> Result<()> {
    let mut seen = BTreeSet::new();
    let mut failed = 0usize;
    for dir in logs {
        match verify_one(dir, trust) {
            // The same log given twice would hide that the other one is missing.
            Ok((origin, _)) if !seen.insert(origin.clone()) => {
                failed += 1;
                out.emit(&json!({ "log": dir, "ok": false, "error": "origin given twice" }))?;
                out.say(format!(
                    "FAILED  {}: {origin} was given twice",
                    dir.display()
                ))?;
            }
            Ok((origin, verified)) => {
                out.emit(&json!({
                    "log": dir,
                    "ok": true,
                    "origin": origin,
                    "records": verified.records,
                    "root": hex::encode(verified.root),
                    "checkpoint_size": verified.checkpoint_size,
                    "uncovered_tail": verified.uncovered_tail,
                    "witnessed": false,
                }))?;
                out.say(format!(
                    "ok      {origin}: {} records, signed tree head over {}, {} after it; not witnessed",
                    verified.records, verified.checkpoint_size, verified.uncovered_tail
                ))?;
            }
            Err(error) => {
                failed += 1;
                let error = crate::failure::one_line(&error);
                out.emit(&json!({ "log": dir, "ok": false, "error": error }))?;
                out.say(format!("FAILED  {}: {error}", dir.display()))?;
            }
        }
    }
    if failed > 0 {
        anyhow::bail!("{failed} of {} audit logs failed", logs.len());
    }
    Ok(())
}

fn verify_one(dir: &Path, trust: &TrustFile) -> Result<(String, cloister_audit::Verified)> {
    // A signed note begins with its origin (C2SP tlog-checkpoint). It only chooses the key: the
    // signature and the origin are then checked against what the trust file pins.
    let note = std::fs::read_to_string(dir.join("checkpoint")).context("no checkpoint")?;
    let origin = note.lines().next().unwrap_or_default().to_owned();
    let key = trust
        .audit_key(&origin)
        .with_context(|| format!("origin {origin:?} is not in the trust file"))?;
    Ok((
        origin.clone(),
        cloister_audit::verify_directory(dir, &origin, key)?,
    ))
}
