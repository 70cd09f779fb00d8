//! An engine that answers from its bundle: the same films and query always give the same draft. For
//! tests and for trying an installation without a model; its identity says so in every report.

use std::collections::BTreeMap;

use cloister_onnx::{Bundle, Kind};
use cloister_proto::v1;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::sentences::sentence_ends;
use super::spec::{ConfidenceSpec, LabelSpec, labels};
use super::{Engine, EngineError, Input, ModelFacts, RawDraft};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    max_films: usize,
    labels: Vec<LabelSpec>,
    confidence: ConfidenceSpec,
    case: Vec<Case>,
}

/// One answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// Words that the query must contain; empty matches everything. First match wins.
    when: String,
    findings: String,
    impression: String,
    token_probability: f32,
    #[serde(default = "yes")]
    finished: bool,
    /// Labels that are not named get 0.02.
    #[serde(default)]
    probabilities: BTreeMap<String, f32>,
}

const fn yes() -> bool {
    true
}

/// The engine.
#[derive(Debug)]
pub(crate) struct Scripted {
    facts: ModelFacts,
    cases: Vec<Case>,
}

impl Scripted {
    pub(crate) fn load(bundle: &Bundle) -> Result<Self, EngineError> {
        bundle
            .require(Kind::Scripted)
            .map_err(|_| EngineError::Bundle("kind = \"scripted\""))?;
        let spec: Spec = bundle.manifest().spec().map_err(|error| {
            tracing::error!(%error, "The bundle's keys cannot be used.");
            EngineError::Bundle("usable keys")
        })?;
        if !spec.case.iter().any(|case| case.when.is_empty()) {
            return Err(EngineError::Bundle("a case that matches everything"));
        }
        let prefix = bundle
            .read("prefix.txt")
            .map_err(|_| EngineError::Bundle("prefix.txt"))?;
        let facts = ModelFacts {
            identity: v1::ModelIdentity {
                name: bundle.manifest().name.clone(),
                version: bundle.manifest().version.clone(),
                bundle_sha256: bundle.sha256().to_vec(),
                prefix_sha256: Sha256::digest(&prefix).to_vec(),
                policy_sha256: Vec::new(),
                execution_provider: "cpu".to_owned(),
            },
            evaluated: bundle.manifest().evaluated,
            max_films: spec.max_films,
            labels: labels(&spec.labels)?,
            confidence_threshold: spec.confidence.threshold,
            prefix: String::from_utf8_lossy(&prefix).into_owned(),
        };
        Ok(Self {
            facts,
            cases: spec.case,
        })
    }

    fn answer(&self, input: &Input) -> Result<RawDraft, EngineError> {
        let query = input.query.to_lowercase();
        let case = self
            .cases
            .iter()
            .find(|case| query.contains(&case.when))
            .ok_or(EngineError::Bundle("a case that matches everything"))?;
        let probability = case.token_probability.clamp(f32::MIN_POSITIVE, 1.0);
        let words = case
            .findings
            .split_whitespace()
            .chain(case.impression.split_whitespace());
        let tokens = (1..)
            .zip(words)
            .map(|(id, _)| v1::TokenScore {
                id,
                log_probability: probability.ln(),
            })
            .collect();
        let mut sentences = Vec::new();
        for (section, text) in [
            ("findings", &case.findings),
            ("impression", &case.impression),
        ] {
            let mut start = 0;
            for end in sentence_ends(text) {
                let sentence = text.get(start..end).unwrap_or_default().trim();
                if !sentence.is_empty() {
                    sentences.push(v1::SentenceScore {
                        section: section.to_owned(),
                        text: sentence.to_owned(),
                        confidence: probability,
                    });
                }
                start = end;
            }
        }
        let probabilities = self
            .facts
            .labels
            .iter()
            .map(|label| case.probabilities.get(&label.name).copied().unwrap_or(0.02))
            .collect();
        Ok(RawDraft {
            findings: case.findings.clone(),
            impression: case.impression.clone(),
            sentences,
            tokens,
            probabilities,
            finished: case.finished,
        })
    }
}

impl Engine for Scripted {
    fn facts(&self) -> &ModelFacts {
        &self.facts
    }

    fn draft(&self, input: Input) -> BoxFuture<'_, Result<RawDraft, EngineError>> {
        std::future::ready(self.answer(&input)).boxed()
    }

    fn is_alive(&self) -> bool {
        true
    }
}
