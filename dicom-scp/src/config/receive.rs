//! `[receive]` and `[[modality]]`: who may call, and what is known of them.

use std::collections::{BTreeMap, BTreeSet};

use cloister_runtime::ConfigError;
use cloister_tls::Binding;
use serde::Deserialize;

use super::raw::{millis, positive, title, titles};
use super::{ReceiveConfig, UnknownSopClasses};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Receive {
    ae_titles: Vec<String>,
    calling_ae_titles: Vec<String>,
    default_issuer: String,
    max_pdu_bytes: u32,
    max_object_bytes: u64,
    max_objects: u32,
    max_connections: usize,
    max_connections_per_peer: usize,
    request_timeout_ms: u64,
    idle_timeout_ms: u64,
    association_timeout_ms: u64,
    unknown_sop_classes: UnknownSopClasses,
    pub(super) commitment: Commitment,
}

/// There is no value that has us commit to anything ourselves: such a promise would not be kept.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Commitment {
    Off,
    Relay,
}

impl Default for Receive {
    fn default() -> Self {
        Self {
            ae_titles: vec!["CLOISTER".to_owned()],
            calling_ae_titles: Vec::new(),
            default_issuer: "LOCAL".to_owned(),
            max_pdu_bytes: 128 << 10,
            max_object_bytes: 2 << 30,
            max_objects: 10_000,
            max_connections: 512,
            max_connections_per_peer: 32,
            request_timeout_ms: 10_000,
            idle_timeout_ms: 30_000,
            association_timeout_ms: 3_600_000,
            unknown_sop_classes: UnknownSopClasses::Refuse,
            commitment: Commitment::Off,
        }
    }
}

impl Receive {
    pub(super) fn check(self, modality: &[Modality]) -> Result<ReceiveConfig, ConfigError> {
        let called = titles("receive.ae_titles", &self.ae_titles)?;
        if called.is_empty() {
            return Err(ConfigError::invalid("receive.ae_titles", "at least one"));
        }
        let max_pdu_bytes = self.max_pdu_bytes;
        if !(4096..=(16 << 20)).contains(&max_pdu_bytes) {
            return Err(ConfigError::invalid(
                "receive.max_pdu_bytes",
                "between 4 KiB and 16 MiB",
            ));
        }
        let (mut issuers, mut bindings) = (BTreeMap::new(), BTreeMap::new());
        let mut seen = BTreeSet::new();
        for modality in modality {
            let calling = title("modality.calling_ae", &modality.calling_ae)?;
            if !seen.insert(calling.clone()) {
                return Err(ConfigError::invalid(
                    "modality.calling_ae",
                    format!("two [[modality]] of {}", calling.as_str()),
                ));
            }
            let identities = modality.identity.check("modality.identity")?;
            if !identities.is_empty() {
                bindings.insert(calling.clone(), identities);
            }
            if let Some(issuer) = &modality.issuer {
                issuers.insert(calling, issuer.clone());
            }
        }
        Ok(ReceiveConfig {
            called,
            calling: titles("receive.calling_ae_titles", &self.calling_ae_titles)?,
            default_issuer: self.default_issuer,
            issuers,
            bindings,
            archive: None,
            unknown_sop_classes: self.unknown_sop_classes,
            max_pdu_bytes,
            max_object_bytes: positive("receive.max_object_bytes", self.max_object_bytes)?,
            max_objects: positive("receive.max_objects", self.max_objects)?,
            max_connections: positive("receive.max_connections", self.max_connections)?,
            max_connections_per_peer: positive(
                "receive.max_connections_per_peer",
                self.max_connections_per_peer,
            )?,
            request_timeout: millis("receive.request_timeout_ms", self.request_timeout_ms)?,
            idle_timeout: millis("receive.idle_timeout_ms", self.idle_timeout_ms)?,
            association_timeout: millis(
                "receive.association_timeout_ms",
                self.association_timeout_ms,
            )?,
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Modality {
    calling_ae: String,
    issuer: Option<String>,
    #[serde(default)]
    identity: Identities,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Identities {
    One(String),
    Any(Vec<String>),
}

impl Default for Identities {
    fn default() -> Self {
        Self::Any(Vec::new())
    }
}

impl Identities {
    pub(super) fn check(&self, key: &str) -> Result<Vec<Binding>, ConfigError> {
        let texts = match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Any(texts) => texts,
        };
        texts
            .iter()
            .map(|text| {
                text.parse()
                    .map_err(|error| ConfigError::invalid(key, error))
            })
            .collect()
    }
}
