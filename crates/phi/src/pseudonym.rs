//! Stand-ins for identifiers.

use std::fmt;

/// A keyed stand-in for an identifier; says nothing about the patient to who lacks the vault.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pseudonym(Box<str>);

/// The text is not a pseudonym.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PseudonymError(());

impl Pseudonym {
    /// Parses a pseudonym: 1 to 64 ASCII letters, digits, dots or dashes.
    ///
    /// # Errors
    /// [`PseudonymError`] for anything else.
    pub fn parse(text: &str) -> Result<Self, PseudonymError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
        if text.is_empty() || text.len() > 64 || !text.bytes().all(allowed) {
            return Err(PseudonymError(()));
        }
        Ok(Self(text.into()))
    }

    /// The pseudonym.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PseudonymError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pseudonym has 1 to 64 ASCII letters, digits, dots or dashes")
    }
}

impl std::error::Error for PseudonymError {}
