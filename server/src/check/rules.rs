//! The first rules for drafts. Each blocks, which withholds the text; what a finding means is the
//! matter of the Reports issue.

use cloister_proto::v1::ReasonCode;
use cloister_scrub::scrub;

use super::DraftView;
use crate::draft::sentences::sentence_ends;
use crate::screen::guard::{Guard, GuardError, Verdict};
use crate::screen::text::plain;

/// Words in a row that count as an echo of the safety prefix.
const ECHO_WORDS: usize = 6;
/// Longest section, in characters.
const MAX_SECTION_CHARS: usize = 4000;
/// Times that one sentence may stand in a section.
const MAX_REPEATS: usize = 3;

/// Input: a draft. Blocks when an identifier stands in it, known or detected. Does not catch: a
/// name that looks like a word.
pub(super) struct Identifiers;

impl Guard<DraftView> for Identifiers {
    fn name(&self) -> &'static str {
        "identifiers"
    }

    fn check(&self, draft: &DraftView) -> Result<Verdict, GuardError> {
        let clean =
            |text: &str| !draft.known.is_hit(text) && scrub(text, &draft.known).spans.is_empty();
        let clean = clean(&draft.findings) && clean(&draft.impression);
        Ok(if clean {
            Verdict::Allow
        } else {
            Verdict::Block(ReasonCode::ResidualIdentifier)
        })
    }
}

/// Input: a draft. Blocks when it repeats the safety prefix: the model then writes its
/// instructions, not the film.
pub(super) struct Echo;

impl Guard<DraftView> for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn check(&self, draft: &DraftView) -> Result<Verdict, GuardError> {
        let prefix = words(&draft.prefix);
        let echoed = [&draft.findings, &draft.impression]
            .into_iter()
            .any(|text| {
                let text = words(text);
                text.windows(ECHO_WORDS)
                    .any(|run| prefix.windows(ECHO_WORDS).any(|known| known == run))
            });
        Ok(if echoed {
            Verdict::Block(ReasonCode::IncompleteDraft)
        } else {
            Verdict::Allow
        })
    }
}

/// Input: a draft. Blocks when a section is empty or the end token is missing.
pub(super) struct Sections;

impl Guard<DraftView> for Sections {
    fn name(&self) -> &'static str {
        "sections"
    }

    fn check(&self, draft: &DraftView) -> Result<Verdict, GuardError> {
        let whole = draft.finished
            && !draft.findings.trim().is_empty()
            && !draft.impression.trim().is_empty();
        Ok(if whole {
            Verdict::Allow
        } else {
            Verdict::Block(ReasonCode::IncompleteDraft)
        })
    }
}

/// Input: a draft. Blocks what is no row of sentences: no final stop, control characters, marks of
/// the tokenizer, one sentence again and again.
pub(super) struct SentenceForm;

impl Guard<DraftView> for SentenceForm {
    fn name(&self) -> &'static str {
        "sentence_form"
    }

    fn check(&self, draft: &DraftView) -> Result<Verdict, GuardError> {
        let sound = is_sound(&draft.findings) && is_sound(&draft.impression);
        Ok(if sound {
            Verdict::Allow
        } else {
            Verdict::Block(ReasonCode::IncompleteDraft)
        })
    }
}

fn is_sound(section: &str) -> bool {
    let text = section.trim();
    if !text.ends_with(['.', '?', '!']) || text.chars().count() > MAX_SECTION_CHARS {
        return false;
    }
    if text.chars().any(|character| {
        character.is_control() || character == '\u{fffd}' || matches!(character, '<' | '>')
    }) {
        return false;
    }
    let mut sentences = Vec::new();
    let mut start = 0;
    for end in sentence_ends(text) {
        sentences.push(text.get(start..end).unwrap_or_default().trim());
        start = end;
    }
    sentences.iter().all(|sentence| {
        sentence.chars().any(char::is_alphabetic)
            && sentences.iter().filter(|other| other == &sentence).count() <= MAX_REPEATS
    })
}

fn words(text: &str) -> Vec<String> {
    plain(text)
        .split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{is_sound, words};

    #[test]
    fn a_row_of_sentences_is_sound_and_rubbish_is_not() {
        assert!(is_sound("The lungs are clear. No effusion."));
        for text in [
            "",
            "The lungs are",
            "a.\u{0}",
            "<findings> Clear.",
            ". . .",
            "No. No. No. No. No.",
        ] {
            assert!(!is_sound(text), "{text}");
        }
    }

    #[test]
    fn words_ignore_case_and_punctuation() {
        assert_eq!(
            words("Give no ADVICE, ever."),
            ["give", "no", "advice", "ever"]
        );
    }
}
