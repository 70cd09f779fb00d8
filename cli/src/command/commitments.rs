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
    /// Forget a request that is over, or whose report cannot be delivered.
    Forget {
        /// The key, as the list shows it.
        key: String,
    },
}

pub(crate) async fn run(args: &Args, out: Output) -> Result<()> {
    let socket = args.control.socket()?;
    let change = match &args.command {
        Some(CommitmentsCommand::Retry { key }) => {
            Some((CommitmentRequest::Retry(key.clone()), "It is tried again."))
        }
        Some(CommitmentsCommand::Forget { key }) => Some((
            CommitmentRequest::Forget(key.clone()),
            "It is forgotten. Asked once more, it is a new one.",
        )),
        Some(CommitmentsCommand::List) | None => None,
    };
    if let Some((change, said)) = change {
        let request = Request::Commitments(change);
        out.emit(&control::operate(&socket, &request).await?)?;
        return out.say(said);
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
