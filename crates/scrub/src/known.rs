//! The identifiers of one film, collected before they are removed from it.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{Kind, Searcher, Span};

/// The longest value that is searched for: an address of 1024 characters.
pub(crate) const MAX_VALUE_BYTES: usize = 4096;

/// The identifiers that one film (or study) is known to carry.
///
/// Wiped on drop, never serialized, and `Debug` prints the count only. A [`Searcher`] made from it
/// lives for one search; its automata are freed, not wiped.
#[derive(Clone, Default, ZeroizeOnDrop)]
pub struct KnownIdentifiers {
    #[zeroize(skip)]
    kinds: Vec<Kind>,
    values: Vec<String>,
}

impl KnownIdentifiers {
    /// No identifiers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one identifier. Names take DICOM form (`Doe^Jane=…`) or free form; dates `YYYYMMDD`.
    ///
    /// Values too short or too common to tell a patient apart (one or two letters, bare years,
    /// `ANONYMOUS`, `CHEST`) are kept for whole-name searches and otherwise never match. A value that
    /// is too long to search for makes the search incomplete, see [`Searcher::is_complete`].
    pub fn add(&mut self, kind: Kind, value: &str) {
        let value = value.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        // Padding inside a value counts for nothing.
        let collapsed: String;
        let value = if value.len() > MAX_VALUE_BYTES {
            collapsed = value.split_whitespace().collect::<Vec<_>>().join(" ");
            collapsed.as_str()
        } else {
            value
        };
        if value.is_empty() || self.contains(kind, value) {
            return;
        }
        self.kinds.push(kind);
        self.values.push(value.to_owned());
    }

    /// Adds all identifiers of another film, for instance of the same study.
    pub fn merge(&mut self, other: &Self) {
        for (kind, value) in other.iter() {
            self.add(kind, value);
        }
    }

    /// How many identifiers are known.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether no identifier is known.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether `text` holds one of the identifiers.
    pub fn is_hit(&self, text: &str) -> bool {
        !self.find(text).is_empty()
    }

    /// Where `text` holds identifiers, in characters, sorted and without overlaps.
    pub fn find(&self, text: &str) -> Vec<Span> {
        self.searcher().find(text)
    }

    /// Whether raw bytes hold one of the identifiers as ASCII, UTF-8, Latin-1 or UTF-16.
    pub fn find_in_bytes(&self, bytes: &[u8]) -> bool {
        self.searcher().find_in_bytes(bytes)
    }

    /// Prepares a search; use it when more than one text is looked through.
    pub fn searcher(&self) -> Searcher {
        Searcher::new(self)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Kind, &str)> {
        self.kinds
            .iter()
            .copied()
            .zip(self.values.iter().map(String::as_str))
    }

    fn contains(&self, kind: Kind, value: &str) -> bool {
        self.iter().any(|(k, v)| k == kind && v == value)
    }
}

impl Zeroize for KnownIdentifiers {
    fn zeroize(&mut self) {
        self.values.zeroize();
        self.kinds.clear();
    }
}

impl fmt::Debug for KnownIdentifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KnownIdentifiers({} values)", self.values.len())
    }
}
