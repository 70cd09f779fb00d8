//! Replaces identifiers in a text by surrogates. The step before it finds them; the text after it
//! may be shown to a model.

use std::fmt;

use crate::{Kind, KnownIdentifiers, Searcher, detect};

/// Where an identifier stands in a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// First character.
    pub start: usize,
    /// One past the last character.
    pub end: usize,
    /// What it is.
    pub kind: Kind,
    /// How sure the finder is, 0 to 1; a known identifier is 1.
    pub score: f32,
}

/// A text without the identifiers that were found in it.
#[derive(Clone, PartialEq)]
pub struct Scrubbed {
    /// The text with surrogates such as `[NAME]`.
    pub text: String,
    /// Where identifiers stood in the input, in characters.
    pub spans: Vec<Span>,
}

impl fmt::Debug for Scrubbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is left may still hold what no detector knows.
        f.debug_struct("Scrubbed")
            .field("spans", &self.spans)
            .finish_non_exhaustive()
    }
}

/// Replaces known identifiers and whatever the deterministic detectors find.
///
/// Clinical text stays as it is; what has no form (a bare unknown name in mid-sentence) is not
/// found here.
pub fn scrub(text: &str, known: &KnownIdentifiers) -> Scrubbed {
    scrub_with(text, &known.searcher())
}

/// [`scrub`] with a search that was prepared for more than one text.
pub fn scrub_with(text: &str, searcher: &Searcher) -> Scrubbed {
    let mut spans = searcher.find(text);
    spans.extend(detect::detect(text));
    let spans = merge(spans);
    let mut out = String::with_capacity(text.len());
    let mut next = spans.iter().peekable();
    for (index, c) in text.chars().enumerate() {
        while next.peek().is_some_and(|span| span.end <= index) {
            next.next();
        }
        match next.peek() {
            Some(span) if span.start == index => out.push_str(span.kind.surrogate()),
            Some(span) if span.start < index => {}
            _ => out.push(c),
        }
    }
    Scrubbed { text: out, spans }
}

/// Sorts spans and joins those that overlap; the surest, then the longest, names the kind.
pub(crate) fn merge(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by(|a, b| (a.start, b.end).cmp(&(b.start, a.end)));
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match merged.last_mut() {
            Some(last) if span.start < last.end => {
                let longer = span.end - span.start > last.end - last.start;
                if span.score > last.score || (span.score >= last.score && longer) {
                    last.kind = span.kind;
                    last.score = span.score;
                }
                last.end = last.end.max(span.end);
            }
            _ => merged.push(span),
        }
    }
    merged
}
