//! `cloister submit`: asks for a report on films by `Generate`, through the sidecar, as an EHR
//! does. The result is sealed to the recipient; this command sees its header alone.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use cloister_proto::v1::{self, generate_response};
use cloister_proto::{METADATA_RECIPIENT, METADATA_REPORT_ID};
use cloister_seal::trust::TrustFile;
use prost::Message as _;
use serde_json::json;
use tonic::metadata::MetadataValue;
use uuid::Uuid;

use crate::client::{ClientArgs, status_error};
use crate::failure::usage;
use crate::output::Output;
use crate::wording;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Films of one study: DICOM, PNG or JPEG.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// What the reader wants to know.
    #[arg(long, default_value = "")]
    query: String,
    /// How soon.
    #[arg(long, value_enum, default_value_t = UrgencyArg::Routine)]
    urgency: UrgencyArg,
    /// spiffe://… of a clinician, or group:NAME; may be repeated.
    #[arg(long, value_name = "RECIPIENT", required = true)]
    to: Vec<String>,
    /// Report id (UUID); the same id returns the same receipt. Random by default.
    #[arg(long, value_name = "UUID")]
    report_id: Option<Uuid>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum UrgencyArg {
    Routine,
    Urgent,
    Stat,
}

impl From<UrgencyArg> for v1::Urgency {
    fn from(urgency: UrgencyArg) -> Self {
        match urgency {
            UrgencyArg::Routine => Self::Routine,
            UrgencyArg::Urgent => Self::Urgent,
            UrgencyArg::Stat => Self::Stat,
        }
    }
}

pub(crate) async fn run(args: Args, out: Output) -> Result<()> {
    let films = args
        .files
        .iter()
        .map(|path| film(path))
        .collect::<Result<Vec<_>>>()?;
    let report_id = args.report_id.unwrap_or_else(Uuid::new_v4);
    let mut request = tonic::Request::new(v1::GenerateRequest {
        films,
        query: args.query.clone(),
        urgency: v1::Urgency::from(args.urgency).into(),
        ..Default::default()
    });
    let ascii = |text: &str| {
        MetadataValue::try_from(text).map_err(|_| usage("--to: not an identity or group"))
    };
    request
        .metadata_mut()
        .insert(METADATA_REPORT_ID, ascii(&report_id.to_string())?);
    for recipient in &args.to {
        request
            .metadata_mut()
            .append(METADATA_RECIPIENT, ascii(recipient)?);
    }
    let client = args.client.client("ehr")?;
    let spinner = out.spinner("waiting for the report");
    let response = client.reports().await?.generate(request).await;
    spinner.finish_and_clear();
    let response = response
        .map_err(|status| status_error(&status))?
        .into_inner();
    show(&args, &response, out)
}

fn show(args: &Args, response: &v1::GenerateResponse, out: Output) -> Result<()> {
    let Some(generate_response::Result::Sealed(sealed)) = &response.result else {
        anyhow::bail!("the sidecar sent no sealed report");
    };
    let header = match args.client.pki()? {
        Some(pki) => cloister_seal::verify(sealed, &TrustFile::load(&pki.trust())?.node_keys)?,
        None => v1::EnvelopeHeader::decode(sealed.header.as_slice())
            .map_err(|_| anyhow::anyhow!("the envelope's header cannot be read"))?,
    };
    let receipt = response
        .receipt
        .as_ref()
        .context("the sidecar sent no receipt")?;
    let id = wording::report_id(&header.report_id);
    let outcome = wording::outcome(header.outcome);
    out.emit(&json!({
        "report_id": id,
        "outcome": outcome,
        "acr_category": wording::acr(header.acr_category),
        "issued_at": wording::time(header.issued_at_unix_ms),
        "recipients": header.recipient_key_ids.iter().map(hex::encode).collect::<Vec<_>>(),
        "receipt": {
            "origin": receipt.log_origin,
            "leaf_index": receipt.leaf_index,
            "sealed_sha256": hex::encode(&receipt.sealed_sha256),
        },
    }))?;
    out.say(format!("Report {id}: {outcome}."))?;
    out.say(format!(
        "It is released to {} and stands as record {} in audit log {}.",
        args.to.join(", "),
        receipt.leaf_index,
        receipt.log_origin
    ))
}

fn film(path: &Path) -> Result<v1::Film> {
    let data =
        std::fs::read(path).map_err(|error| usage(format!("{}: {error}", path.display())))?;
    let media_type = media_type(&data)
        .ok_or_else(|| usage(format!("{} is neither DICOM, PNG nor JPEG", path.display())))?;
    Ok(v1::Film {
        data: data.into(),
        media_type: media_type.to_owned(),
    })
}

/// By content: a film's name says nothing.
pub(super) fn media_type(data: &[u8]) -> Option<&'static str> {
    if data.get(128..132) == Some(b"DICM") {
        Some("application/dicom")
    } else if data.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some("image/png")
    } else if data.starts_with(b"\xff\xd8\xff") {
        Some("image/jpeg")
    } else {
        None
    }
}
