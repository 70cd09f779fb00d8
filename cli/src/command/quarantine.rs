//! `cloister quarantine list`: what was held back, and why.

use anyhow::Result;
use clap::Subcommand;

use super::studies::ControlArgs;
use crate::control;
use crate::output::Output;
use crate::wording;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: QuarantineCommand,
}

#[derive(Debug, Subcommand)]
enum QuarantineCommand {
    /// List objects that were held back, with the reason.
    List {
        #[command(flatten)]
        control: ControlArgs,
    },
}

pub(crate) async fn run(args: &Args, out: Output) -> Result<()> {
    let QuarantineCommand::List { control } = &args.command;
    let entries = control::quarantine(&control.socket()?).await?;
    for entry in &entries {
        out.emit(entry)?;
        out.say(format!(
            "{}  {:<24} {} bytes  from {}  object {}",
            wording::time(entry.at_unix_ms),
            entry.reason,
            entry.bytes,
            entry.calling_ae,
            entry.object,
        ))?;
    }
    if entries.is_empty() {
        out.say("Nothing is in quarantine.")?;
    }
    Ok(())
}
