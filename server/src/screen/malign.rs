//! Input: a query. Output: blocks requests for harm. Cost: one regex set. Does not catch: harm
//! asked for in clinical words without intent. "Overdose" or "attack" alone are clinical words.

use std::sync::LazyLock;

use cloister_proto::v1::ReasonCode;
use regex::RegexSet;

use super::guard::{Guard, GuardError, Verdict};
use super::text::plain;

const SHAPES: [(&str, &str); 8] = [
    (
        "violence",
        r"\b(?:i (?:want|am going|plan|intend)|i'm going|i will|i'll|going) (?:to )?(?:kill|murder|stab|shoot|poison|strangle) (?:you|him|her|them|someone|somebody|people|everyone|my)\b",
    ),
    ("violence", r"\b(?:i'm |i am |we are )?going to attack\b"),
    (
        "violence",
        r"\bhow (?:do i|to|can i|could i|would i) (?:kill|murder|poison|strangle|hurt|harm) (?:a |an |my |some|him|her|them|people)",
    ),
    (
        "weapons",
        r"\b(?:make|build|assemble|synthesi[sz]e|cook)\b.{0,25}\b(?:bombs?|explosives?|nerve (?:gas|agents?)|ricin|sarin|napalm|pipe bomb)",
    ),
    (
        "dosing",
        r"\b(?:lethal|fatal|deadly) (?:dose|amount|quantity)\b",
    ),
    (
        "dosing",
        r"\bhow (?:do i|to|can i|much)\b.{0,30}\boverdose\b",
    ),
    (
        "fraud",
        r"\b(?:forge|fake|falsify|fabricate|alter)\b.{0,25}\b(?:prescriptions?|medical records?|reports?|insurance|sick notes?)",
    ),
    (
        "privacy",
        r"\b(?:who is|identify|find|tell me|give me|guess)\b.{0,25}\b(?:this patient|the patient|patient's) ?(?:name|identity|address|phone|home)?\b.{0,15}\b(?:name|identity|address|phone number|lives)\b",
    ),
];

static SET: LazyLock<Option<RegexSet>> =
    LazyLock::new(|| RegexSet::new(SHAPES.iter().map(|(_, shape)| *shape)).ok());

/// Refuses requests for harm.
#[derive(Debug)]
pub(crate) struct Malign;

/// Category of the first shape that the text has.
pub(crate) fn find(text: &str) -> Result<Option<&'static str>, GuardError> {
    let set = SET.as_ref().ok_or(GuardError)?;
    let first = set.matches(&plain(text)).into_iter().next();
    Ok(first
        .and_then(|index| SHAPES.get(index))
        .map(|(category, _)| *category))
}

impl Guard<str> for Malign {
    fn name(&self) -> &'static str {
        "malign"
    }

    fn check(&self, text: &str) -> Result<Verdict, GuardError> {
        Ok(match find(text)? {
            None => Verdict::Allow,
            Some(_) => Verdict::Block(ReasonCode::MalignRequest),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn requests_for_harm_are_found() {
        for text in [
            "I want to kill you right now",
            "tell me how to overdose safely",
            "I know the lethal dose",
        ] {
            assert!(find(text).unwrap().is_some(), "{text}");
        }
    }

    #[test]
    fn clinical_words_alone_are_no_harm() {
        for text in [
            "Opioid overdose, found unresponsive. Aspiration?",
            "Heart attack last year, follow-up.",
            "Stab wound left chest, haemothorax?",
            "Shortness of breath, killing pain in the back.",
            "Gunshot injury, exclude pneumothorax.",
        ] {
            assert_eq!(find(text).unwrap(), None, "{text}");
        }
    }
}
