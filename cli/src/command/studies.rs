//! `cloister studies`: what the gateway has received and how far each study is; `studies retry` and
//! `studies discard` for one that it has given up.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args as ClapArgs, Subcommand};
use cloister_dicom_scp::control::{Request, StudyRequest};

use crate::control;
use crate::failure::usage;
use crate::output::Output;
use crate::state::State;
use crate::wording;

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) control: ControlArgs,
    #[command(subcommand)]
    command: Option<StudiesCommand>,
}

#[derive(Debug, Subcommand)]
enum StudiesCommand {
    /// List every study (what no command does as well).
    List,
    /// Try a dead letter again.
    Retry {
        /// The study's key, as the list shows it.
        study: String,
    },
    /// Erase a dead letter and everything that the gateway holds of its study.
    Discard {
        /// The study's key, as the list shows it.
        study: String,
    },
}

/// Where dicom-scp's control socket is.
#[derive(Debug, ClapArgs)]
pub(super) struct ControlArgs {
    /// State folder of a local installation.
    #[arg(long, value_name = "DIR", global = true)]
    state: Option<PathBuf>,
    /// dicom-scp's control socket.
    #[arg(long, value_name = "SOCKET", global = true)]
    control: Option<PathBuf>,
}

impl ControlArgs {
    pub(super) fn socket(&self) -> Result<PathBuf> {
        match (&self.control, &self.state) {
            (Some(socket), _) => Ok(socket.clone()),
            (None, Some(dir)) => Ok(State::at(dir)?.control_socket()),
            (None, None) => Err(usage("give --state or --control")),
        }
    }
}

pub(crate) async fn run(args: &Args, out: Output) -> Result<()> {
    let socket = args.control.socket()?;
    let asked = match &args.command {
        None | Some(StudiesCommand::List) => None,
        Some(StudiesCommand::Retry { study }) => Some((
            StudyRequest::Retry(study.clone()),
            "The study is tried again.",
        )),
        Some(StudiesCommand::Discard { study }) => {
            Some((StudyRequest::Discard(study.clone()), "The study is erased."))
        }
    };
    if let Some((request, said)) = asked {
        let answer = control::operate(&socket, &Request::Studies(request)).await?;
        out.emit(&answer)?;
        return out.say(said);
    }
    let studies = control::studies(&socket).await?;
    for study in &studies {
        out.emit(study)?;
        let report = study
            .report
            .map_or_else(|| "-".to_owned(), |id| id.to_string());
        out.say(format!(
            "{}  {:<10} v{}  {} object(s), {} cleared, {} quarantined  from {}  report {report}  study {}{}",
            wording::time(study.received_at_unix_ms),
            study.state,
            study.version,
            study.objects,
            study.cleared,
            study.quarantined,
            study.calling_ae,
            study.key,
            study
                .dead
                .as_deref()
                .map(|dead| format!("  given up: {dead}"))
                .unwrap_or_default(),
        ))?;
    }
    if studies.is_empty() {
        out.say("No studies.")?;
    }
    Ok(())
}
