//! `cloister serve`: the three processes of an installation in one terminal. Ends when one of them
//! dies, or on Ctrl-C; under systemd or Kubernetes each process is a unit of its own.

use std::path::PathBuf;

use anyhow::Result;
use cloister_runtime::Shutdown;
use serde_json::json;

use crate::failure::usage;
use crate::output::Output;
use crate::rooms::{LogTo, ReadyFile, Rooms, own_binaries};
use crate::state::{Room, State};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder with server.toml, sidecar.toml and dicom-scp.toml.
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// Folder of the three executables; that of this one by default.
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
}

pub(crate) async fn run(args: Args, out: Output) -> Result<()> {
    let state = State::at(&args.state)?;
    for room in Room::ALL {
        if !state.config(room).is_file() {
            return Err(usage(format!(
                "{} does not exist; `cloister demo --serve --state {}` makes a working example",
                state.config(room).display(),
                args.state.display()
            )));
        }
    }
    let binaries = match args.binaries {
        Some(dir) => dir,
        None => own_binaries()?,
    };
    let shutdown = Shutdown::on_signals()?;
    let mut rooms = Rooms::new();
    for room in Room::ALL {
        let spinner = out.spinner(format!("starting {room}"));
        let started = tokio::select! {
            started = rooms.start(&state, room, &binaries, LogTo::Inherit) => started,
            () = shutdown.cancelled() => break,
        };
        spinner.finish_and_clear();
        if let Err(error) = started {
            rooms.stop().await.ok();
            return Err(error.into());
        }
        let ports = ReadyFile::read(&state, room)
            .map(|ready| ready.ports)
            .unwrap_or_default();
        let listed: Vec<_> = ports
            .iter()
            .map(|(name, at)| format!("{name} {at}"))
            .collect();
        out.emit(&json!({ "room": room.name(), "ports": ports }))?;
        out.say(format!("{room} is ready: {}", listed.join(", ")))?;
    }
    if !shutdown.is_triggered() {
        out.say("Ctrl-C stops all three.")?;
    }
    until_stopped(rooms, &shutdown).await
}

/// Waits for Ctrl-C or a death, then stops what is left.
pub(super) async fn until_stopped(mut rooms: Rooms, shutdown: &Shutdown) -> Result<()> {
    tokio::select! {
        () = shutdown.cancelled() => Ok(rooms.stop().await?),
        death = rooms.first_death() => {
            rooms.stop().await.ok();
            Err(death.into())
        }
    }
}
