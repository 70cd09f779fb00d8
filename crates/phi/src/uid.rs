//! DICOM unique identifiers.

use std::fmt;

/// A unique identifier: digits and dots, 1 to 64 characters (PS3.5 section 9.1).
///
/// A UID that names a real study, series or instance identifies a patient: hold it as `Phi<Uid>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(Box<str>);

/// Why a text is not a UID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UidError {
    /// No characters left after padding was trimmed.
    Empty,
    /// More than 64 characters.
    TooLong,
    /// A character other than digits and dots, so never a path separator.
    Character,
    /// An empty component: a dot at the start or the end, or two in a row.
    Component,
}

impl Uid {
    /// Parses a UID; trailing NUL and space padding is ignored. Leading zeros in components are
    /// tolerated, since modalities send them.
    ///
    /// # Errors
    /// [`UidError`] names the first rule broken.
    pub fn parse(text: &str) -> Result<Self, UidError> {
        let text = text.trim_end_matches(['\0', ' ']).trim_start_matches(' ');
        if text.is_empty() {
            return Err(UidError::Empty);
        }
        if text.len() > 64 {
            return Err(UidError::TooLong);
        }
        if !text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
        {
            return Err(UidError::Character);
        }
        if text.split('.').any(str::is_empty) {
            return Err(UidError::Component);
        }
        Ok(Self(text.into()))
    }

    /// The UID without padding.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for UidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the UID is empty",
            Self::TooLong => "the UID is longer than 64 characters",
            Self::Character => "the UID holds a character other than digits and dots",
            Self::Component => "the UID has an empty component",
        })
    }
}

impl std::error::Error for UidError {}

#[cfg(test)]
mod tests {
    use super::{Uid, UidError};

    #[test]
    fn accepts_padding_and_keeps_the_digits() {
        assert_eq!(
            Uid::parse("1.2.840.10008.1.1\0").unwrap().as_str(),
            "1.2.840.10008.1.1"
        );
    }

    #[test]
    fn rejects_uid_with_slash_dots_or_excess() {
        assert_eq!(Uid::parse("../../etc/passwd"), Err(UidError::Character));
        assert_eq!(Uid::parse("1..2"), Err(UidError::Component));
        assert_eq!(Uid::parse(".."), Err(UidError::Component));
        assert_eq!(Uid::parse(&"1".repeat(65)), Err(UidError::TooLong));
        assert_eq!(Uid::parse("\0"), Err(UidError::Empty));
    }
}
