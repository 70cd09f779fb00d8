//! `[sidecar]`: where cleared studies go.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cloister_runtime::ConfigError;
use cloister_tls::{SpiffeId, TlsFiles};
use serde::Deserialize;

use super::SidecarConfig;
use super::raw::{millis, positive};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sidecar {
    endpoint: String,
    identity: String,
    certificate: PathBuf,
    key: PathBuf,
    peer_ca: PathBuf,
    #[serde(default = "half_second_ms")]
    retry_initial_ms: u64,
    #[serde(default = "half_minute_ms")]
    retry_max_ms: u64,
    #[serde(default = "three_days_hours")]
    give_up_after_hours: u64,
    #[serde(default = "ten_minutes_ms")]
    deadline_ms: u64,
}

impl Sidecar {
    pub(super) fn check(self, base: &Path) -> Result<SidecarConfig, ConfigError> {
        Ok(SidecarConfig {
            endpoint: self.endpoint,
            identity: SpiffeId::parse(&self.identity)
                .map_err(|error| ConfigError::invalid("sidecar.identity", error))?,
            tls: TlsFiles {
                certificate: base.join(self.certificate),
                key: base.join(self.key),
                peer_ca: base.join(self.peer_ca),
            },
            retry_initial: millis("sidecar.retry_initial_ms", self.retry_initial_ms)?,
            retry_max: millis("sidecar.retry_max_ms", self.retry_max_ms)?,
            give_up_after: positive("sidecar.give_up_after_hours", self.give_up_after_hours)
                .map(|hours| Duration::from_secs(hours.saturating_mul(3600)))?,
            deadline: millis("sidecar.deadline_ms", self.deadline_ms)?,
        })
    }
}

const fn half_second_ms() -> u64 {
    500
}
const fn half_minute_ms() -> u64 {
    30_000
}
const fn three_days_hours() -> u64 {
    72
}
const fn ten_minutes_ms() -> u64 {
    600_000
}
