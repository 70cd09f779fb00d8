//! Input: a query. Output: blocks one that plainly asks for something else. Cost: two regexes. Does
//! not catch: anything subtle, on purpose: a short or odd clinical query must pass.

use std::sync::LazyLock;

use cloister_proto::v1::ReasonCode;
use regex::Regex;

use super::guard::{Guard, GuardError, Verdict};
use super::text::plain;

static PATTERNS: LazyLock<Option<(Regex, Regex)>> = LazyLock::new(|| {
    let elsewhere = concat!(
        r"\b(?:write|compose|tell|give|sing)\b.{0,20}\b(?:poem|song|story|joke|essay|limerick|screenplay|recipe)\b",
        r"|\b(?:write|debug|fix|generate)\b.{0,20}\b(?:python|javascript|java|sql|html|code|script|program)\b",
        r"|\b(?:weather|stock price|share price|bitcoin|lottery|horoscope|football|world cup|election)\b",
        r"|\btranslate\b.{0,20}\b(?:into|to) (?:french|german|spanish|english|chinese|latin)\b",
    );
    let medical = concat!(
        r"\b(?:chest|lung|film|x-?ray|radiograph|patient|pain|cough|fever|dyspn|breath|pneumo|effusion|heart|cardi",
        r"|opaci|nodule|mass|fracture|tube|line|catheter|pacemaker|oedema|edema|infect|sepsis|cancer|tumou?r|surg",
        r"|post-?op|hypox|trauma|copd|asthma|tb|tubercul|rib|mediastin|hilar|symptom|clinical|diagnos)",
    );
    Some((Regex::new(elsewhere).ok()?, Regex::new(medical).ok()?))
});

/// Refuses queries that are not about medicine.
#[derive(Debug)]
pub(crate) struct Relevance;

impl Guard<str> for Relevance {
    fn name(&self) -> &'static str {
        "relevance"
    }

    fn check(&self, text: &str) -> Result<Verdict, GuardError> {
        let (elsewhere, medical) = PATTERNS.as_ref().ok_or(GuardError)?;
        let text = plain(text);
        let strange = elsewhere.is_match(&text) && !medical.is_match(&text);
        Ok(if strange {
            Verdict::Block(ReasonCode::NonMedical)
        } else {
            Verdict::Allow
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Guard, Relevance, Verdict};

    #[test]
    fn plainly_other_requests_are_refused_and_odd_clinical_ones_pass() {
        let allowed = |text: &str| Relevance.check(text).unwrap() == Verdict::Allow;
        assert!(!allowed("Write me a poem about the sea"));
        assert!(!allowed("What will the weather be tomorrow?"));
        assert!(allowed("?LVF"));
        assert!(allowed(""));
        assert!(allowed("Fell playing football, rib fracture?"));
    }
}
