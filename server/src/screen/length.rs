//! Input: a query. Output: blocks one that is too long. Cost: one pass. Does not catch: anything
//! that fits.

use cloister_proto::v1::ReasonCode;

use super::guard::{Guard, GuardError, Verdict};

/// Bounds the query.
#[derive(Debug)]
pub(crate) struct Length {
    pub(crate) max_chars: usize,
}

impl Guard<str> for Length {
    fn name(&self) -> &'static str {
        "length"
    }

    fn check(&self, text: &str) -> Result<Verdict, GuardError> {
        let fits = text.chars().nth(self.max_chars).is_none();
        Ok(if fits {
            Verdict::Allow
        } else {
            Verdict::Block(ReasonCode::QueryTooLong)
        })
    }
}
