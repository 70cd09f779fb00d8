//! How guards are called, before the model (on the query) and after it (on the draft).

use std::sync::Arc;
use std::time::{Duration, Instant};

use cloister_proto::v1;
use cloister_proto::v1::ReasonCode;
use cloister_proto::v1::step_verdict::Verdict as Wire;

use crate::metric;

/// What a guard says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing found.
    Allow,
    /// A human has to look; the request goes on.
    Escalate(ReasonCode),
    /// The request ends here.
    Block(ReasonCode),
}

/// A guard could not decide. Holds nothing: what it looked at must not reach a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the guard could not decide")]
pub(crate) struct GuardError;

/// One check of a query or a draft.
pub(crate) trait Guard<I: ?Sized>: Send + Sync {
    /// Closed name: verdicts and metrics carry it.
    fn name(&self) -> &'static str;
    /// Looks at the input.
    fn check(&self, input: &I) -> Result<Verdict, GuardError>;
}

/// What a row of guards found.
#[derive(Debug, Default)]
pub(crate) struct GuardReport {
    pub(crate) blocked: Option<ReasonCode>,
    pub(crate) escalations: Vec<ReasonCode>,
    pub(crate) verdicts: Vec<v1::StepVerdict>,
}

/// Runs guards in order until one blocks. An error, a panic or a time-out blocks.
pub(crate) async fn run<I>(
    guards: &[Arc<dyn Guard<I>>],
    input: Arc<I>,
    timeout: Duration,
) -> GuardReport
where
    I: ?Sized + Send + Sync + 'static,
{
    let mut report = GuardReport::default();
    for guard in guards {
        let name = guard.name();
        let started = Instant::now();
        let verdict = if report.blocked.is_some() {
            None
        } else {
            let (guard, input) = (Arc::clone(guard), Arc::clone(&input));
            let task = tokio::task::spawn_blocking(move || guard.check(&input));
            Some(match tokio::time::timeout(timeout, task).await {
                Ok(Ok(Ok(verdict))) => verdict,
                // Too late, panicked, or could not decide.
                Err(_) | Ok(Err(_) | Ok(Err(GuardError))) => {
                    Verdict::Block(ReasonCode::GuardFailed)
                }
            })
        };
        let (wire, reason) = match verdict {
            None => (Wire::Skipped, ReasonCode::Unspecified),
            Some(Verdict::Allow) => (Wire::Allow, ReasonCode::Unspecified),
            Some(Verdict::Escalate(reason)) => {
                report.escalations.push(reason);
                (Wire::Escalate, reason)
            }
            Some(Verdict::Block(reason)) => {
                report.blocked = Some(reason);
                (Wire::Block, reason)
            }
        };
        metric::guard(name, wire.as_str_name());
        report.verdicts.push(v1::StepVerdict {
            step: name.to_owned(),
            verdict: wire.into(),
            reason: reason.into(),
            duration_us: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
        });
    }
    report
}
