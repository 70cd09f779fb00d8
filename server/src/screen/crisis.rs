//! Input: a query. Output: escalates text that speaks of suicide or self-harm. Cost: a few regexes.
//! Does not catch: veiled hints. A denial ("denies suicidal ideation") and a distant past
//! ("history of self-harm in 2009") are no crisis; "last night" or "today" is no past.

use std::sync::LazyLock;

use cloister_proto::v1::ReasonCode;
use regex::Regex;

use super::guard::{Guard, GuardError, Verdict};
use super::text::plain;

struct Patterns {
    phrase: Regex,
    negation: Regex,
    past: Regex,
    recent: Regex,
    boundary: Regex,
}

static PATTERNS: LazyLock<Option<Patterns>> = LazyLock::new(|| {
    let phrase = concat!(
        r"\bsuicid(?:e|al|ality)\b|\bself[- ]?(?:harm(?:ing|ed)?|injur(?:y|ies|ing|ed)|poison(?:ing|ed))\b",
        r"|\b(?:kill|hurt|harm|hang|shoot|stab|cut|poison) ?(?:myself|himself|herself|themselves|themself)\b",
        r"|\b(?:killing|hurting|harming|hanging|cutting) (?:myself|himself|herself|themselves)\b",
        r"|\b(?:end|ending|take|taking|ended|took) (?:my|his|her|their) (?:own )?life\b|\bend it all\b",
        r"|\b(?:want(?:s|ed)?|wish(?:es|ed)?|going|plan(?:s|ning)?) (?:(?:to|i|he|she|they) )?(?:be|was|were|to be) dead\b",
        r"|\b(?:want(?:s|ed)?|wish(?:es|ed)?) to die\b|\bno (?:reason|point) (?:to|in) liv(?:e|ing)\b",
        r"|\bbetter off dead\b|\bintentional(?:ly)? (?:overdos(?:e|ed)|ingest(?:ion|ed)|poisoning)\b",
        r"|\b(?:deliberate|purposeful) overdose\b|\boverdos(?:e|ed) on purpose\b",
    );
    Some(Patterns {
        phrase: Regex::new(phrase).ok()?,
        negation: Regex::new(
            r"\b(?:denie[sd]|deny(?:ing)?|no|not|without|negative for|never|nil|absence of|free of)\b",
        )
        .ok()?,
        past: Regex::new(r"\b(?:history of|h/o|hx of|past|previous(?:ly)?|prior|remote|years ago|in (?:19|20)\d\d|as a (?:child|teenager))\b")
            .ok()?,
        recent: Regex::new(
            r"\b(?:last night|tonight|today|yesterday|now|current(?:ly)?|this (?:morning|evening|afternoon|week)|just|hours? ago|ongoing|active(?:ly)?|again)\b",
        )
        .ok()?,
        // Where the reach of a denial ends.
        boundary: Regex::new(r"[.;:!?,]|\b(?:but|however|although|though|except|then|yet|and (?:i|he|she|they|now|wants?|took))\b").ok()?,
    })
});

/// Escalates crisis text.
#[derive(Debug)]
pub(crate) struct Crisis;

/// Whether the text speaks of a crisis.
pub(crate) fn find(text: &str) -> Result<bool, GuardError> {
    let patterns = PATTERNS.as_ref().ok_or(GuardError)?;
    let text = plain(text);
    for sentence in text.split_inclusive(['.', '!', '?', ';']) {
        for found in patterns.phrase.find_iter(sentence) {
            let before = sentence.get(..found.start()).unwrap_or_default();
            let clause_start = patterns
                .boundary
                .find_iter(before)
                .last()
                .map_or(0, |boundary| boundary.end());
            let clause = before.get(clause_start..).unwrap_or_default();
            let clause_end = sentence.get(found.start()..).unwrap_or_default();
            // "no suicidal thoughts" denies; "no reason to live" is the phrase itself.
            let denied = patterns.negation.is_match(clause);
            // "attempt last night" is no history, whatever else the sentence says.
            let past = (patterns.past.is_match(clause) || patterns.past.is_match(clause_end))
                && !patterns.recent.is_match(sentence);
            if !denied && !past {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

impl Guard<str> for Crisis {
    fn name(&self) -> &'static str {
        "crisis"
    }

    fn check(&self, text: &str) -> Result<Verdict, GuardError> {
        Ok(if find(text)? {
            Verdict::Escalate(ReasonCode::CrisisText)
        } else {
            Verdict::Allow
        })
    }
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn crisis_is_found() {
        for text in [
            "I want to kill myself tonight",
            "Suicide attempt last night, aspiration?",
            "History of suicide attempts, took pills again last night to end her life",
            "Denies chest pain, but wants to die",
            "denies cough, suicidal thoughts since Monday",
            "I wish i was dead",
            "No reason to live, he says",
            "Intentional ingestion of bleach",
            "No fever. Suicidal.",
        ] {
            assert!(find(text).unwrap(), "{text}");
        }
    }

    #[test]
    fn denial_and_distant_past_are_no_crisis() {
        for text in [
            "",
            "Denies suicidal ideation.",
            "No suicidal thoughts or self-harm",
            "History of self-harm in 2009, now cough.",
            "Patient denies any wish to be dead or suicidal intent",
            "Accidental ingestion of a coin",
            "Cough last night",
        ] {
            // "now cough" is another clause of the same sentence: recent wins there, on purpose.
            let expected = text.contains("now");
            assert_eq!(find(text).unwrap(), expected, "{text}");
        }
    }
}
