//! Turns each known identifier into the forms in which it may be written. Comes before the search.

use std::collections::HashSet;

use unicode_normalization::UnicodeNormalization;

use crate::{Kind, common::is_common, fold, known::MAX_VALUE_BYTES};

/// How a needle must stand in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Edge {
    /// Anywhere.
    Free,
    /// Not within a longer run of digits.
    Digits,
    /// Not within a longer word or number.
    Word,
}

/// What to look for on account of one identifier.
#[derive(Debug, Default)]
pub(crate) struct Needles {
    /// Whole words in the folded text, joined by single spaces.
    pub(crate) words: Vec<(String, Kind)>,
    /// Runs in the folded text without separators.
    pub(crate) compact: Vec<(String, Kind, Edge)>,
    /// Literals in raw bytes, any case.
    pub(crate) literals: Vec<Literal>,
    dates: HashSet<String>,
    /// There is more to look for than can be looked for.
    pub(crate) overflow: bool,
}

/// Forms of all identifiers together.
const MAX_NEEDLES: usize = 1 << 17;
/// Parts of one name: they are paired, so their number counts squared.
const MAX_NAME_PARTS: usize = 64;

/// A text to look for in raw bytes, in every encoding.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Literal {
    pub(crate) text: String,
    pub(crate) edge: Edge,
    /// Also as hexadecimal digits and in base64.
    pub(crate) coded: bool,
}

impl Needles {
    fn literal(&mut self, text: impl Into<String>, edge: Edge) {
        self.literals.push(Literal {
            text: text.into(),
            edge,
            coded: false,
        });
    }

    /// A literal that tells a patient apart by itself.
    fn telling_literal(&mut self, text: impl Into<String>, edge: Edge) {
        let text = text.into();
        self.literals.push(Literal {
            coded: text.chars().count() >= 6,
            text,
            edge,
        });
    }

    /// The same form of two identifiers is looked for once.
    pub(crate) fn tidy(&mut self) {
        self.literals.sort_unstable();
        self.literals.dedup();
        self.overflow |= self.words.len() + self.compact.len() + self.literals.len() > MAX_NEEDLES;
    }

    pub(crate) fn add(&mut self, kind: Kind, value: &str) {
        if value.len() > MAX_VALUE_BYTES
            || self.words.len() + self.compact.len() + self.literals.len() > MAX_NEEDLES
        {
            self.overflow = true;
            return;
        }
        match kind {
            Kind::Name => self.name(value),
            Kind::Date => self.date(value),
            Kind::Uid => self.uid(value),
            Kind::Address | Kind::Institution => self.phrase(kind, value),
            _ => self.id(kind, value),
        }
    }

