//! `[redact]` and `[deidentify]`: how identity is removed.

use std::path::{Path, PathBuf};

use cloister_deid::{Policy, ProfileOption};
use cloister_redact::RedactConfig;
use cloister_runtime::ConfigError;
use serde::Deserialize;

use super::raw::{millis, positive};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Redact {
    detector_bundle: PathBuf,
    presence_bundle: Option<PathBuf>,
    runtime_library: Option<PathBuf>,
    #[serde(default = "one")]
    workers: usize,
    #[serde(default = "keep")]
    markers: String,
    #[serde(default = "background")]
    fill: String,
    #[serde(default = "blank")]
    outside: String,
    #[serde(default = "half_gib")]
    memory_bytes: u64,
    #[serde(default = "two_minutes_ms")]
    timeout_ms: u64,
}

impl Redact {
    pub(super) fn check(self, base: &Path) -> Result<RedactConfig, ConfigError> {
        let runtime_library = match self.runtime_library {
            Some(path) => base.join(path),
            None => cloister_onnx::library_path()
                .map_err(|error| ConfigError::invalid("redact.runtime_library", error))?,
        };
        let exe = std::env::current_exe().map_err(|error| ConfigError::invalid("redact", error))?;
        let usual = RedactConfig::at(exe, base.join(self.detector_bundle), runtime_library);
        Ok(RedactConfig {
            presence_bundle: match self.presence_bundle {
                Some(path) => base.join(path),
                None => usual.presence_bundle,
            },
            workers: positive("redact.workers", self.workers)?,
            memory_bytes: positive("redact.memory_bytes", self.memory_bytes)?,
            markers: self
                .markers
                .parse()
                .map_err(|reason: &str| ConfigError::invalid("redact.markers", reason))?,
            fill: self
                .fill
                .parse()
                .map_err(|reason: &str| ConfigError::invalid("redact.fill", reason))?,
            outside: self
                .outside
                .parse()
                .map_err(|reason: &str| ConfigError::invalid("redact.outside", reason))?,
            timeout: millis("redact.timeout_ms", self.timeout_ms)?,
            ..usual
        })
    }
}

const fn one() -> usize {
    1
}
fn keep() -> String {
    "keep".to_owned()
}
fn blank() -> String {
    "blank".to_owned()
}
fn background() -> String {
    "background".to_owned()
}
const fn half_gib() -> u64 {
    512 << 20
}
const fn two_minutes_ms() -> u64 {
    120_000
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Deidentify {
    options: Vec<String>,
}

impl Deidentify {
    pub(super) fn check(&self) -> Result<Policy, ConfigError> {
        let invalid = |error: &dyn std::fmt::Display| {
            ConfigError::invalid("deidentify.options", error.to_string())
        };
        let options: Result<Vec<ProfileOption>, _> =
            self.options.iter().map(|option| option.parse()).collect();
        Policy::with(options.map_err(|error| invalid(&error))?).map_err(|error| invalid(&error))
    }
}
