//! Last step: one place decides the outcome from everything the steps found. Before it: `check`.
//! After it: the socket. A report without what this step adds is withheld by the sidecar.
//!
//! Refused beats escalated beats abstained beats delivered.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use cloister_proto::v1;
use cloister_proto::v1::{Outcome, ReasonCode};
use uuid::Uuid;

use crate::admit::{Films, Submitted};
use crate::check::Checked;
use crate::draft::{ModelFacts, RawDraft};
use crate::metric;
use crate::pipeline::Refusal;

/// Version of `Report` that this server writes.
const FORMAT: u32 = 1;
/// Minutes within which a human has to be told: immediate escalation, ACR categories 1, 2 and 3.
const CRISIS_MINUTES: u32 = 30;
const CATEGORY_MINUTES: [u32; 3] = [30, 12 * 60, 3 * 24 * 60];

/// What a report copies unchanged from its request.
#[derive(Debug)]
pub(crate) struct Head {
    report_id: Uuid,
    replaces: Vec<u8>,
    manifest: Option<v1::SignedManifest>,
    capsule: Vec<u8>,
    withheld_objects: u32,
}

impl Head {
    pub(crate) fn of(submitted: &Submitted) -> Self {
        let (manifest, replaces, withheld_objects) = match &submitted.films {
            Films::Raw(_) => (None, Vec::new(), 0),
            Films::Cleared {
                manifest, signed, ..
            } => (
                Some(signed.clone()),
                manifest.replaces.clone(),
                manifest.withheld_objects,
            ),
        };
        Self {
            report_id: submitted.report_id,
            replaces,
            manifest,
            capsule: submitted.capsule.clone(),
            withheld_objects,
        }
    }
}

/// A report with its assessment. Only this step makes one.
#[derive(Debug)]
pub(crate) struct Assessed {
    report: v1::Report,
}

impl Assessed {
    pub(crate) fn into_report(self) -> v1::Report {
        self.report
    }
}

/// Decides outcomes.
#[derive(Debug)]
pub(crate) struct Assessor {
    facts: ModelFacts,
    confidence_threshold: f32,
}

impl Assessor {
    /// `policy_sha256` identifies the server's rules in every report.
    pub(crate) fn new(
        facts: &ModelFacts,
        confidence_threshold: Option<f32>,
        policy_sha256: [u8; 32],
    ) -> Arc<Self> {
        let mut facts = facts.clone();
        facts.identity.policy_sha256 = policy_sha256.to_vec();
        let confidence_threshold = confidence_threshold.unwrap_or(facts.confidence_threshold);
        Arc::new(Self {
            facts,
            confidence_threshold,
        })
    }

    /// A refused request: no text, no labels.
    pub(crate) fn refuse(&self, head: Head, refusal: Refusal) -> Assessed {
        let assessment = v1::Assessment {
            outcome: Outcome::Refused.into(),
            reasons: vec![refusal.reason.into()],
            verdicts: refusal.verdicts,
            risk: 1.0,
            ..Default::default()
        };
        let mut report = self.report(head, assessment);
        report.model_input = refusal.input;
        report.renditions = refusal.renditions;
        Assessed { report }
    }

