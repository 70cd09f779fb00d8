//! Finds identifiers by their form, with no knowledge of the patient. Patterns are cheap and
//! deterministic; each asks for context where its bare form also occurs in clinical text.

use std::sync::LazyLock;

use regex::Regex;

use crate::{Kind, Span, common::is_common};

struct Detector {
    kind: Kind,
    score: f32,
    /// Group 1 is the identifier; without a group the whole match is.
    regex: Regex,
    accept: fn(&str) -> bool,
}

/// Spans of all detectors, in characters, unsorted.
pub(crate) fn detect(text: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    for detector in DETECTORS.iter() {
        // Matches come in order, so characters are counted once.
        let (mut bytes, mut characters) = (0, 0);
        for found in detector.regex.captures_iter(text) {
            let Some(part) = found.get(1).or_else(|| found.get(0)) else {
                continue;
            };
            if !(detector.accept)(part.as_str()) {
                continue;
            }
            let between = text.get(bytes..part.start()).unwrap_or_default();
            let start = characters + between.chars().count();
            let end = start + part.as_str().chars().count();
            (bytes, characters) = (part.end(), end);
            spans.push(Span {
                start,
                end,
                kind: detector.kind,
                score: detector.score,
            });
        }
    }
    spans
}

fn any(_: &str) -> bool {
    true
}

fn has_digit(text: &str) -> bool {
    text.chars().any(|c| c.is_ascii_digit())
}

/// A name candidate counts unless all its words are ordinary ones.
fn is_name(text: &str) -> bool {
    let mut words = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.len() > 1);
    words.any(|word| !is_clinical(&word.to_lowercase()))
}

/// After a title every capitalised word is a name.
fn titled(text: &str) -> bool {
    text.chars().filter(|c| c.is_alphabetic()).count() > 1
}

fn is_clinical(word: &str) -> bool {
    const CLINICAL: &str = "has have had is was with presents presented presenting reports denies
        complains status history care left right in on at to of after before during sitting standing
        rotated rotation positioning position motion intubated admitted underwent remains";
    is_common(word)
        || CLINICAL
            .split_ascii_whitespace()
            .any(|clinical| clinical == word)
}

const MONTH: &str = r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC|january|february|april|june|july|august|september|october|november|december)\.?";
/// One to four capitalised words, initials allowed.
const WORDS: &str = r"(?:\p{Lu}\.\s?)*\p{Lu}[\p{L}'’\-]+(?:[ ,^]+(?:(?:van|von|de|der|den|la|le|di|da|bin|al|el)\s)*\p{Lu}[\p{L}'’\-]*\.?){0,3}";

type Row = (Kind, f32, String, fn(&str) -> bool);

static DETECTORS: LazyLock<Vec<Detector>> = LazyLock::new(|| {
    rows()
        .into_iter()
        .filter_map(|(kind, score, pattern, accept)| {
            Some(Detector {
                kind,
                score,
                regex: Regex::new(&pattern).ok()?,
                accept,
            })
        })
        .collect()
});

