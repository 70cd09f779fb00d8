//! The deterministic stage behind `SafeguardService` and `/v1/evaluate`: injection, crisis, harm,
//! in this order.

use std::time::{Duration, Instant};

use cloister_proto::v1::SafeguardLabel as Label;

use super::{crisis, injection, malign};
use crate::metric::{self, Metric};

/// Name of the only stage so far.
pub(crate) const STAGE: &str = "deterministic";
/// Longest text, in characters.
pub(crate) const MAX_CHARS: usize = 8192;

/// What a text is.
#[derive(Debug, Clone)]
pub(crate) struct Evaluation {
    pub(crate) label: Label,
    pub(crate) triggered_by: String,
    pub(crate) time: Duration,
}

impl Evaluation {
    /// Code of the label in the HTTP contract.
    pub(crate) const fn code(&self) -> u32 {
        match self.label {
            Label::Valid => 100,
            Label::Malign => 400,
            Label::Crisis => 406,
            Label::ServerError | Label::Unspecified => 500,
        }
    }

    /// The label's name in the HTTP contract.
    pub(crate) const fn name(&self) -> &'static str {
        match self.label {
            Label::Valid => "Valid",
            Label::Malign => "Malign",
            Label::Crisis => "Crisis",
            Label::ServerError | Label::Unspecified => "Server Error",
        }
    }
}

/// Whether a text may be evaluated at all.
pub(crate) fn is_evaluable(text: &str) -> bool {
    !text.trim().is_empty() && text.chars().nth(MAX_CHARS).is_none()
}

/// Evaluates a text. What cannot be decided is a server error, never valid.
pub(crate) fn evaluate(text: &str) -> Evaluation {
    let started = Instant::now();
    let decided = (|| {
        if let Some(id) = injection::find(text)? {
            return Ok((Label::Malign, format!("bypass:{id}")));
        }
        if crisis::find(text)? {
            return Ok((Label::Crisis, "keyword:crisis".to_owned()));
        }
        if let Some(category) = malign::find(text)? {
            return Ok((Label::Malign, format!("keyword:{category}")));
        }
        Ok::<_, super::guard::GuardError>((Label::Valid, String::new()))
    })();
    let (label, triggered_by) = decided.unwrap_or((Label::ServerError, "error".to_owned()));
    metric::count(Metric::EvaluationsTotal, "label", label.as_str_name());
    Evaluation {
        label,
        triggered_by,
        time: started.elapsed(),
    }
}
