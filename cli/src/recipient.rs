//! Recipient keys as files: the private half as the seal crate's PEM, the public half as one line
//! `cloister-public-key-v1 <suite> <base64>`, easy to mail and to read out.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloister_log::durable;
use cloister_proto::v1::{self, Suite};
use cloister_seal::files::{read_secret, write_secret};
use cloister_seal::{RecipientPrivateKey, RecipientPublicKey, SigningKey, directory};
use zeroize::Zeroizing;

use crate::failure::usage;

const PUBLIC_WORD: &str = "cloister-public-key-v1";

/// Suites by the names that the command line takes.
pub const SUITES: [(&str, Suite); 4] = [
    ("x-wing", Suite::HpkeXwing),
    ("p256", Suite::HpkeP256),
    ("x25519", Suite::HpkeX25519),
    ("secp256k1", Suite::EciesSecp256k1),
];

/// A suite by name.
///
/// # Errors
/// A usage error that lists the names.
pub fn parse_suite(name: &str) -> Result<Suite> {
    SUITES
        .into_iter()
        .find(|(known, _)| *known == name)
        .map(|(_, suite)| suite)
        .ok_or_else(|| {
            let names: Vec<_> = SUITES.iter().map(|(name, _)| *name).collect();
            usage(format!("no suite {name:?}; there are {}", names.join(", ")))
        })
}

/// The name of a suite.
pub fn suite_name(suite: Suite) -> &'static str {
    SUITES
        .into_iter()
        .find(|(_, known)| *known == suite)
        .map_or("unknown", |(name, _)| name)
}

/// Generates a key: private half to `path` (0600, never overwritten), public half to `path`.pub.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn generate(path: &Path, suite: Suite, passphrase: Option<&str>) -> Result<RecipientPublicKey> {
    if path.exists() {
        anyhow::bail!(
            "{} exists already; keys are never overwritten",
            path.display()
        );
    }
    let key = RecipientPrivateKey::generate(suite)?;
    write_secret(path, key.to_pem(passphrase)?.as_bytes())?;
    let public = key.public();
    let public_path = public_path(path);
    durable::write_atomic(&public_path, public_line(&public).as_bytes(), 0o644)
        .with_context(|| public_path.display().to_string())?;
    Ok(public)
}

/// Where the public half of the key in `path` lies.
pub fn public_path(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// Reads a private key.
///
/// # Errors
/// When the file is readable by others, is no key, or the passphrase does not fit.
pub fn read_private(path: &Path, passphrase: Option<&str>) -> Result<RecipientPrivateKey> {
    let bytes = read_secret(path)?;
    let pem = std::str::from_utf8(&bytes)
        .map_err(|_| anyhow::anyhow!("{} is no key file", path.display()))?;
    RecipientPrivateKey::from_pem(pem, passphrase).with_context(|| path.display().to_string())
}

/// Reads a passphrase: the first line of a 0600 file.
///
/// # Errors
/// When the file is readable by others or not text.
pub fn read_passphrase(path: Option<&Path>) -> Result<Option<Zeroizing<String>>> {
    let Some(path) = path else { return Ok(None) };
    let bytes = read_secret(path)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| anyhow::anyhow!("{} is not text", path.display()))?;
    Ok(Some(Zeroizing::new(
        text.lines().next().unwrap_or_default().to_owned(),
    )))
}

/// Reads a public key line.
///
/// # Errors
/// When the file is not one.
pub fn read_public(path: &Path) -> Result<RecipientPublicKey> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    parse_public(&text).with_context(|| path.display().to_string())
}

fn public_line(key: &RecipientPublicKey) -> String {
    format!(
        "{PUBLIC_WORD} {} {}\n",
        suite_name(key.suite()),
        STANDARD.encode(key.to_bytes())
    )
}

fn parse_public(text: &str) -> Result<RecipientPublicKey> {
    let mut words = text.split_ascii_whitespace();
    let (Some(PUBLIC_WORD), Some(suite), Some(key)) = (words.next(), words.next(), words.next())
    else {
        return Err(usage(format!("not a line `{PUBLIC_WORD} SUITE BASE64`")));
    };
    let bytes = STANDARD
        .decode(key)
        .map_err(|_| usage("the key is not base64"))?;
    Ok(RecipientPublicKey::from_parts(parse_suite(suite)?, &bytes)?)
}

/// What a directory entry says beside the key.
#[derive(Debug, Clone)]
pub struct Enrolment<'a> {
    /// `spiffe://…/clinician/…`.
    pub identity: &'a str,
    /// Groups that routing rules name.
    pub groups: &'a [String],
    /// From now, for how many days.
    pub days: u32,
}

/// Signs a directory entry and appends it to the directory file.
///
/// # Errors
/// When the enrolment key or the directory file cannot be used.
pub fn enrol(
    directory_file: &Path,
    enrolment_key: &Path,
    public: &RecipientPublicKey,
    enrolment: &Enrolment<'_>,
) -> Result<()> {
    let signer = read_signing_key(enrolment_key)?;
    let now = now_unix_ms();
    let life = Duration::from_secs(u64::from(enrolment.days) * 86_400).as_millis();
    let entry = v1::DirectoryEntry {
        format: 1,
        identity: enrolment.identity.to_owned(),
        suite: public.suite().into(),
        public_key: public.to_bytes(),
        key_id: public.key_id().as_bytes().to_vec(),
        groups: enrolment.groups.to_vec(),
        // A minute back: clocks of two rooms are never quite the same.
        not_before_unix_ms: now - 60_000,
        not_after_unix_ms: now.saturating_add(i64::try_from(life).unwrap_or(i64::MAX)),
    };
    directory::append_file(directory_file, &directory::sign_entry(&entry, &signer))?;
    Ok(())
}

/// Reads an Ed25519 signing key.
///
/// # Errors
/// When the file is readable by others or is no key.
pub fn read_signing_key(path: &Path) -> Result<SigningKey> {
    let bytes = read_secret(path)?;
    let pem = std::str::from_utf8(&bytes)
        .map_err(|_| anyhow::anyhow!("{} is no key file", path.display()))?;
    SigningKey::from_pkcs8_pem(pem).with_context(|| path.display().to_string())
}

/// Milliseconds since 1970.
pub fn now_unix_ms() -> i64 {
    i64::try_from(time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000)
        .unwrap_or(i64::MAX)
}
