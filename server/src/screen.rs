//! Third step: the query, before the model sees it. Before it: `clean`. After it: `draft`.
//!
//! A guard that errors, panics or takes too long blocks: the answer to "we do not know" is no.

pub(crate) mod guard;

pub(crate) mod crisis;
pub(crate) mod injection;
pub(crate) mod length;
pub(crate) mod malign;
pub(crate) mod relevance;
pub(crate) mod safeguard;
pub(crate) mod text;

use std::sync::Arc;
use std::time::Duration;

use cloister_proto::v1;

use crate::clean::Cleaned;
use crate::pipeline::Refusal;
use guard::Guard;

/// A request whose query passed every guard. Only this step makes one.
#[derive(Debug)]
pub(crate) struct Screened {
    pub(super) cleaned: Cleaned,
    /// Reasons for a human to look, found so far.
    pub(super) escalations: Vec<v1::ReasonCode>,
    pub(super) verdicts: Vec<v1::StepVerdict>,
}

/// Screens queries.
pub(crate) struct Screener {
    guards: Vec<Arc<dyn Guard<str>>>,
    timeout: Duration,
}

impl std::fmt::Debug for Screener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.guards.iter().map(|guard| guard.name()))
            .finish()
    }
}

impl Screener {
    /// The guards in their order: the cheap bound first, then what must win over everything else.
    pub(crate) fn new(max_query_chars: usize, timeout: Duration) -> Self {
        let guards: Vec<Arc<dyn Guard<str>>> = vec![
            // Bounds the work of every guard after it.
            Arc::new(length::Length {
                max_chars: max_query_chars,
            }),
            // An override attempt is refused even when it also speaks of a crisis.
            Arc::new(injection::Injection),
            // Only escalates: a suicidal patient's film must still be read.
            Arc::new(crisis::Crisis),
            Arc::new(malign::Malign),
            // Last: it is the weakest evidence.
            Arc::new(relevance::Relevance),
        ];
        Self { guards, timeout }
    }

    /// Adds a guard in front.
    #[cfg(test)]
    pub(crate) fn with_guard(mut self, guard: Arc<dyn Guard<str>>) -> Self {
        self.guards.insert(0, guard);
        self
    }

    pub(crate) async fn screen(&self, cleaned: Cleaned) -> Result<Screened, Refusal> {
        // Films of a study without a query: nothing to screen, but the guards still run, so that a
        // broken guard is noticed on every request.
        let text: Arc<str> = cleaned.query.as_str().into();
        let report = guard::run(&self.guards, text, self.timeout).await;
        match report.blocked {
            None => Ok(Screened {
                cleaned,
                escalations: report.escalations,
                verdicts: report.verdicts,
            }),
            Some(reason) => Err(Refusal {
                reason,
                verdicts: report.verdicts,
                input: Some(cleaned.model_input()),
                renditions: renditions(cleaned),
            }),
        }
    }
}

/// What a refused report still shows: the films that nobody has read.
fn renditions(cleaned: Cleaned) -> Vec<v1::Rendition> {
    cleaned
        .films
        .into_iter()
        .map(|film| v1::Rendition {
            sop_instance_uid: film.sop_instance_uid,
            png: film.png,
            redacted_boxes: film.redacted_boxes,
        })
        .collect()
}
