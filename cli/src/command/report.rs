//! `cloister report list|fetch|open`: a clinician's inbox.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use cloister_log::durable;
use cloister_proto::v1;
use cloister_seal::trust::TrustFile;
use prost::Message as _;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::{Client, ClientArgs, status_error};
use crate::failure::usage;
use crate::opening::open_report;
use crate::output::Output;
use crate::{recipient, showing, wording};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: ReportCommand,
}

#[derive(Debug, Subcommand)]
enum ReportCommand {
    /// List released reports that are sealed to the caller's key.
    List(ListArgs),
    /// Fetch a report, still sealed, into a file.
    Fetch(FetchArgs),
    /// Open a report: decrypt, check everything, show it with its patient.
    Open(OpenArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Also reports that a newer one replaces.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
struct FetchArgs {
    /// Report id.
    #[arg(value_name = "REPORT-ID")]
    id: Uuid,
    /// Where the sealed report, its receipt and its proof go.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
struct OpenArgs {
    /// Report id; the newest current report by default.
    #[arg(value_name = "REPORT-ID")]
    id: Option<Uuid>,
    /// Open a file that `report fetch` wrote, without any network.
    #[arg(long, value_name = "FILE", conflicts_with = "id")]
    file: Option<PathBuf>,
    /// The clinician's recipient key.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// File (0600) whose first line is the key's passphrase.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Trust file.
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// Also write text, JSON and renditions to this folder (0600).
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: Args, out: Output) -> Result<()> {
    match args.command {
        ReportCommand::List(args) => list(args, out).await,
        ReportCommand::Fetch(args) => fetch(args, out).await,
        ReportCommand::Open(args) => open(args, out).await,
    }
}

/// Every entry of the inbox, oldest first.
pub(super) async fn entries(client: &Client, current_only: bool) -> Result<Vec<v1::ReportEntry>> {
    let mut inbox = client.inbox().await?;
    let mut entries: Vec<v1::ReportEntry> = Vec::new();
    loop {
        let after = entries.last().map_or(0, |entry| entry.position);
        let request = v1::ListReportsRequest {
            after,
            limit: 1000,
            current_only,
        };
        let page = inbox
            .list_reports(request)
            .await
            .map_err(|status| status_error(&status))?;
        let page = page.into_inner().entries;
        // A server that repeats itself must not keep this loop alive.
        if page.last().is_none_or(|entry| entry.position <= after) {
            return Ok(entries);
        }
        entries.extend(page);
    }
}

/// One report with its receipt and proof.
pub(super) async fn fetch_one(client: &Client, id: &[u8]) -> Result<v1::FetchReportResponse> {
    let request = v1::FetchReportRequest {
        report_id: id.to_vec(),
    };
    let response = client.inbox().await?.fetch_report(request).await;
    Ok(response
        .map_err(|status| status_error(&status))?
        .into_inner())
}

async fn list(args: ListArgs, out: Output) -> Result<()> {
    let client = args.client.client("clinician")?;
    let entries = entries(&client, !args.all).await?;
    for entry in &entries {
        let header = v1::EnvelopeHeader::decode(entry.header.as_slice())
            .map_err(|_| anyhow::anyhow!("an envelope's header cannot be read"))?;
        out.emit(&entry_json(entry, &header))?;
        let acr =
            wording::acr(header.acr_category).map_or_else(String::new, |c| format!(" ACR {c}"));
        let state = if entry.current { "" } else { "  superseded" };
        out.say(format!(
            "{}  {}  {:<10} {}{acr}{state}",
            wording::report_id(&entry.report_id),
            wording::time(header.issued_at_unix_ms),
            wording::outcome(header.outcome),
            wording::urgency(header.urgency),
        ))?;
    }
    if entries.is_empty() {
        out.say("No reports.")?;
    }
    Ok(())
}

fn entry_json(entry: &v1::ReportEntry, header: &v1::EnvelopeHeader) -> Value {
    json!({
        "report_id": wording::report_id(&entry.report_id),
        "position": entry.position,
        "issued_at": wording::time(header.issued_at_unix_ms),
        "outcome": wording::outcome(header.outcome),
        "urgency": wording::urgency(header.urgency),
        "acr_category": wording::acr(header.acr_category),
        "current": entry.current,
        "acknowledged": entry.acknowledged,
    })
}

async fn fetch(args: FetchArgs, out: Output) -> Result<()> {
    let client = args.client.client("clinician")?;
    let fetched = fetch_one(&client, args.id.as_bytes()).await?;
    durable::write_atomic(&args.out, &fetched.encode_to_vec(), 0o600)
        .with_context(|| args.out.display().to_string())?;
    out.emit(&json!({ "report_id": args.id, "out": args.out }))?;
    out.say(format!(
        "Fetched {} into {} (still sealed).",
        args.id,
        args.out.display()
    ))
}

async fn open(args: OpenArgs, out: Output) -> Result<()> {
    let pki = args.client.pki()?;
    let file = |given: &Option<PathBuf>, own: Option<PathBuf>, option: &str| {
        given
            .clone()
            .or(own)
            .ok_or_else(|| usage(format!("give --state or {option}")))
    };
    let own_key = pki.as_ref().map(|pki| pki.recipient_key("clinician"));
    let key_path = file(&args.key, own_key, "--key")?;
    let trust_path = file(
        &args.trust,
        pki.as_ref().map(crate::state::Pki::trust),
        "--trust",
    )?;
    let passphrase = recipient::read_passphrase(args.passphrase_file.as_deref())?;
    let key = recipient::read_private(&key_path, passphrase.as_ref().map(|text| text.as_str()))?;
    let trust = TrustFile::load(&trust_path)?;

    let fetched = match &args.file {
        Some(path) => read_fetched(path)?,
        None => fetch_named_or_newest(&args).await?,
    };
    let opened = open_report(&fetched, &key, &trust)?;
    let saved = match &args.save {
        Some(dir) => showing::save(&opened, dir)?,
        None => Vec::new(),
    };
    if out.is_json() {
        let mut value = showing::json(&opened);
        if let Some(object) = value.as_object_mut() {
            object.insert("saved".into(), json!(saved));
        }
        return out.emit(&value);
    }
    out.say(showing::text(&opened))?;
    out.say("Checked:")?;
    for check in opened.checks() {
        out.say(format!("  - {check}"))?;
    }
    for path in saved {
        out.say(format!("Saved {}", path.display()))?;
    }
    Ok(())
}

fn read_fetched(path: &Path) -> Result<v1::FetchReportResponse> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    v1::FetchReportResponse::decode(bytes.as_slice())
        .map_err(|_| anyhow::anyhow!("{} is no fetched report", path.display()))
}

async fn fetch_named_or_newest(args: &OpenArgs) -> Result<v1::FetchReportResponse> {
    let client = args.client.client("clinician")?;
    let id = match args.id {
        Some(id) => id.as_bytes().to_vec(),
        None => entries(&client, true)
            .await?
            .pop()
            .map(|entry| entry.report_id)
            .context("the inbox holds no report")?,
    };
    fetch_one(&client, &id).await
}
