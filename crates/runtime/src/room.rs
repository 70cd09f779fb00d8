//! `main` of a room: arguments → configuration → telemetry → `run(config, shutdown)` → exit code.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use crate::config::ConfigError;
use crate::exit;
use crate::shutdown::Shutdown;
use crate::telemetry::{self, LogFormat};

#[derive(Debug, Parser)]
#[command(
    version,
    about = "A process of Cloister. See ARCHITECTURE.md for its configuration."
)]
struct Arguments {
    /// Configuration file (TOML). Paths in it are relative to it.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check the configuration and end.
    #[arg(long)]
    check_config: bool,
    /// Log lines as `text` or `json`.
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    log_format: LogFormat,
    /// Log filter, for example `info` or `info,cloister_sidecar=debug`.
    #[arg(long, default_value = "info", value_name = "FILTER")]
    log_level: String,
}

/// Arguments → configuration → telemetry → `run(config, shutdown)` → exit code. Bad usage and a
/// bad configuration end with [`exit::USAGE`] before a port is bound.
pub fn room_main<C, F, Fut>(
    name: &'static str,
    parse: fn(&Path) -> Result<C, ConfigError>,
    run: F,
) -> ExitCode
where
    F: FnOnce(C, Shutdown) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            // `--help` and `--version` arrive here as well, and are no failure.
            message.print().ok();
            return if message.use_stderr() {
                exit::USAGE.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    telemetry::init(arguments.log_format, &arguments.log_level);
    let config = match parse(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(room = name, %error, "The configuration cannot be used.");
            return exit::USAGE.into();
        }
    };
    if arguments.check_config {
        tracing::info!(room = name, "The configuration can be used.");
        return ExitCode::SUCCESS;
    }
    no_core_dump();
    // Before the room builds its first metric, else that metric goes nowhere.
    drop(telemetry::recorder());
    match serve(name, config, run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(
                room = name,
                error = format!("{error:#}"),
                "Stopped by an error."
            );
            exit::FAILED.into()
        }
    }
}

fn serve<C, F, Fut>(name: &'static str, config: C, run: F) -> anyhow::Result<()>
where
    F: FnOnce(C, Shutdown) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name(name)
        .build()?;
    let result = runtime.block_on(async {
        let shutdown = Shutdown::on_signals()?;
        tracing::info!(
            room = name,
            version = env!("CARGO_PKG_VERSION"),
            "Starting."
        );
        run(config, shutdown).await
    });
    tracing::info!(room = name, "Stopped.");
    result
}

/// Reports and keys stand in this process's memory: a crash must not write them to a disk.
fn no_core_dump() {
    let none = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Core, none) {
        tracing::warn!(%error, "Core dumps cannot be switched off.");
    }
}
