//! The order of the steps. Types carry it: each step takes what only the step before can make.

use std::sync::Arc;
use std::time::Instant;

use cloister_proto::v1;

use crate::admit::Submitted;
use crate::assess::{self, Assessed, Assessor};
use crate::check::Checker;
use crate::clean::Cleaner;
use crate::draft::Drafter;
use crate::error::Fault;
use crate::metric;
use crate::screen::Screener;

/// Told the name of a step that has just ended, and how far the request is.
pub(crate) type Progress<'a> = &'a (dyn Fn(&'static str, f32) + Send + Sync);

/// Everything a request passes.
#[derive(Debug, Clone)]
pub(crate) struct Pipeline {
    pub(crate) cleaner: Arc<Cleaner>,
    pub(crate) screener: Arc<Screener>,
    pub(crate) drafter: Arc<Drafter>,
    pub(crate) checker: Arc<Checker>,
    pub(crate) assessor: Arc<Assessor>,
}

impl Pipeline {
    /// Runs an admitted request to its report. Refusals end it early, and are reports as well.
    pub(crate) async fn run(
        &self,
        submitted: Submitted,
        progress: Progress<'_>,
    ) -> Result<Assessed, Fault> {
        let head = assess::Head::of(&submitted);

        // First of all: nothing after this line ever sees an identifier.
        let cleaned = match timed("clean", self.cleaner.clean(submitted)).await {
            Ok(cleaned) => cleaned,
            Err(refusal) => return Ok(self.assessor.refuse(head, refusal)),
        };
        progress("clean", 0.3);

        // Before the model runs: a blocked query costs no model time and reaches no model.
        let screened = match timed("screen", self.screener.screen(cleaned)).await {
            Ok(screened) => screened,
            Err(refusal) => return Ok(self.assessor.refuse(head, refusal)),
        };
        progress("screen", 0.4);

        // The model, and nothing but it: its output is raw and leaves this function only checked.
        let drafted = timed("draft", self.drafter.draft(screened)).await?;
        progress("draft", 0.8);

        // After the model: what it wrote is as little trusted as what came in.
        let checked = match timed("check", self.checker.check(drafted)).await {
            Ok(checked) => checked,
            Err(refusal) => return Ok(self.assessor.refuse(head, refusal)),
        };
        progress("check", 0.9);

        // Last: one place decides the outcome, from everything the steps found.
        let assessed = timed("assess", async { self.assessor.assess(head, checked) }).await;
        progress("assess", 1.0);
        Ok(assessed)
    }
}

async fn timed<T>(step: &'static str, work: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let result = work.await;
    metric::step(step, started.elapsed());
    result
}

/// A step's "no": the request ends as refused, without any text.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: v1::ReasonCode,
    pub(crate) verdicts: Vec<v1::StepVerdict>,
    /// The query as far as it was scrubbed; nothing if it was not.
    pub(crate) input: Option<v1::ModelInput>,
    /// Renditions as far as they were made.
    pub(crate) renditions: Vec<v1::Rendition>,
}
