//! Application entity titles.

use std::fmt;

/// An AE title: 1 to 16 printable ASCII characters without backslash, outer spaces ignored
/// (PS3.5 section 6.2, VR AE).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AeTitle(Box<str>);

/// The text is not an AE title.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AeTitleError(());

impl AeTitle {
    /// Parses an AE title.
    ///
    /// # Errors
    /// [`AeTitleError`] for an empty, over-long or unprintable title.
    pub fn parse(text: &str) -> Result<Self, AeTitleError> {
        let text = text.trim_matches(' ');
        let printable = text
            .bytes()
            .all(|byte| (0x20..0x7f).contains(&byte) && byte != b'\\');
        if text.is_empty() || text.len() > 16 || !printable {
            return Err(AeTitleError(()));
        }
        Ok(Self(text.into()))
    }

    /// The title without outer spaces.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AeTitle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for AeTitleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an AE title has 1 to 16 printable ASCII characters and no backslash")
    }
}

impl std::error::Error for AeTitleError {}

#[cfg(test)]
mod tests {
    use super::AeTitle;

    #[test]
    fn trims_spaces_and_refuses_control_characters() {
        assert_eq!(AeTitle::parse(" CT_1 ").unwrap().as_str(), "CT_1");
        for bad in [
            "",
            "                ",
            "TOO_LONG_AE_TITLE",
            "A\tB",
            "A\\B",
            "Ä",
        ] {
            assert!(AeTitle::parse(bad).is_err(), "{bad:?}");
        }
    }
}
