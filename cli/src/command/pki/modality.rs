//! `cloister pki modality issue|renew|revoke|list|crl`: beside the CA's key, not on a serving machine.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::json;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::modality::{Entry, Register, Which};
use crate::output::Output;

/// Longest life of a certificate, in days.
const MAX_DAYS: i64 = 3650;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// The first certificate of a modality, with its key.
    Issue(Issue),
    /// The next one, for a new key. The one before counts until it is revoked or expired.
    Renew(Renew),
    /// Put certificates on the revocation list.
    Revoke(Revoke),
    /// Every certificate and whether it counts.
    List(At),
    /// Sign the revocation list anew, before its next update is due.
    Crl(Crl),
}

#[derive(Debug, clap::Args)]
pub(super) struct At {
    /// Folder that `pki init` made, with ca.crt and ca.key.
    #[arg(long, value_name = "DIR")]
    pki: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct Issue {
    #[command(flatten)]
    at: At,
    /// Last part of the identity spiffe://TRUST-DOMAIN/modality/NAME.
    name: String,
    /// AE title that it calls with, for the lines to put into dicom-scp.toml.
    #[arg(long, value_name = "TITLE")]
    calling_ae: Option<String>,
    /// Default: that of the gateway's certificate in the folder.
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<String>,
    /// Life of the certificate in days.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=MAX_DAYS))]
    days: u32,
}

#[derive(Debug, clap::Args)]
pub(super) struct Renew {
    #[command(flatten)]
    at: At,
    /// As it was issued.
    name: String,
    /// Life of the certificate in days.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=MAX_DAYS))]
    days: u32,
}

#[derive(Debug, clap::Args)]
pub(super) struct Revoke {
    #[command(flatten)]
    at: At,
    /// As it was issued. Every certificate of it, if nothing else is said.
    name: String,
    /// Only this one, as `list` numbers them.
    #[arg(long, value_name = "N", conflicts_with = "old")]
    number: Option<u32>,
    /// Only those before the last renewal.
    #[arg(long)]
    old: bool,
    #[command(flatten)]
    life: Life,
}

#[derive(Debug, clap::Args)]
pub(super) struct Crl {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    life: Life,
}

#[derive(Debug, clap::Args)]
struct Life {
    /// Days until the list has to be signed anew. From then on a port with it lets nobody in.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=MAX_DAYS))]
    crl_days: u32,
}

pub(super) fn run(command: &Command, out: Output) -> Result<()> {
    match command {
        Command::Issue(args) => issue(args, out),
        Command::Renew(args) => {
            let entry = Register::open(&args.at.pki)?.renew(&args.name, args.days)?;
            made(&entry, out)?;
            out.say(format!(
                "When the modality uses it: cloister pki modality revoke {} --old",
                args.name
            ))
        }
        Command::Revoke(args) => revoke(args, out),
        Command::List(at) => list(at, out),
        Command::Crl(args) => {
            let mut register = Register::open(&args.at.pki)?;
            register.sign_list(args.life.crl_days)?;
            signed(&register, out)
        }
    }
}

fn issue(args: &Issue, out: Output) -> Result<()> {
    let register = Register::open(&args.at.pki)?;
    let trust_domain = match &args.trust_domain {
        Some(name) => name.clone(),
        None => register.trust_domain()?,
    };
    let entry = register.issue(&trust_domain, &args.name, args.days)?;
    made(&entry, out)?;
    let title = args.calling_ae.as_deref().unwrap_or("ITS_AE_TITLE");
    out.say(format!(
        "For dicom-scp.toml:\n  [[modality]]\n  calling_ae = \"{title}\"\n  identity = \"{}\"",
        entry.leaf.identity
    ))
}

fn revoke(args: &Revoke, out: Output) -> Result<()> {
    let mut register = Register::open(&args.at.pki)?;
    let which = match (args.number, args.old) {
        (Some(number), _) => Which::Number(number),
        (None, true) => Which::AllButNewest,
        (None, false) => Which::All,
    };
    for entry in register.revoke(&args.name, which, args.life.crl_days)? {
        out.emit(&shown(&entry)?)?;
        out.say(format!("Revoked {}.", entry.certificate.display()))?;
    }
    signed(&register, out)
}

fn list(at: &At, out: Output) -> Result<()> {
    let register = Register::open(&at.pki)?;
    for entry in register.entries()? {
        out.emit(&shown(&entry)?)?;
        out.say(format!(
            "{:<8} {}  {}  until {}",
            entry.standing().name(),
            entry.leaf.identity,
            entry.number,
            entry.leaf.not_after.date(),
        ))?;
    }
    match register.list().next_update() {
        Some(next) if next < OffsetDateTime::now_utc() + Duration::days(14) => out.say(format!(
            "Sign the revocation list anew before {}: cloister pki modality crl",
            next.date()
        )),
        _ => Ok(()),
    }
}

fn made(entry: &Entry, out: Output) -> Result<()> {
    out.emit(&shown(entry)?)?;
    out.say(format!(
        "Made {} and {}, until {}.",
        entry.certificate.display(),
        entry.key.display(),
        entry.leaf.not_after.date()
    ))
}

fn signed(register: &Register, out: Output) -> Result<()> {
    let list = register.list();
    let next = list.next_update().context("the list has no end")?;
    out.emit(&json!({
        "crl": register.list_path(),
        "revoked": list.len(),
        "next_update": next.format(&Rfc3339)?,
    }))?;
    out.say(format!(
        "Signed {}: {} revoked; sign it anew before {}. Copy it to the gateway, which reads it again \
         by itself.",
        register.list_path().display(),
        list.len(),
        next.date()
    ))
}

fn shown(entry: &Entry) -> Result<serde_json::Value> {
    let revoked = entry.revoked_at.map(|at| at.format(&Rfc3339));
    Ok(json!({
        "identity": entry.leaf.identity.to_string(),
        "number": entry.number,
        "standing": entry.standing().name(),
        "serial": hex::encode(&entry.leaf.serial),
        "not_after": entry.leaf.not_after.format(&Rfc3339)?,
        "revoked_at": revoked.transpose()?,
        "certificate": entry.certificate,
        "key": entry.key,
    }))
}
