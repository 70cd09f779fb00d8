//! The user's PIN, from a file. Never printed.

use std::fmt;

use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use crate::TokenError;

/// A PIN. Gone from memory when it is dropped.
#[derive(PartialEq, Eq)]
pub struct Pin(Zeroizing<String>);

impl Pin {
    /// From the bytes of a file: text, one newline at its end does not count.
    ///
    /// # Errors
    /// [`TokenError::PinUnusable`].
    pub fn from_file(bytes: &Zeroizing<Vec<u8>>) -> Result<Self, TokenError> {
        let text = std::str::from_utf8(bytes).map_err(|_| TokenError::PinUnusable)?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() || text.contains('\0') {
            return Err(TokenError::PinUnusable);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    pub(crate) fn auth(&self) -> AuthPin {
        AuthPin::new(self.0.as_str().into())
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_text_and_is_not_printed() {
        let pin = |text: &[u8]| Pin::from_file(&Zeroizing::new(text.to_vec()));
        assert_eq!(format!("{:?}", pin(b"4711\n").unwrap()), "Pin");
        for bad in [&b""[..], b"\n", b"\xff\xfe", b"47\0"] {
            assert_eq!(pin(bad).unwrap_err(), TokenError::PinUnusable);
        }
    }
}
