//! `cloister quarantine`: what was held back and why, and what an operator decides about it.

use anyhow::{Result, bail};
use clap::Subcommand;
use cloister_dicom_scp::control::{Answer, QuarantineRequest, QuarantineRow, Request};

use super::studies::ControlArgs;
use crate::control;
use crate::output::Output;
use crate::wording;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    control: ControlArgs,
    #[command(subcommand)]
    command: QuarantineCommand,
}

#[derive(Debug, Subcommand)]
enum QuarantineCommand {
    /// List objects that were held back, with the reason.
    List,
    /// Tell what is known about one, and whether releasing it makes sense.
    Show {
        /// The object, as the list names it.
        object: String,
    },
    /// Send one through the whole path again, the egress gate included.
    Release {
        /// The object, as the list names it.
        object: String,
    },
    /// Erase one.
    Purge {
        /// The object, as the list names it.
        object: String,
    },
}

pub(crate) async fn run(args: &Args, out: Output) -> Result<()> {
    let socket = args.control.socket()?;
    let ask = Request::Quarantine;
    match &args.command {
        QuarantineCommand::List => {
            let entries = control::quarantine(&socket).await?;
            for entry in &entries {
                out.emit(entry)?;
                out.say(line(entry))?;
            }
            if entries.is_empty() {
                out.say("Nothing is in quarantine.")?;
            }
            Ok(())
        }
        QuarantineCommand::Show { object } => {
            let request = ask(QuarantineRequest::Show(object.clone()));
            let Answer::Shown(entry) = control::operate(&socket, &request).await? else {
                bail!("dicom-scp gave another answer than asked for");
            };
            out.emit(&entry)?;
            out.say(line(&entry))?;
            out.say(format!(
                "study {}  pseudonym {}",
                entry.study_key,
                entry.study.as_deref().unwrap_or("-")
            ))?;
            match &entry.why_not {
                None => out.say("It can be released: it passes every step again."),
                Some(why) => out.say(format!("It cannot be released: {why}.")),
            }
        }
        QuarantineCommand::Release { object } => {
            let request = ask(QuarantineRequest::Release(object.clone()));
            out.emit(&control::operate(&socket, &request).await?)?;
            out.say("Released: it passes every step again with its study's next version.")
        }
        QuarantineCommand::Purge { object } => {
            let request = ask(QuarantineRequest::Purge(object.clone()));
            out.emit(&control::operate(&socket, &request).await?)?;
            out.say("Erased.")
        }
    }
}

fn line(entry: &QuarantineRow) -> String {
    format!(
        "{}  {:<24} {} bytes  from {}  object {}",
        wording::time(entry.at_unix_ms),
        entry.reason,
        entry.bytes,
        entry.calling_ae,
        entry.object,
    )
}