fn rows() -> Vec<Row> {
    let day = r"(?:0?[1-9]|[12]\d|3[01])";
    let month = r"(?:0?[1-9]|1[0-2])";
    let year = r"(?:(?:19|20)\d{2})";
    vec![
        (Kind::Email, 0.99, r"(?i)[a-z0-9._%+\-]+@[a-z0-9\-]+(?:\.[a-z0-9\-]+)*\.[a-z]{2,}".into(), any),
        (Kind::Url, 0.98, r#"(?i)\b(?:(?:https?|ftp)://|www\.)[^\s<>"]+"#.into(), any),
        (Kind::Ip, 0.95, r"\b(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)\b".into(), any),
        (Kind::Ip, 0.9, r"(?i)\b(?:[0-9a-f]{1,4}:){4,7}[0-9a-f]{1,4}\b".into(), any),
        (Kind::Uid, 0.95, r"\b[0-2](?:\.\d+){5,}\b".into(), any),
        (Kind::Ssn, 0.97, r"\b\d{3}-\d{2}-\d{4}\b".into(), any),
        (Kind::Ssn, 0.97, r"(?i)\b(?:ssn|social security(?: number| no\.?)?)\s*(?:is|:|#|=)?\s*(\d{3}[ -]?\d{2}[ -]?\d{4})\b".into(), any),
        (Kind::Phone, 0.95, r"(?:\+?1[-. ]?)?(?:\(\d{3}\)\s?|\b\d{3}[-. ])\d{3}[-. ]\d{4}\b(?:\s?(?:x|ext\.?)\s?\d+)?".into(), any),
        (Kind::Phone, 0.93, r"\+\d{1,3}[ .-]?(?:\(?\d{1,4}\)?[ .-]?){2,5}\d{2,4}\b".into(), any),
        (Kind::Phone, 0.9, r"(?i)\b(?:phone|tel|telephone|fax|cell|mobile|pager|call(?:ed)?(?: back)?(?: at| on)?)\s*(?:no\.?|number)?\s*(?:is|:|#|at)?\s*(\+?\(?\d[\d ().\-]{5,}\d)".into(), any),
        (Kind::Date, 0.97, format!(r"\b{year}[-/.]{month}[-/.]{day}(?:T\d{{2}}:\d{{2}}(?::\d{{2}})?Z?)?\b"), any),
        (Kind::Date, 0.95, format!(r"\b{day}[-/.]{month}[-/.](?:{year}|\d{{2}})\b"), any),
        (Kind::Date, 0.95, format!(r"\b{month}[-/.]{day}[-/.](?:{year}|\d{{2}})\b"), any),
        (Kind::Date, 0.95, format!(r"\b{year}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\b"), any),
        (Kind::Date, 0.95, format!(r"\b{MONTH}[ -]{day}(?:st|nd|rd|th)?(?:,?[ -]+{year})?\b"), any),
        (Kind::Date, 0.95, format!(r"\b{day}(?:st|nd|rd|th)?[ -]?(?:of )?{MONTH}(?:,?[ -]?(?:{year}|\d{{2}}\b))?"), any),
        (Kind::Date, 0.9, format!(r"\b{MONTH}[ -]{year}\b"), any),
        (Kind::Date, 0.9, r"(?i)\b(?:dob|d\.o\.b\.?|date of birth|born(?: on)?)\s*(?:is|:|=)?\s*(\d[\d/.\- ]{4,}\d)".into(), any),
        (Kind::Mrn, 0.97, r"(?i)\b(?:m\.?r\.?n\.?|medical record(?:\s*(?:number|no\.?|num))?|(?:patient|pt|hospital|chart|record|unit)\s*(?:id|identifier|number|no\.?|num|#))\s*(?:is|:|#|=|no\.?|number)*\s*([A-Z0-9][A-Z0-9\-/.]{2,}[A-Z0-9])".into(), has_digit),
        (Kind::Id, 0.95, r"(?i)\b(?:accession|acc|order|case|visit|encounter|admission|specimen|NHS)\s*(?:id|number|no\.?|num|#)\s*(?:is|:|#|=)*\s*([A-Z0-9][A-Z0-9\- ]{2,}[A-Z0-9])\b".into(), has_digit),
        (Kind::Id, 0.9, r"(?i)\baccession\s*(?:is|:|#|=)?\s*([A-Z0-9][A-Z0-9\-]{3,})\b".into(), has_digit),
        (Kind::Account, 0.93, r"(?i)\b(?:account|acct|a/c|policy|insurance|member(?:ship)?|beneficiary|medicare|medicaid|licen[cs]e|certificate|passport|credit card|card)\s*(?:id|number|no\.?|num|#)?\s*(?:is|:|#|=)*\s*([A-Z0-9][A-Z0-9\- ]{3,}[A-Z0-9])\b".into(), has_digit_run),
        (Kind::Id, 0.6, r"\b\d{7,}\b".into(), any),
        (Kind::Id, 0.6, r"\b[A-Z]{1,4}-?\d{6,}\b".into(), any),
        (Kind::Name, 0.95, format!(r"\b(?:Drs?|Mrs?|Ms|Prof|Professor|Doctor|Mister|Madam|Miss|Sr|Sra|Herr|Frau|Mme|DR|MRS|PROF)\b\.?\s+({WORDS})"), titled),
        (Kind::Name, 0.93, format!(r"(?i:\b(?:patient|pt|patient'?s|full|first|last|family|given|mother'?s|father'?s)\s+name|\bname)\s*(?i:is|:|=)\s*({WORDS})"), titled),
        (Kind::Name, 0.9, r"(?i:\b(?:named|called|signed by|dictated by|read by|reviewed by|referred by|discussed with|reported to|communicated to|notified|attending|radiologist|physician|surgeon|technologist|son|daughter|wife|husband|mother|father|for|about|regarding))\s*:?\s+(\p{Lu}\p{Ll}+(?:-\p{Lu}\p{Ll}+)?,?\s(?:\p{Lu}\.?\s)?\p{Lu}\p{Ll}+(?:-\p{Lu}\p{Ll}+)?)\b".into(), all_names),
        (Kind::Name, 0.85, r"\b(?:[Pp]atient|[Pp]t\.?)\s*:?\s+(\p{Lu}\p{Ll}+,?\s(?:\p{Lu}\.?\s)?\p{Lu}\p{Ll}+(?:-\p{Lu}\p{Ll}+)?)\b".into(), all_names),
        (Kind::Name, 0.85, format!(r"\b({WORDS}),?\s(?:MD|M\.D\.|DO|D\.O\.|RN|PhD|FRCR|MBBS|NP|PA-C)\b"), is_name),
        (Kind::Name, 0.9, r"\b\p{Lu}[\p{L}'\-]+\^\p{Lu}[\p{L}'\-]*(?:\^[\p{L}'\-]*)*".into(), any),
        (Kind::Age, 0.95, r"(?i)\b((?:9\d|1[0-2]\d)[- ]?(?:years?|yrs?|y)[-/. ]?(?:old|o\b|of age)?\.?)".into(), any),
        (Kind::Age, 0.95, r"(?i)\b(?:aged?|age is)\s*:?\s*((?:9\d|1[0-2]\d))\b".into(), any),
        (Kind::Age, 0.9, r"\b((?:9\d|1[0-2]\d)\s?(?:[MF]|yo|y/o))\b".into(), any),
        (Kind::Address, 0.93, r"\b\d{1,5}[A-Za-z]?\s(?:(?:N|S|E|W|North|South|East|West)\.?\s)?(?:\p{Lu}[\p{L}'.]*\s){1,4}(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Ct|Way|Place|Pl|Square|Sq|Terrace|Ter|Highway|Hwy|Parkway|Pkwy|Close|Crescent)\b\.?(?:,?\s(?:Apt|Suite|Unit|#)\.?\s?\w+)?".into(), any),
        (Kind::Address, 0.9, r"(?i)\bP\.?\s?O\.?\s?Box\s\d+".into(), any),
        (Kind::Address, 0.9, r"\b(?:\p{Lu}\p{Ll}+(?:\s\p{Lu}\p{Ll}+)?,\s)?(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY])\s\d{5}(?:-\d{4})?\b".into(), any),
        (Kind::Address, 0.8, r"\b[A-Z]{1,2}\d[A-Z\d]?\s\d[ABD-HJLNP-UW-Z]{2}\b".into(), any),
        (Kind::Address, 0.85, r"(?i)\b(?:zip|postal|post)\s*code\s*:?\s*([A-Z0-9][A-Z0-9 \-]{2,9}[A-Z0-9])\b".into(), has_digit),
    ]
}

fn has_digit_run(text: &str) -> bool {
    text.chars().filter(char::is_ascii_digit).count() >= 4
}

fn all_names(text: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.len() > 1)
        .all(|word| !is_clinical(&word.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::{DETECTORS, rows};

    #[test]
    fn every_pattern_compiles() {
        assert_eq!(DETECTORS.len(), rows().len());
    }
}
