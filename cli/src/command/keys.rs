//! `cloister keys generate` and `cloister keys enrol`: who can open reports; and single keys for the
//! other commands.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use cloister_log::durable;
use cloister_seal::SigningKey;
use cloister_seal::files::write_secret;
use cloister_tls::SpiffeId;
use serde_json::json;
use zeroize::Zeroizing;

use crate::failure::usage;
use crate::output::Output;
use crate::recipient::{self, Enrolment};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Generate a recipient key; the public half goes to FILE.pub.
    Generate(GenerateArgs),
    /// Sign a directory entry for a public key and append it to the directory.
    Enrol(EnrolArgs),
    /// Generate a 32-byte key for pseudonyms (`deidentify --key`).
    Pseudonym {
        /// File to write; never overwritten.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Generate an Ed25519 signing key (`bundle sign --key`); the public half goes to FILE.pub.
    Signing {
        /// File to write (PKCS#8 PEM, 0600); never overwritten.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct GenerateArgs {
    /// File to write (0600); never overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// x-wing (default), p256, x25519 or secp256k1 (ECIES).
    #[arg(long, default_value = "x-wing")]
    suite: String,
    /// File (0600) whose first line encrypts the key.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct EnrolArgs {
    /// Public key file that `keys generate` wrote.
    #[arg(long, value_name = "FILE")]
    public: PathBuf,
    /// Who holds the key: spiffe://TRUST-DOMAIN/clinician/NAME.
    #[arg(long, value_name = "SPIFFE-ID")]
    identity: String,
    /// Recipient group that routing rules name; may be repeated.
    #[arg(long, value_name = "NAME")]
    group: Vec<String>,
    /// The enrolment key.
    #[arg(long, value_name = "FILE")]
    enrolment_key: PathBuf,
    /// The directory file to append to.
    #[arg(long, value_name = "FILE")]
    directory: PathBuf,
    /// Life of the entry in days.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
}

pub(crate) fn run(args: &Args, out: Output) -> Result<()> {
    match &args.command {
        KeysCommand::Generate(args) => generate(args, out),
        KeysCommand::Enrol(args) => enrol(args, out),
        KeysCommand::Pseudonym { out: path } => pseudonym(path, out),
        KeysCommand::Signing { out: path } => signing(path, out),
    }
}

fn generate(args: &GenerateArgs, out: Output) -> Result<()> {
    let suite = recipient::parse_suite(&args.suite)?;
    let passphrase = recipient::read_passphrase(args.passphrase_file.as_deref())?;
    let public = recipient::generate(
        &args.out,
        suite,
        passphrase.as_ref().map(|text| text.as_str()),
    )?;
    let public_path = recipient::public_path(&args.out);
    out.emit(&json!({
        "key": args.out,
        "public": public_path,
        "suite": recipient::suite_name(suite),
        "key_id": public.key_id().to_string(),
    }))?;
    out.say(format!(
        "Wrote the private key to {} and the public key to {} (key id {}).",
        args.out.display(),
        public_path.display(),
        public.key_id()
    ))
}

fn enrol(args: &EnrolArgs, out: Output) -> Result<()> {
    let public = recipient::read_public(&args.public)?;
    SpiffeId::parse(&args.identity).map_err(|error| usage(format!("--identity: {error}")))?;
    let enrolment = Enrolment {
        identity: &args.identity,
        groups: &args.group,
        days: args.days,
    };
    recipient::enrol(&args.directory, &args.enrolment_key, &public, &enrolment)?;
    out.emit(&json!({
        "directory": args.directory,
        "identity": args.identity,
        "groups": args.group,
        "key_id": public.key_id().to_string(),
    }))?;
    out.say(format!(
        "{} is enrolled in {}. Restart the sidecar to read it; dicom-scp reads it at its next attempt to forward.",
        args.identity,
        args.directory.display()
    ))
}

fn refuse_existing(path: &Path) -> Result<()> {
    if path.exists() {
        anyhow::bail!(
            "{} exists already; keys are never overwritten",
            path.display()
        );
    }
    Ok(())
}

fn signing(path: &Path, out: Output) -> Result<()> {
    refuse_existing(path)?;
    let key = SigningKey::generate()?;
    write_secret(path, key.to_pkcs8_pem()?.as_bytes())?;
    let public = recipient::public_path(path);
    durable::write_atomic(&public, key.verifying_key().to_pem()?.as_bytes(), 0o644)
        .with_context(|| public.display().to_string())?;
    out.emit(&json!({ "key": path, "public": public }))?;
    out.say(format!(
        "Wrote the private key to {} and the public key to {}.",
        path.display(),
        public.display()
    ))
}

fn pseudonym(path: &Path, out: Output) -> Result<()> {
    refuse_existing(path)?;
    let mut key = Zeroizing::new([0u8; 32]);
    getrandom::fill(key.as_mut()).context("no randomness")?;
    write_secret(path, key.as_ref())?;
    out.emit(&json!({ "key": path }))?;
    out.say(format!("Wrote a pseudonym key to {}.", path.display()))
}
