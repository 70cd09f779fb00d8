//! `cloister`, the command line. It stands above the three rooms and may use every crate; the
//! rooms themselves run as child processes and are never embedded (ARCHITECTURE.md, Processes).
//!
//! What the integration tests need as well is public here: the storage SCU, the state folder, the
//! processes, drawn studies and the checks of `report open`.

pub mod canary;
pub mod client;
pub mod control;
pub mod installation;
pub mod modality;
pub mod opening;
pub mod pki;
pub mod recipient;
pub mod rooms;
pub mod scu;
pub mod settings;
pub mod state;
pub mod study;

mod command;
mod detector;
mod failure;
mod jsonl;
mod output;
mod picture;
mod showing;
mod wording;

use std::process::ExitCode;

use clap::Parser as _;

/// Parses arguments, runs one command and says how it ended.
pub fn main() -> ExitCode {
    let arguments = match command::Arguments::try_parse() {
        Ok(arguments) => arguments,
        // `--help` and `--version` arrive here as well, and are no failure.
        Err(message) => {
            message.print().ok();
            return if message.use_stderr() {
                ExitCode::from(cloister_runtime::exit::USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            output::complain(&error.to_string());
            return ExitCode::from(cloister_runtime::exit::FAILED);
        }
    };
    match runtime.block_on(command::run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&failure::one_line(&error));
            failure::exit_code(&error)
        }
    }
}
