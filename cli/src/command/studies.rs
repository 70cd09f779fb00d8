//! `cloister studies`: what the gateway has received and how far each study is.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args as ClapArgs;

use crate::control;
use crate::failure::usage;
use crate::output::Output;
use crate::state::State;
use crate::wording;

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) control: ControlArgs,
}

/// Where dicom-scp's control socket is.
#[derive(Debug, ClapArgs)]
pub(super) struct ControlArgs {
    /// State folder of a local installation.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// dicom-scp's control socket.
    #[arg(long, value_name = "SOCKET")]
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
    let studies = control::studies(&args.control.socket()?).await?;
    for study in &studies {
        out.emit(study)?;
        let report = study
            .report
            .map_or_else(|| "-".to_owned(), |id| id.to_string());
        out.say(format!(
            "{}  {:<10} v{}  {} object(s), {} cleared, {} quarantined  from {}  report {report}",
            wording::time(study.received_at_unix_ms),
            study.state,
            study.version,
            study.objects,
            study.cleared,
            study.quarantined,
            study.calling_ae,
        ))?;
    }
    if studies.is_empty() {
        out.say("No studies.")?;
    }
    Ok(())
}
