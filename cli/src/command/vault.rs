//! `cloister vault`: who is behind a pseudonym, new keys, copies. Every use is on the gateway's audit
//! trail with the operator's user id.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use cloister_dicom_scp::control::{Answer, Done, Request, VaultRequest};

use super::studies::ControlArgs;
use crate::control;
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    control: ControlArgs,
    #[command(subcommand)]
    command: VaultCommand,
}

#[derive(Debug, Subcommand)]
enum VaultCommand {
    /// Tell who is behind a pseudonym or a pseudonymous UID, or which ones an identifier has. The
    /// answer is identified.
    Lookup {
        /// Pseudonym, UID or identifier.
        asked: String,
    },
    /// New key for new pseudonyms; everything wrapped again under the newest wrapping key. Existing
    /// pseudonyms do not change.
    Rotate,
    /// Copy the vault to a new file, sealed under the wrapping key, and read it back.
    Backup {
        /// The file; it must not exist.
        file: PathBuf,
    },
    /// Read a copy to its end.
    Verify {
        /// The file.
        file: PathBuf,
    },
    /// Put a copy in place of a vault that is lost. The gateway must not run.
    Restore {
        /// The file.
        file: PathBuf,
        /// The gateway's configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

pub(crate) async fn run(args: &Args, out: Output) -> Result<()> {
    let request = match &args.command {
        VaultCommand::Lookup { asked } => VaultRequest::Lookup(asked.clone()),
        VaultCommand::Rotate => VaultRequest::Rotate,
        VaultCommand::Backup { file } => VaultRequest::Backup(absolute(file)?),
        VaultCommand::Verify { file } => VaultRequest::Verify(absolute(file)?),
        VaultCommand::Restore { file, config } => {
            let config = cloister_dicom_scp::Config::load(config)?;
            let entries = cloister_dicom_scp::restore_vault(&config, file)?;
            return out.say(format!("The vault is back, with {entries} entries."));
        }
    };
    let request = Request::Vault(request);
    let answer = control::operate(&args.control.socket()?, &request).await?;
    out.emit(&answer)?;
    match answer {
        Answer::Identities(identities) => {
            for found in identities {
                out.say(format!(
                    "{:<10} {}  issuer {}  pseudonym {}",
                    found.kind, found.original, found.issuer, found.pseudonym
                ))?;
            }
            Ok(())
        }
        Answer::Done(Done::Rotated { generation, keys }) => out.say(format!(
            "New pseudonyms are of generation {generation}; {keys} keys were wrapped again. \
             keys.wrapping_previous is not needed any more, except for older backups."
        )),
        Answer::Done(Done::Backup {
            entries,
            records,
            generation,
        }) => out.say(format!(
            "The copy is whole: {entries} entries in {records} records, generation {generation}."
        )),
        _ => bail!("dicom-scp gave another answer than asked for"),
    }
}

/// The gateway has another working folder.
fn absolute(file: &Path) -> Result<PathBuf> {
    std::path::absolute(file).with_context(|| file.display().to_string())
}
