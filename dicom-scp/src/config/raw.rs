//! The file as it stands, before it is checked: each table has a module beside this one, with its
//! defaults and its check.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cloister_phi::AeTitle;
use cloister_runtime::ConfigError;
use serde::Deserialize;

use super::Config;
use super::commitment;
use super::doors::{self, DoorFiles, Stow};
use super::keys::{Keys, Pkcs11, Secrets};
use super::receive::{Modality, Receive};
use super::redact::{Deidentify, Redact};
use super::route::Route;
use super::sidecar::Sidecar;
use super::spool::{Control, Retention, Spool};
use super::study::Study;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    state_dir: PathBuf,
    site: String,
    #[serde(default = "zero")]
    replica: String,
    listen: Listen,
    #[serde(default)]
    receive: Receive,
    #[serde(default)]
    spool: Spool,
    #[serde(default)]
    retention: Retention,
    #[serde(default)]
    control: Control,
    dimse_tls: Option<DoorFiles>,
    stow: Option<Stow>,
    commitment: Option<commitment::Raw>,
    keys: Keys,
    pkcs11: Option<Pkcs11>,
    directory: Directory,
    #[serde(default)]
    route: Route,
    #[serde(default)]
    modality: Vec<Modality>,
    #[serde(default)]
    study: Study,
    #[serde(default)]
    deidentify: Deidentify,
    redact: Redact,
    sidecar: Sidecar,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listen {
    dimse: Option<SocketAddr>,
    dimse_tls: Option<SocketAddr>,
    admin: SocketAddr,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Directory {
    file: PathBuf,
    enrolment_key: PathBuf,
}

fn zero() -> String {
    "0".to_owned()
}

impl Raw {
    pub(super) fn check(self, base: &Path) -> Result<Config, ConfigError> {
        // An origin is one line of a signed note.
        let word = |text: &str| {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            !text.is_empty() && text.len() <= 64 && text.bytes().all(allowed)
        };
        if !word(&self.site) || !word(&self.replica) {
            return Err(ConfigError::invalid(
                "site",
                "site and replica: letters, digits, dots and dashes",
            ));
        }
        let commitment = self.receive.commitment;
        let mut receive = self.receive.check(&self.modality)?;
        let ports = commitment::Ports {
            plain: self.listen.dimse.is_some(),
            tls: self.listen.dimse_tls.is_some(),
        };
        let relay = commitment::relay(commitment, self.commitment, base, &mut receive, ports)?;
        let stow = self
            .stow
            .map(|stow| stow.check(base, &receive))
            .transpose()?;
        let dimse_tls = doors::dimse_tls(self.listen.dimse_tls, self.dimse_tls, base)?;
        if self.listen.dimse.is_none() && dimse_tls.is_none() && stow.is_none() {
            return Err(ConfigError::invalid(
                "listen",
                "dimse, dimse_tls or [stow]: no film could come",
            ));
        }
        if dimse_tls.is_some() && receive.bindings.is_empty() {
            return Err(ConfigError::invalid(
                "modality.identity",
                "over TLS only AE titles with an identity are accepted, and there is none",
            ));
        }
        let routes = self.route.check()?;
        let study = self.study.check()?;
        let redact = self.redact.check(base)?;
        let sidecar = self.sidecar.check(base)?;
        let secrets = Secrets {
            base,
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
        };
        let keys = self.keys.check(&secrets, self.pkcs11.as_ref())?;
        let operators = self.control.check()?;
        Ok(Config {
            spool: self.spool.check()?,
            keep: self.retention.check(),
            operators,
            state_dir: base.join(self.state_dir),
            audit_origin: format!("{}/dicom-scp/{}", self.site, self.replica),
            dimse: self.listen.dimse,
            dimse_tls,
            stow,
            admin: self.listen.admin,
            receive,
            relay,
            keys,
            directory_file: base.join(self.directory.file),
            enrolment_key: base.join(self.directory.enrolment_key),
            routes,
            study,
            deidentify: self.deidentify.check()?,
            redact,
            sidecar,
        })
    }
}

pub(super) fn millis(key: &str, value: u64) -> Result<Duration, ConfigError> {
    positive(key, value).map(Duration::from_millis)
}

pub(super) fn title(key: &str, text: &str) -> Result<AeTitle, ConfigError> {
    AeTitle::parse(text).map_err(|error| ConfigError::invalid(key, error))
}

pub(super) fn titles(key: &str, texts: &[String]) -> Result<Vec<AeTitle>, ConfigError> {
    texts.iter().map(|text| title(key, text)).collect()
}

pub(super) fn positive<T: PartialOrd + Default + Copy>(
    key: &str,
    value: T,
) -> Result<T, ConfigError> {
    if value > T::default() {
        Ok(value)
    } else {
        Err(ConfigError::invalid(key, "must not be 0"))
    }
}
