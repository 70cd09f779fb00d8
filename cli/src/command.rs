//! The list of commands. One file each; this one only sorts.

mod audit;
mod bundle;
mod commitments;
mod deidentify;
mod demo;
mod detect_text;
mod doctor;
mod generate;
mod keys;
mod pki;
mod quarantine;
mod report;
mod scrub;
mod seal;
mod serve;
mod studies;
mod submit;
mod unseal;
mod vault;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::output::Output;

/// Chest X-ray report drafts without letting patient data out.
#[derive(Debug, Parser)]
#[command(name = "cloister", version, about)]
pub(crate) struct Arguments {
    /// One JSON object a line instead of sentences; no progress bars.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check audit logs.
    Audit(audit::Args),
    /// Look at model bundles.
    Bundle(bundle::Args),
    /// What the archive behind the gateway was asked to commit to.
    Commitments(commitments::Args),
    /// Remove identifiers and burned-in text from DICOM files.
    Deidentify(deidentify::Args),
    /// Show the whole path on this machine: a film in, a sealed report out.
    Demo(demo::Args),
    /// Find burned-in text (JSON Lines).
    DetectText(detect_text::Args),
    /// Say what is wrong with this machine or installation.
    Doctor(doctor::Args),
    /// Draft reports without the network path (JSON Lines).
    Generate(generate::Args),
    /// Recipient keys and their enrolment.
    Keys(keys::Args),
    /// Certificates and signing keys.
    Pki(pki::Args),
    /// Objects that were held back.
    Quarantine(quarantine::Args),
    /// A clinician's inbox.
    Report(report::Args),
    /// Find and replace identifiers in text (JSON Lines).
    Scrub(scrub::Args),
    /// Seal any file to recipients.
    Seal(seal::Args),
    /// Start the three processes of an installation.
    Serve(serve::Args),
    /// Studies that the gateway knows.
    Studies(studies::Args),
    /// Ask for a report on films, as an EHR does.
    Submit(submit::Args),
    /// Open a file that `seal` made.
    Unseal(unseal::Args),
    /// Who is behind a pseudonym; keys and copies of the gateway's vault.
    Vault(vault::Args),
}

/// Runs one command.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let out = Output::new(arguments.json);
    match arguments.command {
        Command::Audit(args) => audit::run(&args, out),
        Command::Bundle(args) => bundle::run(&args, out),
        Command::Commitments(args) => commitments::run(&args, out).await,
        Command::Deidentify(args) => deidentify::run(args, out).await,
        Command::Demo(args) => demo::run(args, out).await,
        Command::DetectText(args) => detect_text::run(&args).await,
        Command::Doctor(args) => doctor::run(&args, out).await,
        Command::Generate(args) => generate::run(args).await,
        Command::Keys(args) => keys::run(&args, out),
        Command::Pki(args) => pki::run(&args, out),
        Command::Quarantine(args) => quarantine::run(&args, out).await,
        Command::Report(args) => report::run(args, out).await,
        Command::Scrub(args) => scrub::run(&args),
        Command::Seal(args) => seal::run(&args, out),
        Command::Serve(args) => serve::run(args, out).await,
        Command::Studies(args) => studies::run(&args, out).await,
        Command::Submit(args) => submit::run(args, out).await,
        Command::Unseal(args) => unseal::run(&args, out),
        Command::Vault(args) => vault::run(&args, out).await,
    }
}
