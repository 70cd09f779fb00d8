//! `cloister seal`: any file to any recipients, in the envelope of the reports.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use cloister_log::durable;
use cloister_proto::v1;
use prost::Message as _;
use serde_json::json;

use crate::output::Output;
use crate::recipient;

/// Largest file, in bytes: the envelope is made in memory.
const MAX_BYTES: u64 = 1 << 30;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File to seal.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Public key of a recipient (FILE.pub of `keys generate`); may be repeated.
    #[arg(long, value_name = "FILE", required = true)]
    to: Vec<PathBuf>,
    /// Ed25519 key (PKCS#8 PEM) that signs the envelope.
    #[arg(long, value_name = "FILE")]
    signing_key: PathBuf,
    /// Where the envelope goes.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(crate) fn run(args: &Args, out: Output) -> Result<()> {
    let name = || args.file.display().to_string();
    let size = std::fs::metadata(&args.file).with_context(name)?.len();
    if size > MAX_BYTES {
        anyhow::bail!("{}: larger than 1 GiB", name());
    }
    let plaintext = zeroize::Zeroizing::new(std::fs::read(&args.file).with_context(name)?);
    let recipients = args
        .to
        .iter()
        .map(|path| recipient::read_public(path))
        .collect::<Result<Vec<_>>>()?;
    let signer = recipient::read_signing_key(&args.signing_key)?;
    let header = v1::EnvelopeHeader {
        content: v1::Content::File.into(),
        report_id: uuid::Uuid::new_v4().as_bytes().to_vec(),
        issued_at_unix_ms: recipient::now_unix_ms(),
        ..Default::default()
    };
    let sealed = cloister_seal::seal(header, &plaintext, &recipients, &signer)?.encode_to_vec();
    durable::write_atomic(&args.out, &sealed, 0o600)
        .with_context(|| args.out.display().to_string())?;
    out.emit(&json!({
        "out": args.out,
        "bytes": sealed.len(),
        "recipients": recipients.iter().map(|key| key.key_id().to_string()).collect::<Vec<_>>(),
    }))?;
    out.say(format!(
        "Sealed {} to {} recipient(s): {}",
        args.file.display(),
        recipients.len(),
        args.out.display()
    ))
}