    fn name(&mut self, value: &str) {
        // PS3.5 section 6.2.1.2: three groups by `=`, five components by `^`; the fourth and fifth
        // (prefix and suffix: Dr, MD, Jr) identify nobody.
        for group in value.split('=') {
            let parts: Vec<&str> = if group.contains('^') {
                group
                    .split('^')
                    .take(3)
                    .map(str::trim)
                    .filter(|part| !part.is_empty())
                    .collect()
            } else if group.contains(',') {
                group
                    .split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty())
                    .collect()
            } else {
                group.split_whitespace().collect()
            };
            self.name_parts(&parts);
        }
    }

    fn name_parts(&mut self, parts: &[&str]) {
        let mut tokens: Vec<String> = Vec::new();
        for part in parts {
            let words = fold::words(part);
            let joined = words.concat();
            // "O'Brien", "van der Berg": the part as a phrase, and written in one.
            if words.len() > 1 && joined.chars().count() >= 4 {
                self.words.push((words.join(" "), Kind::Name));
                self.word_alone(&joined);
                self.literal(*part, Edge::Word);
            }
            // "Jane Mary" as one component: each long word counts alone.
            for (word, written) in words.iter().zip(
                part.split(|c: char| !c.is_alphanumeric() && c != '\u{301}')
                    .filter(|w| !w.is_empty()),
            ) {
                self.word_alone(word);
                if significant_name(word) {
                    self.telling_literal(written, name_edge(written));
                    for other in spellings(written, word) {
                        self.word_alone(&fold::words(&other).concat());
                        self.literal(other.as_str(), name_edge(&other));
                    }
                }
                if !tokens.contains(word) {
                    tokens.push(word.clone());
                }
            }
            if words.is_empty() && !part.is_ascii() {
                self.literal(*part, Edge::Free);
            }
        }
        if tokens.len() > MAX_NAME_PARTS {
            self.overflow = true;
            return;
        }
        // Any two components side by side, in either order, count even when each is short or
        // common: "Li Wei", "Young, Ray".
        for (i, a) in tokens.iter().enumerate() {
            for (j, b) in tokens.iter().enumerate() {
                if i == j || a.chars().count() < 2 || b.chars().count() < 2 {
                    continue;
                }
                self.words.push((format!("{a} {b}"), Kind::Name));
                let both = a.chars().count() + b.chars().count();
                // In raw bytes a part that counts alone is found alone.
                let alone = significant_name(a) || significant_name(b);
                if both >= 6 {
                    self.words.push((format!("{a}{b}"), Kind::Name));
                    self.literal(format!("{a}{b}"), Edge::Word);
                }
                if alone {
                    continue;
                }
                for separator in ["^", " ", ", ", ",", "_", "-", "."] {
                    self.literal(format!("{a}{separator}{b}"), Edge::Word);
                }
            }
        }
    }

    fn word_alone(&mut self, word: &str) {
        if !significant_name(word) {
            return;
        }
        if has_boundaries(word) {
            self.words.push((word.to_owned(), Kind::Name));
        } else {
            self.compact.push((word.to_owned(), Kind::Name, Edge::Free));
        }
    }

    fn phrase(&mut self, kind: Kind, value: &str) {
        for line in value.split(['^', '\\', '\n', '\r', '=']) {
            let words = fold::words(line);
            let letters: usize = words.iter().map(|word| word.chars().count()).sum();
            let telling = words
                .iter()
                .any(|word| !is_common(word) && word.chars().count() >= 3);
            if letters < 6 || !telling {
                continue;
            }
            self.words.push((words.join(" "), kind));
            self.literal(line.trim(), Edge::Word);
        }
    }

    fn id(&mut self, kind: Kind, value: &str) {
        let compact = fold::words(value).concat();
        if significant_id(&compact) {
            self.compact.push((compact.clone(), kind, Edge::Word));
            let edge = if compact.chars().count() >= 8 {
                Edge::Free
            } else {
                Edge::Word
            };
            self.telling_literal(value, edge);
            if compact != value {
                self.telling_literal(compact.as_str(), edge);
            }
            for grouped in groupings(&compact) {
                self.literal(grouped, Edge::Word);
            }
            let short = compact.trim_start_matches('0');
            if short.len() != compact.len() && significant_id(short) {
                self.compact.push((short.to_owned(), kind, Edge::Word));
                self.literal(short, Edge::Word);
            }
        }
    }

    fn uid(&mut self, value: &str) {
        if value.len() < 8 || !value.contains('.') {
            return;
        }
        self.words.push((fold::words(value).join(" "), Kind::Uid));
        self.literal(value, Edge::Digits);
    }

    fn date(&mut self, value: &str) {
        let digits: String = value.chars().filter(char::is_ascii_digit).take(8).collect();
        // Many points in time of one day are one date.
        let known = !self.dates.insert(digits.clone());
        if known || digits.len() < 8 || is_placeholder_date(&digits) {
            return;
        }
        let (Some(year), Some(month), Some(day)) =
            (digits.get(..4), digits.get(4..6), digits.get(6..8))
        else {
            return;
        };
        let Some(names) = month
            .parse::<usize>()
            .ok()
            .and_then(|m| MONTHS.get(m.wrapping_sub(1)))
        else {
            return;
        };
        let (short_month, short_day) = (month.trim_start_matches('0'), day.trim_start_matches('0'));
        let short_year = year.get(2..).unwrap_or_default();
        let mut orders: Vec<[&str; 3]> = Vec::new();
        for (m, d) in [
            (month, day),
            (short_month, short_day),
            (month, short_day),
            (short_month, day),
        ] {
            orders.extend([[year, m, d], [d, m, year], [m, d, year]]);
        }
        orders.extend([[day, month, short_year], [month, day, short_year]]);
        for name in [names.0, names.1] {
            for d in [day, short_day] {
                orders.extend([[d, name, year], [name, d, year], [year, name, d]]);
            }
        }
        for order in orders {
            self.words.push((order.join(" "), Kind::Date));
            for separator in ["-", "/", ".", " "] {
                self.literal(order.join(separator), Edge::Digits);
            }
            if order.iter().all(|part| part.len() != 1) && order.concat().len() >= 8 {
                self.words.push((order.concat(), Kind::Date));
                self.literal(order.concat(), Edge::Free);
            }
        }
        for name in [names.0, names.1] {
            self.literal(format!("{name} {short_day}, {year}"), Edge::Word);
        }
    }
}

