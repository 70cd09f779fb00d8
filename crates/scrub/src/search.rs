//! Looks for known identifiers, in text and in raw bytes. Comes after the needles are made.

use std::fmt;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::{
    Kind, KnownIdentifiers, Span,
    encodings::encodings,
    fold::Folded,
    needle::{Edge, Needles},
};

/// A prepared search for the identifiers of one film.
pub struct Searcher {
    words: Option<AhoCorasick>,
    word_kinds: Vec<Kind>,
    compact: Option<AhoCorasick>,
    compact_rules: Vec<(Kind, Edge)>,
    bytes: Option<AhoCorasick>,
    byte_rules: Vec<ByteRule>,
    /// Not everything can be looked for, so everything is a hit.
    overflow: bool,
}

/// Encoded forms of all identifiers together, and their bytes: each byte may cost the automaton
/// some fifty.
const MAX_PATTERNS: usize = 1 << 18;
const MAX_PATTERN_BYTES: usize = 4 << 20;

#[derive(Debug, Clone, Copy)]
struct ByteRule {
    edge: Edge,
    /// Bytes per character.
    width: usize,
    /// The same byte distances could be a shade or a ramp in an image.
    pixel_like: bool,
}

impl Searcher {
    pub(crate) fn new(known: &KnownIdentifiers) -> Self {
        let mut needles = Needles::default();
        for (kind, value) in known.iter() {
            needles.add(kind, value);
        }
        needles.tidy();
        if needles.overflow {
            return Self::shut();
        }
        let word_patterns: Vec<String> = needles
            .words
            .iter()
            .map(|(words, _)| format!(" {words} "))
            .collect();
        let compact_patterns: Vec<&str> = needles
            .compact
            .iter()
            .map(|(text, ..)| text.as_str())
            .collect();
        let mut patterns = Vec::new();
        let mut byte_rules = Vec::new();
        let mut pattern_bytes = 0;
        for literal in &needles.literals {
            let shade = pixel_like(&literal.text);
            for (pattern, width) in encodings(literal) {
                byte_rules.push(ByteRule {
                    edge: if width == 0 { Edge::Free } else { literal.edge },
                    width,
                    pixel_like: shade || pattern.len() < 6,
                });
                pattern_bytes += pattern.len();
                patterns.push(pattern);
            }
            if patterns.len() > MAX_PATTERNS || pattern_bytes > MAX_PATTERN_BYTES {
                return Self::shut();
            }
        }
        Self {
            words: automaton(&word_patterns),
            word_kinds: needles.words.iter().map(|(_, kind)| *kind).collect(),
            compact: automaton(&compact_patterns),
            compact_rules: needles
                .compact
                .iter()
                .map(|(_, kind, edge)| (*kind, *edge))
                .collect(),
            bytes: automaton(&patterns),
            byte_rules,
            overflow: false,
        }
    }

    const fn shut() -> Self {
        Self {
            words: None,
            word_kinds: Vec::new(),
            compact: None,
            compact_rules: Vec::new(),
            bytes: None,
            byte_rules: Vec::new(),
            overflow: true,
        }
    }

    /// Whether every identifier is looked for. Otherwise there were too many or too long ones, and
    /// every text and all bytes count as a hit.
    pub const fn is_complete(&self) -> bool {
        !self.overflow
    }

    /// Where `text` holds identifiers, in characters, sorted and without overlaps.
    pub fn find(&self, text: &str) -> Vec<Span> {
        let folded = Folded::new(text);
        let mut spans = Vec::new();
        let unbuilt = self.overflow
            || self.words.is_none() && !self.word_kinds.is_empty()
            || self.compact.is_none() && !self.compact_rules.is_empty();
        if unbuilt && !folded.solid.is_empty() {
            spans.push(Span {
                start: 0,
                end: folded.solid.len(),
                kind: Kind::Id,
                score: 1.0,
            });
        }
        if let Some(words) = &self.words {
            for hit in words.find_overlapping_iter(&folded.words) {
                // The pattern's own first and last byte are spaces.
                let start = folded.words_at.get(hit.start() + 1);
                let last = folded.words_at.get(hit.end().saturating_sub(2));
                let kind = self.word_kinds.get(hit.pattern().as_usize());
                if let (Some(&start), Some(&last), Some(&kind)) = (start, last, kind) {
                    spans.push(Span {
                        start,
                        end: last + 1,
                        kind,
                        score: 1.0,
                    });
                }
            }
        }
        if let Some(compact) = &self.compact {
            for hit in compact.find_overlapping_iter(&folded.compact) {
                let start = folded.compact_at.get(hit.start());
                let last = folded.compact_at.get(hit.end().saturating_sub(1));
                let rule = self.compact_rules.get(hit.pattern().as_usize());
                if let (Some(&start), Some(&last), Some(&(kind, edge))) = (start, last, rule) {
                    let inner = folded
                        .compact_at
                        .get(hit.start()..hit.end())
                        .unwrap_or_default();
                    let dense = inner
                        .windows(2)
                        .all(|pair| matches!(pair, [a, b] if b - a <= 3));
                    let apart = edge == Edge::Free
                        || !(folded.is_solid(start.checked_sub(1))
                            || folded.is_solid(Some(last + 1)));
                    if dense && apart {
                        spans.push(Span {
                            start,
                            end: last + 1,
                            kind,
                            score: 1.0,
                        });
                    }
                }
            }
        }
        crate::text::merge(spans)
    }

