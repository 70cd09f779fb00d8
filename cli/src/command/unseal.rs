//! `cloister unseal`: opens what `seal` made, after its signature was checked.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use cloister_log::durable;
use cloister_proto::v1;
use cloister_seal::VerifyingKey;
use prost::Message as _;
use serde_json::json;

use crate::output::Output;
use crate::recipient;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The envelope.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Recipient key.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// File (0600) whose first line is the key's passphrase.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Ed25519 public key (PEM) of the signer; may be repeated.
    #[arg(long, value_name = "FILE", required = true)]
    signer: Vec<PathBuf>,
    /// Where the file goes (0600).
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(crate) fn run(args: &Args, out: Output) -> Result<()> {
    let name = || args.file.display().to_string();
    let sealed = std::fs::read(&args.file).with_context(name)?;
    let sealed = v1::SealedReport::decode(sealed.as_slice())
        .map_err(|_| anyhow::anyhow!("{} is no envelope", name()))?;
    let passphrase = recipient::read_passphrase(args.passphrase_file.as_deref())?;
    let key = recipient::read_private(&args.key, passphrase.as_ref().map(|text| text.as_str()))?;
    let mut signers = Vec::new();
    for path in &args.signer {
        let pem = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        signers.push(VerifyingKey::from_pem(&pem).with_context(|| path.display().to_string())?);
    }
    let opened = cloister_seal::open(&sealed, &key, &signers).with_context(name)?;
    if opened.header.content != i32::from(v1::Content::File) {
        anyhow::bail!(
            "{} holds a report or a capsule; use `cloister report open`",
            name()
        );
    }
    durable::write_atomic(&args.out, &opened.plaintext, 0o600)
        .with_context(|| args.out.display().to_string())?;
    out.emit(&json!({ "out": args.out, "bytes": opened.plaintext.len() }))?;
    out.say(format!("Opened {} into {}.", name(), args.out.display()))
}
