//! `[study]`: when a study counts as complete, and what is asked about it.

use std::time::Duration;

use cloister_proto::v1::Urgency;
use cloister_runtime::ConfigError;
use serde::Deserialize;

use super::StudyConfig;
use super::raw::positive;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Study {
    quiet_ms: u64,
    query: String,
    urgency: String,
    parallel: usize,
    max_objects: usize,
    max_rendition_bytes: u64,
    max_object_bytes: u64,
}

impl Default for Study {
    fn default() -> Self {
        Self {
            quiet_ms: 5000,
            query: "Findings and impression".to_owned(),
            urgency: "routine".to_owned(),
            parallel: 2,
            max_objects: 64,
            max_rendition_bytes: 48 << 20,
            max_object_bytes: 256 << 20,
        }
    }
}

impl Study {
    pub(super) fn check(self) -> Result<StudyConfig, ConfigError> {
        let urgency = match self.urgency.as_str() {
            "stat" => Urgency::Stat,
            "urgent" => Urgency::Urgent,
            "routine" => Urgency::Routine,
            _ => {
                return Err(ConfigError::invalid(
                    "study.urgency",
                    "stat, urgent or routine",
                ));
            }
        };
        Ok(StudyConfig {
            quiet: Duration::from_millis(self.quiet_ms),
            query: self.query,
            urgency,
            parallel: positive("study.parallel", self.parallel)?,
            max_objects: positive("study.max_objects", self.max_objects)?,
            max_object_bytes: positive("study.max_object_bytes", self.max_object_bytes)?,
            max_rendition_bytes: positive("study.max_rendition_bytes", self.max_rendition_bytes)?,
        })
    }
}