    /// Whether raw bytes hold one of the identifiers in any encoding that DICOM knows, in UTF-16,
    /// as hexadecimal digits, in base64, or in UTF-8 that was taken for Latin-1.
    pub fn find_in_bytes(&self, bytes: &[u8]) -> bool {
        self.find_bytes(bytes, false)
    }

    /// The same for bytes that are mostly pixels, where short identifiers and ones that look like
    /// a shade or a ramp occur by chance: only those of six characters and more count.
    pub fn find_in_pixels(&self, bytes: &[u8]) -> bool {
        self.find_bytes(bytes, true)
    }

    fn find_bytes(&self, bytes: &[u8], pixels: bool) -> bool {
        let Some(automaton) = &self.bytes else {
            // Identifiers whose automaton could not be built hit everything: fail closed.
            return self.overflow || !self.byte_rules.is_empty();
        };
        automaton.find_overlapping_iter(bytes).any(|hit| {
            let Some(rule) = self.byte_rules.get(hit.pattern().as_usize()) else {
                return true;
            };
            if pixels && rule.pixel_like {
                return false;
            }
            stands_apart(bytes, hit.start(), hit.end(), *rule)
                && !within_own_uid(bytes, hit.start(), hit.end())
                && !(pixels && within_fraction(bytes, hit.start(), hit.end()))
        })
    }
}

impl fmt::Debug for Searcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Searcher")
    }
}

fn automaton<P: AsRef<[u8]>>(patterns: &[P]) -> Option<AhoCorasick> {
    if patterns.is_empty() {
        return None;
    }
    AhoCorasick::builder()
        .match_kind(MatchKind::Standard)
        .ascii_case_insensitive(true)
        .build(patterns)
        .ok()
}

fn pixel_like(literal: &str) -> bool {
    let bytes = literal.as_bytes();
    let mut distinct = bytes.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let steps: Vec<i16> = bytes
        .windows(2)
        .filter_map(|pair| match pair {
            [a, b] => Some(i16::from(*b) - i16::from(*a)),
            _ => None,
        })
        .collect();
    bytes.len() < 6
        || distinct.len() < 4
        || steps.windows(2).all(|pair| pair.first() == pair.last())
}

fn stands_apart(bytes: &[u8], start: usize, end: usize, rule: ByteRule) -> bool {
    let inside = |byte: Option<&u8>| {
        byte.is_some_and(|byte| match rule.edge {
            Edge::Free => false,
            Edge::Digits => byte.is_ascii_digit(),
            Edge::Word => byte.is_ascii_alphanumeric(),
        })
    };
    // In UTF-16 the neighbour's letter is at one of two places and its other byte is zero.
    let before = (1..=rule.width).any(|back| {
        start
            .checked_sub(back)
            .is_some_and(|at| inside(bytes.get(at)))
    });
    let after = (0..rule.width).any(|on| inside(bytes.get(end + on)));
    !(before || after)
}

/// Whether digits are one side of the point in a longer decimal number: a distance or an angle.
fn within_fraction(bytes: &[u8], start: usize, end: usize) -> bool {
    let part = |byte: &&u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'+' | b'-');
    let digits = bytes
        .get(start..end)
        .is_some_and(|hit| hit.iter().all(u8::is_ascii_digit));
    let count = |bytes: &mut dyn Iterator<Item = &u8>| bytes.take(20).take_while(part).count();
    let before = count(&mut bytes.get(..start).unwrap_or_default().iter().rev());
    let after = count(&mut bytes.get(end..).unwrap_or_default().iter());
    let number = bytes
        .get(start - before..end + after)
        .and_then(|number| std::str::from_utf8(number).ok())
        .unwrap_or_default();
    digits && number.contains('.') && number.len() <= 24 && is_fraction(number)
}

/// Whether a text is a decimal number whose fraction is not nought.
fn is_fraction(number: &str) -> bool {
    let number = number.strip_prefix(['+', '-']).unwrap_or(number);
    number.split_once('.').is_some_and(|(whole, fraction)| {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        !whole.is_empty()
            && digits(whole)
            && digits(fraction)
            && fraction.bytes().any(|byte| byte != b'0')
    })
}

/// Whether a hit lies within a `2.25.` UID of full length: a pseudonym of ours, whose 39 random
/// digits hold any given eight once in some ten thousand objects.
fn within_own_uid(bytes: &[u8], start: usize, end: usize) -> bool {
    let part = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    if !bytes
        .get(start..end)
        .is_some_and(|hit| hit.iter().all(u8::is_ascii_digit))
    {
        return false;
    }
    let before = bytes
        .get(..start)
        .unwrap_or_default()
        .iter()
        .rev()
        .take(64)
        .take_while(|b| part(b))
        .count();
    let after = bytes
        .get(end..)
        .unwrap_or_default()
        .iter()
        .take(64)
        .take_while(|b| part(b))
        .count();
    let run = bytes.get(start - before..end + after).unwrap_or_default();
    run.strip_prefix(b"2.25.").is_some_and(|digits| {
        before >= 5 && (30..=39).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
    })
}
