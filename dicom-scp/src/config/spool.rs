//! `[spool]`, `[retention]` and `[control]`: how much is kept, how long, and who may change it.

use cloister_runtime::ConfigError;
use serde::Deserialize;

use super::raw::positive;
use crate::spool::space::Limits;
use crate::spool::worklist::Keep;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Spool {
    min_free_bytes: u64,
    max_bytes: Option<u64>,
}

impl Default for Spool {
    fn default() -> Self {
        Self {
            min_free_bytes: 1 << 30,
            max_bytes: None,
        }
    }
}

impl Spool {
    pub(super) fn check(&self) -> Result<Limits, ConfigError> {
        Ok(Limits {
            min_free_bytes: self.min_free_bytes,
            max_bytes: self
                .max_bytes
                .map(|most| positive("spool.max_bytes", most))
                .transpose()?,
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Retention {
    forwarded_hours: u32,
    quarantined_days: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            forwarded_hours: 168,
            quarantined_days: 30,
        }
    }
}

impl Retention {
    pub(super) fn check(&self) -> Keep {
        Keep {
            forwarded_ms: i64::from(self.forwarded_hours) * 3_600_000,
            quarantined_ms: i64::from(self.quarantined_days) * 24 * 3_600_000,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Control {
    operators: Vec<u32>,
}

impl Control {
    pub(super) fn check(self) -> Result<Vec<u32>, ConfigError> {
        let own = rustix::process::geteuid().as_raw();
        // The socket's mode is 0600: nobody else would ever get that far.
        let foreign = |uid: &&u32| **uid != own && **uid != 0;
        if let Some(uid) = self.operators.iter().find(foreign) {
            return Err(ConfigError::invalid(
                "control.operators",
                format!("user {uid} cannot open control.sock: 0 and the room's own {own} can"),
            ));
        }
        Ok(if self.operators.is_empty() {
            vec![own]
        } else {
            self.operators
        })
    }
}
