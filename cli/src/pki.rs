//! Makes the keys and certificates of an installation: what `pki init` and `demo` start from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use cloister_log::durable;
use cloister_seal::files::write_secret;
use cloister_seal::trust::{AuditKey, TrustFile};
use cloister_seal::{SigningKey, VerifyingKey};
use cloister_tls::issue::Authority;
use cloister_tls::{Role, SpiffeId};
use zeroize::Zeroizing;

use crate::state::{Pki, Room};

/// What `pki init` is asked for.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Trust domain of every identity.
    pub trust_domain: String,
    /// First part of the audit origins; the trust domain if nothing else is said.
    pub site: String,
    /// DNS names of the sidecar beside `localhost`.
    pub dns: Vec<String>,
    /// Addresses of the sidecar beside loopback.
    pub ips: Vec<IpAddr>,
    /// Life of leaf certificates, in days.
    pub days: u32,
}

impl Plan {
    /// A plan for loopback.
    pub fn for_trust_domain(trust_domain: &str) -> Self {
        Self {
            trust_domain: trust_domain.to_owned(),
            site: trust_domain.to_owned(),
            dns: Vec::new(),
            ips: Vec::new(),
            days: 365,
        }
    }

    /// Origin of a room's audit log: `<site>/<room>/<replica>`.
    pub fn origin(&self, room: Room) -> String {
        format!("{}/{room}/0", self.site)
    }
}

/// The parties that get a TLS certificate: file name, role, name within the role.
pub const PARTIES: [(&str, Role, &str); 5] = [
    ("gateway", Role::Gateway, "dicom-scp"),
    ("sidecar", Role::Sidecar, "sidecar"),
    ("ehr", Role::Ehr, "ehr"),
    ("clinician", Role::Clinician, "reader"),
    ("auditor", Role::Auditor, "auditor"),
];

/// A party's identity in a trust domain.
///
/// # Errors
/// When the trust domain is not one.
pub fn identity_of_party(trust_domain: &str, party: &str) -> Result<SpiffeId> {
    let (_, role, name) = PARTIES
        .into_iter()
        .find(|(file, ..)| *file == party)
        .with_context(|| format!("no party {party}"))?;
    Ok(SpiffeId::new(trust_domain, role, name)?)
}

/// Makes every key and certificate. Refuses to touch a folder that already holds a CA.
///
/// # Errors
/// When the folder holds a PKI, or a file cannot be written.
pub fn create(dir: &Path, plan: &Plan) -> Result<Pki> {
    let pki = Pki::at(dir);
    if pki.ca_key().exists() || pki.trust().exists() {
        anyhow::bail!(
            "{} holds a PKI already; nothing is overwritten",
            dir.display()
        );
    }
    durable::create_dir_all(dir, 0o700).with_context(|| dir.display().to_string())?;
    certificates(&pki, plan)?;

    let manifest = signing_key(&pki.manifest_key())?;
    let node = signing_key(&pki.node_key())?;
    let enrolment = signing_key(&pki.enrolment_key())?;
    let mut audit_keys = Vec::new();
    for room in [Room::DicomScp, Room::Sidecar] {
        let key = signing_key(&pki.audit_key(room))?;
        audit_keys.push(AuditKey {
            origin: plan.origin(room),
            key,
        });
    }
    write_public(&pki.enrolment_public(), &enrolment)?;
    write_public(&pki.manifest_public(), &manifest)?;
    write_public(&pki.node_public(), &node)?;
    for path in [
        pki.wrapping_key(),
        pki.pseudonym_key(),
        pki.server_pseudonym_key(),
    ] {
        let mut key = Zeroizing::new([0u8; 32]);
        getrandom::fill(key.as_mut()).context("no randomness")?;
        write_secret(&path, key.as_ref())?;
    }
    let trust = TrustFile {
        node_keys: vec![node],
        gateway_keys: vec![manifest],
        audit_keys,
        enrolment_key: enrolment,
    };
    trust.save(&pki.trust())?;
    // Public, but nobody else on a serving machine has to read it.
    std::fs::set_permissions(pki.trust(), std::fs::Permissions::from_mode(0o600))?;
    Ok(pki)
}

fn certificates(pki: &Pki, plan: &Plan) -> Result<()> {
    let authority = Authority::generate(&format!("Cloister CA of {}", plan.trust_domain), 3650)?;
    write_secret(&pki.ca_key(), authority.key_pem().as_bytes())?;
    write_file(&pki.ca(), authority.ca_pem().as_bytes())?;
    let mut dns = vec!["localhost"];
    dns.extend(plan.dns.iter().map(String::as_str));
    let mut ips = vec![
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ];
    ips.extend(&plan.ips);
    for (party, role, name) in PARTIES {
        let identity = SpiffeId::new(&plan.trust_domain, role, name)?;
        // Only the sidecar listens; a client's certificate needs no host name.
        let (dns, ips): (&[&str], &[IpAddr]) = if role == Role::Sidecar {
            (&dns, &ips)
        } else {
            (&[], &[])
        };
        let issued = authority.issue(&identity, dns, ips, plan.days)?;
        write_secret(&pki.tls_key(party), issued.key_pem.as_bytes())?;
        write_file(&pki.certificate(party), issued.cert_pem.as_bytes())?;
    }
    Ok(())
}

fn signing_key(path: &Path) -> Result<VerifyingKey> {
    let key = SigningKey::generate()?;
    write_secret(path, key.to_pkcs8_pem()?.as_bytes())?;
    Ok(key.verifying_key())
}

fn write_public(path: &Path, key: &VerifyingKey) -> Result<()> {
    write_file(path, key.to_pem()?.as_bytes())
}

/// Writes a file that holds nothing secret. The state folder is closed to others all the same.
fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    durable::write_atomic(path, bytes, 0o600).with_context(|| path.display().to_string())
}
