//! Fifth step: the draft, before anybody sees it. Before it: `draft`. After it: `assess`.
//!
//! The same rule as for queries: a guard that errors, panics or takes too long withholds the draft.

mod rules;

use std::sync::Arc;
use std::time::Duration;

use cloister_proto::v1;
use cloister_scrub::KnownIdentifiers;

use crate::clean::Cleaned;
use crate::draft::{Drafted, RawDraft};
use crate::pipeline::Refusal;
use crate::screen::Screened;
use crate::screen::guard::{self, Guard};

/// What the guards of a draft look at.
pub(crate) struct DraftView {
    pub(crate) findings: String,
    pub(crate) impression: String,
    pub(crate) finished: bool,
    pub(crate) prefix: Arc<str>,
    pub(crate) known: KnownIdentifiers,
}

/// A draft that was looked at. Only this step makes one.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(super) input: v1::ModelInput,
    pub(super) renditions: Vec<v1::Rendition>,
    pub(super) withheld_objects: u32,
    /// Nothing when the study has more films than the model takes.
    pub(super) draft: Option<RawDraft>,
    /// Why the draft's text must not be shown, if so.
    pub(super) withheld: Option<v1::ReasonCode>,
    pub(super) escalations: Vec<v1::ReasonCode>,
    pub(super) verdicts: Vec<v1::StepVerdict>,
}

/// Checks drafts.
pub(crate) struct Checker {
    guards: Vec<Arc<dyn Guard<DraftView>>>,
    prefix: Arc<str>,
    timeout: Duration,
}

impl std::fmt::Debug for Checker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.guards.iter().map(|guard| guard.name()))
            .finish()
    }
}

impl Checker {
    pub(crate) fn new(prefix: &str, timeout: Duration) -> Self {
        let guards: Vec<Arc<dyn Guard<DraftView>>> = vec![
            // Leaks first: they matter most, and a later verdict is skipped once one blocks.
            Arc::new(rules::Identifiers),
            Arc::new(rules::Echo),
            Arc::new(rules::Sections),
            Arc::new(rules::SentenceForm),
        ];
        Self {
            guards,
            prefix: prefix.into(),
            timeout,
        }
    }

    /// Adds a guard in front.
    #[cfg(test)]
    pub(crate) fn with_guard(mut self, guard: Arc<dyn Guard<DraftView>>) -> Self {
        self.guards.insert(0, guard);
        self
    }

    /// Every rule that fires on a text that no model of ours wrote.
    pub(crate) async fn validate(
        &self,
        findings: String,
        impression: String,
    ) -> v1::ValidateResponse {
        use v1::step_verdict::Verdict;
        let view = DraftView {
            findings,
            impression,
            finished: true,
            prefix: Arc::clone(&self.prefix),
            known: KnownIdentifiers::new(),
        };
        let view = Arc::new(view);
        let mut rules = Vec::new();
        for rule in &self.guards {
            let report =
                guard::run(std::slice::from_ref(rule), Arc::clone(&view), self.timeout).await;
            if report.blocked.is_some() {
                rules.push(v1::FiredRule {
                    id: rule.name().to_owned(),
                    severity: "error".to_owned(),
                    ..Default::default()
                });
            }
        }
        let verdict = if rules.is_empty() {
            Verdict::Allow
        } else {
            Verdict::Block
        };
        v1::ValidateResponse {
            verdict: verdict.into(),
            rules,
        }
    }

    pub(crate) async fn check(&self, drafted: Drafted) -> Result<Checked, Refusal> {
        let Drafted { screened, draft } = drafted;
        let Screened {
            cleaned,
            mut escalations,
            mut verdicts,
        } = screened;
        let input = cleaned.model_input();
        let Cleaned {
            films,
            withheld_objects,
            known,
            ..
        } = cleaned;
        let renditions = films
            .into_iter()
            .map(|film| v1::Rendition {
                sop_instance_uid: film.sop_instance_uid,
                png: film.png,
                redacted_boxes: film.redacted_boxes,
            })
            .collect();
        let mut withheld = None;
        if let Some(draft) = &draft {
            let view = DraftView {
                findings: draft.findings.clone(),
                impression: draft.impression.clone(),
                finished: draft.finished,
                prefix: Arc::clone(&self.prefix),
                known,
            };
            let report = guard::run(&self.guards, Arc::new(view), self.timeout).await;
            verdicts.extend(report.verdicts);
            escalations.extend(report.escalations);
            withheld = report.blocked;
        }
        if withheld == Some(v1::ReasonCode::GuardFailed) {
            return Err(Refusal {
                reason: v1::ReasonCode::GuardFailed,
                verdicts,
                input: Some(input),
                renditions,
            });
        }
        Ok(Checked {
            input,
            renditions,
            withheld_objects,
            draft,
            withheld,
            escalations,
            verdicts,
        })
    }
}
