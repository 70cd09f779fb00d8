//! `cloister pki init`: the certificates and keys of an installation, each its own 0600 file;
//! `cloister pki modality`: those of its modalities.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use serde_json::json;

use crate::output::Output;
use crate::pki::{self, PARTIES, Plan};

mod modality;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: PkiCommand,
}

#[derive(Debug, Subcommand)]
enum PkiCommand {
    /// Make a CA, a certificate per party, and every signing and wrapping key.
    Init(InitArgs),
    /// Certificates of modalities for DICOM over TLS and STOW-RS.
    #[command(subcommand)]
    Modality(modality::Command),
}

#[derive(Debug, clap::Args)]
struct InitArgs {
    /// Folder to write to; must not hold a PKI yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Trust domain of every identity: spiffe://TRUST-DOMAIN/role/name.
    #[arg(long, value_name = "NAME")]
    trust_domain: String,
    /// Site name in the audit origins; the trust domain by default.
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    /// Host name of the sidecar beside localhost; may be repeated.
    #[arg(long, value_name = "HOST")]
    dns: Vec<String>,
    /// Address of the sidecar beside loopback; may be repeated.
    #[arg(long, value_name = "IP")]
    ip: Vec<IpAddr>,
    /// Life of the certificates in days.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
}

pub(crate) fn run(args: &Args, out: Output) -> Result<()> {
    match &args.command {
        PkiCommand::Init(args) => init(args, out),
        PkiCommand::Modality(command) => modality::run(command, out),
    }
}

fn init(args: &InitArgs, out: Output) -> Result<()> {
    let plan = Plan {
        trust_domain: args.trust_domain.clone(),
        site: args
            .site
            .clone()
            .unwrap_or_else(|| args.trust_domain.clone()),
        dns: args.dns.clone(),
        ips: args.ip.clone(),
        days: args.days,
    };
    let pki = pki::create(&args.out, &plan)?;
    out.emit(&json!({
        "dir": pki.dir(),
        "trust": pki.trust(),
        "identities": PARTIES
            .iter()
            .map(|(party, role, name)| json!({
                "certificate": pki.certificate(party),
                "identity": format!("spiffe://{}/{role}/{name}", plan.trust_domain),
            }))
            .collect::<Vec<_>>(),
    }))?;
    out.say(format!("Made a PKI in {}:", pki.dir().display()))?;
    for (party, role, name) in PARTIES {
        out.say(format!(
            "  {party}.crt, {party}.key   spiffe://{}/{role}/{name}",
            plan.trust_domain
        ))?;
    }
    out.say("  trust.toml                what `report open` and `audit verify` check against")?;
    out.say("Take ca.key and enrolment.key off this machine before it serves.")
}