    /// The report of a checked draft.
    pub(crate) fn assess(&self, head: Head, checked: Checked) -> Assessed {
        let mut escalate: Vec<ReasonCode> = checked.escalations.clone();
        let mut abstain: Vec<ReasonCode> = checked.withheld.into_iter().collect();
        let mut category = v1::AcrCategory::Unspecified;
        let (mut confidence, mut risk) = (0.0, 1.0);
        if checked.withheld_objects > 0 {
            escalate.push(ReasonCode::IncompleteStudy);
        }
        let labels = checked
            .draft
            .as_ref()
            .map(|draft| self.labels(draft))
            .unwrap_or_default();
        match &checked.draft {
            None => escalate.push(ReasonCode::FilmsExceedModel),
            Some(draft) => {
                let text = text_confidence(draft);
                confidence = text * label_certainty(draft);
                risk = 1.0 - confidence;
                let critical = labels
                    .iter()
                    .filter(|label| label.probability >= label.threshold)
                    .map(v1::LabelScore::acr_category)
                    .filter(|&category| category != v1::AcrCategory::Unspecified)
                    .min();
                if let Some(critical) = critical {
                    category = critical;
                    escalate.push(ReasonCode::CriticalFinding);
                }
                // The bundle's threshold is chosen for the text alone. A confidence that is no number
                // is no confidence.
                if text.is_nan() || text < self.confidence_threshold {
                    abstain.push(ReasonCode::LowConfidence);
                }
            }
        }
        let outcome = if !escalate.is_empty() {
            Outcome::Escalated
        } else if !abstain.is_empty() {
            Outcome::Abstained
        } else {
            Outcome::Delivered
        };
        let crisis = escalate.contains(&ReasonCode::CrisisText);
        let minutes = [
            crisis.then_some(CRISIS_MINUTES),
            usize::try_from(i32::from(category) - 1)
                .ok()
                .and_then(|at| CATEGORY_MINUTES.get(at).copied()),
        ];
        let text_is_shown = abstain.is_empty();
        let mut reasons = escalate;
        reasons.extend(abstain);
        if !self.facts.evaluated {
            reasons.push(ReasonCode::ModelNotEvaluated);
        }
        let assessment = v1::Assessment {
            outcome: outcome.into(),
            reasons: reasons.into_iter().map(i32::from).collect(),
            acr_category: category.into(),
            communicate_within_minutes: minutes.into_iter().flatten().min().unwrap_or(0),
            confidence,
            risk,
            verdicts: checked.verdicts,
        };
        let mut report = self.report(head, assessment);
        report.model_input = Some(checked.input);
        report.renditions = checked.renditions;
        report.labels = labels;
        if let Some(draft) = checked.draft.filter(|_| text_is_shown) {
            report.findings = draft.findings;
            report.impression = draft.impression;
            report.sentences = draft.sentences;
            report.tokens = draft.tokens;
        }
        Assessed { report }
    }

    fn labels(&self, draft: &RawDraft) -> Vec<v1::LabelScore> {
        self.facts
            .labels
            .iter()
            .zip(&draft.probabilities)
            .map(|(label, &probability)| v1::LabelScore {
                label: label.name.clone(),
                probability,
                threshold: label.threshold,
                acr_category: label.acr_category.into(),
            })
            .collect()
    }

    fn report(&self, head: Head, assessment: v1::Assessment) -> v1::Report {
        metric::assessed(&assessment);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis();
        v1::Report {
            format: FORMAT,
            report_id: head.report_id.as_bytes().to_vec(),
            replaces: head.replaces,
            model: Some(self.facts.identity.clone()),
            assessment: Some(assessment),
            manifest: head.manifest,
            capsule: head.capsule,
            withheld_objects: head.withheld_objects,
            created_at_unix_ms: i64::try_from(now).unwrap_or(i64::MAX),
            ..Default::default()
        }
    }
}

/// Geometric mean of the probabilities of all tokens; 0 for none.
fn text_confidence(draft: &RawDraft) -> f32 {
    if draft.tokens.is_empty() {
        return 0.0;
    }
    let sum: f32 = draft.tokens.iter().map(|token| token.log_probability).sum();
    (sum / draft.tokens.len() as f32).exp().clamp(0.0, 1.0)
}

/// Mean distance of the label probabilities from a coin toss, in 0.5..1.
fn label_certainty(draft: &RawDraft) -> f32 {
    if draft.probabilities.is_empty() {
        return 0.5;
    }
    let sum: f32 = draft
        .probabilities
        .iter()
        .map(|&probability| probability.max(1.0 - probability))
        .sum();
    (sum / draft.probabilities.len() as f32).clamp(0.5, 1.0)
}
