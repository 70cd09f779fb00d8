//! `cloister commitments`: what modalities asked the archive behind the gateway to commit to, what the
//! archive does not have, and another try for what was given up.

use anyhow::Result;
use clap::Subcommand;
use cloister_dicom_scp::control::{CommitmentRequest, CommitmentRow, Request};

use super::studies::ControlArgs;
use crate::control;
use crate::output::Output;
use crate::wording;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    control: ControlArgs,
    #[command(subcommand)]
    command: Option<CommitmentsCommand>,
}

#[derive(Debug, Subcommand)]
enum CommitmentsCommand {
    /// List requests, and objects that the archive does not have (what no command does as well).
    List,
    /// Send an object to the archive again, or deliver a report again.
    Retry {
        /// The key, as the list shows it.
        key: String,
    },
}

pub(crate) async fn run(args: &Args, out: Output) -> Result<()> {
    let socket = args.control.socket()?;
    if let Some(CommitmentsCommand::Retry { key }) = &args.command {
        let request = Request::Commitments(CommitmentRequest::Retry(key.clone()));
        out.emit(&control::operate(&socket, &request).await?)?;
        return out.say("It is tried again.");
    }
    let rows = control::commitments(&socket).await?;
    for row in &rows {
        out.emit(row)?;
        out.say(line(row))?;
    }
    if rows.is_empty() {
        out.say("No requests for commitment, and nothing that the archive refuses.")?;
    }
    Ok(())
}

fn line(row: &CommitmentRow) -> String {
    let reason = row.reason.as_deref();
    format!(
        "{}  {:<8} {:<9} {} object(s), {} decided, {} committed  from {}  key {}{}",
        wording::time(row.since_unix_ms),
        row.what,
        row.state,
        row.objects,
        row.decided,
        row.committed,
        row.calling_ae,
        row.key,
        reason
            .map(|reason| format!("  {reason}"))
            .unwrap_or_default(),
    )
}