/// Placeholder dates that devices and de-identifiers (this one too) write.
const COMMON_DATES: [&str; 9] = [
    "19000101", "19700101", "19800101", "20000101", "11111111", "00010101", "99991231", "19010101",
    "00000000",
];

/// Whether `YYYYMMDD` is a date that devices write where they know none.
pub fn is_placeholder_date(digits: &str) -> bool {
    COMMON_DATES.contains(&digits)
}

const MONTHS: [(&str, &str); 12] = [
    ("january", "jan"),
    ("february", "feb"),
    ("march", "mar"),
    ("april", "apr"),
    ("may", "may"),
    ("june", "jun"),
    ("july", "jul"),
    ("august", "aug"),
    ("september", "sep"),
    ("october", "oct"),
    ("november", "nov"),
    ("december", "dec"),
];

/// Whether words of this script are set apart by separators.
fn has_boundaries(word: &str) -> bool {
    // Han, kana, hangul (jamo after folding) and Thai are written without spaces.
    !word.chars().any(|c| matches!(u32::from(c), 0x0E00..=0x0E7F | 0x1100..=0x11FF | 0x3040..=0x30FF | 0x3130..=0x318F | 0x3400..=0x9FFF | 0xAC00..=0xD7FF | 0xF900..=0xFAFF))
}

fn significant_name(word: &str) -> bool {
    let letters = word.chars().filter(|c| c.is_alphabetic()).count();
    if has_boundaries(word) {
        letters >= 3 && !is_common(word)
    } else {
        letters >= 2
    }
}

/// Other spellings of a name: without accents, with accents apart from their letters, and the
/// German one (Mueller).
fn spellings(written: &str, folded: &str) -> Vec<String> {
    if written.is_ascii() {
        return Vec::new();
    }
    let apart: String = written.nfd().collect();
    let german: String = written
        .to_lowercase()
        .nfc()
        .map(|c| match c {
            'ä' => "ae".to_owned(),
            'ö' | 'ø' => "oe".to_owned(),
            'ü' => "ue".to_owned(),
            'å' => "aa".to_owned(),
            'ß' => "ss".to_owned(),
            other => other.to_string(),
        })
        .collect();
    let mut spellings = vec![folded.to_owned(), apart, german];
    spellings.sort();
    spellings.dedup();
    spellings.retain(|other| other != written && other != &written.to_lowercase());
    spellings
}

/// A long number in groups, as people write it.
fn groupings(compact: &str) -> Vec<String> {
    if compact.len() < 6 || !compact.bytes().all(|byte| byte.is_ascii_digit()) {
        return Vec::new();
    }
    let mut all = Vec::new();
    let threes: Vec<&[u8]> = compact.as_bytes().chunks(3).collect();
    for separator in ["-", " ", ".", "/", ","] {
        let groups: Vec<_> = threes
            .iter()
            .map(|part| String::from_utf8_lossy(part))
            .collect();
        all.push(groups.join(separator));
        if let (9, Some(a), Some(b), Some(c)) = (
            compact.len(),
            compact.get(..3),
            compact.get(3..5),
            compact.get(5..),
        ) {
            all.push([a, b, c].join(separator));
        }
    }
    all
}

fn name_edge(written: &str) -> Edge {
    if !has_boundaries(written) || written.chars().count() >= 6 {
        Edge::Free
    } else {
        Edge::Word
    }
}

/// Whether an ID tells a patient apart: five digits, a mix of four, or six letters that are no
/// common word; and more than one distinct character.
fn significant_id(compact: &str) -> bool {
    let digits = compact.chars().filter(char::is_ascii_digit).count();
    let all = compact.chars().count();
    let first = compact.chars().next().unwrap_or_default();
    let distinct = compact.chars().any(|c| c != first);
    distinct
        && match digits {
            0 => all >= 6 && !is_common(compact),
            _ if digits == all => all >= 5,
            _ => all >= 4,
        }
}
