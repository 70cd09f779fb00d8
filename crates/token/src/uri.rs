//! RFC 7512: `pkcs11:token=NAME;object=LABEL?module-path=FILE&pin-source=FILE`.
//!
//! Read strictly: an attribute that is not known here, or comes twice, is an error and not ignored,
//! because it would have narrowed the choice of the key. `pin-value` is refused: a URI stands in
//! configuration files and on command lines.

use std::str::FromStr;

use crate::TokenError;

/// Which object of which token. Attributes that are absent fit anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenUri {
    /// Label of the token.
    pub token: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// Its manufacturer.
    pub manufacturer: Option<String>,
    /// Its model.
    pub model: Option<String>,
    /// CKA_LABEL of the object.
    pub object: Option<String>,
    /// CKA_ID of the object.
    pub id: Option<Vec<u8>>,
    /// Its class, as RFC 7512 spells it: `secret-key`, `private`, …
    pub kind: Option<String>,
    /// File of the PKCS#11 module.
    pub module_path: Option<String>,
    /// Where the PIN is.
    pub pin_source: Option<String>,
}

impl FromStr for TokenUri {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let rest = text
            .strip_prefix("pkcs11:")
            .ok_or(TokenError::Uri("it does not begin with pkcs11:"))?;
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let mut uri = Self::default();
        for part in path.split(';').filter(|part| !part.is_empty()) {
            let (name, value) = pair(part)?;
            match name {
                "id" => once(&mut uri.id, value)?,
                "token" => once(&mut uri.token, utf8(value)?)?,
                "serial" => once(&mut uri.serial, utf8(value)?)?,
                "manufacturer" => once(&mut uri.manufacturer, utf8(value)?)?,
                "model" => once(&mut uri.model, utf8(value)?)?,
                "object" => once(&mut uri.object, utf8(value)?)?,
                "type" => once(&mut uri.kind, utf8(value)?)?,
                _ => return Err(TokenError::Uri("an attribute that is not known")),
            }
        }
        for part in query.unwrap_or_default().split('&') {
            if part.is_empty() {
                continue;
            }
            let (name, value) = pair(part)?;
            match name {
                "module-path" => once(&mut uri.module_path, utf8(value)?)?,
                "pin-source" => once(&mut uri.pin_source, utf8(value)?)?,
                "pin-value" => {
                    return Err(TokenError::Uri("a PIN has no place in it: use pin-source"));
                }
                _ => return Err(TokenError::Uri("a query attribute that is not known")),
            }
        }
        if uri.token.is_none() && uri.serial.is_none() {
            return Err(TokenError::Uri("it names no token and no serial"));
        }
        if uri.object.is_none() && uri.id.is_none() {
            return Err(TokenError::Uri("it names no object and no id"));
        }
        Ok(uri)
    }
}

fn pair(part: &str) -> Result<(&str, Vec<u8>), TokenError> {
    let (name, value) = part
        .split_once('=')
        .ok_or(TokenError::Uri("an attribute without ="))?;
    let value = decode(value).ok_or(TokenError::Uri("a % without two hexadecimal digits"))?;
    if value.is_empty() || value.contains(&0) {
        return Err(TokenError::Uri("an empty value"));
    }
    Ok((name, value))
}

fn utf8(value: Vec<u8>) -> Result<String, TokenError> {
    String::from_utf8(value).map_err(|_| TokenError::Uri("a value that is no UTF-8"))
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), TokenError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(TokenError::Uri("an attribute comes twice")),
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let value = digit(bytes.next())? * 16 + digit(bytes.next())?;
            decoded.push(u8::try_from(value).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_uri_of_the_rfc_is_read() {
        let text = "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;object=wrapping-1;id=%69%00%95?\
                    module-path=/usr/lib/p11.so&pin-source=file:/etc/pin";
        // A zero byte is refused in a value, as in a name.
        assert!(text.parse::<TokenUri>().is_err());
        let uri: TokenUri = text.replace("%00", "%01").parse().unwrap();
        assert_eq!(uri.token.as_deref(), Some("The Software PKCS#11 Softtoken"));
        assert_eq!(uri.id.as_deref(), Some(&[0x69, 1, 0x95][..]));
        assert_eq!(uri.module_path.as_deref(), Some("/usr/lib/p11.so"));
        assert_eq!(uri.pin_source.as_deref(), Some("file:/etc/pin"));
    }

    #[test]
    fn what_would_widen_the_choice_or_tell_the_pin_is_refused() {
        for bad in [
            "token=a;object=b",
            "pkcs11:",
            "pkcs11:token=a",
            "pkcs11:object=b",
            "pkcs11:token=a;object=b;object=c",
            "pkcs11:token=a;object=b;slot-id=1",
            "pkcs11:token=a;object=",
            "pkcs11:token=a;object=%4",
            "pkcs11:token=a;object=%+4",
            "pkcs11:token=a;object=b;x-vendor=1",
            "pkcs11:token=a;object=b?pin-value=1234",
            "pkcs11:token=%ff;object=b",
        ] {
            let error = bad.parse::<TokenUri>().unwrap_err();
            assert!(matches!(error, TokenError::Uri(_)), "{bad}");
            assert!(!error.to_string().contains("1234"));
        }
    }

    proptest! {
        #[test]
        fn any_label_comes_back(token in "[^\0]{1,32}", object in "[^\0]{1,32}") {
            let encode = |text: &str| {
                text.bytes().fold(String::new(), |all, byte| format!("{all}%{byte:02X}"))
            };
            let text = format!("pkcs11:object={};token={}", encode(&object), encode(&token));
            let uri: TokenUri = text.parse().unwrap();
            prop_assert_eq!((uri.token, uri.object), (Some(token), Some(object)));
        }

        #[test]
        fn no_text_panics(text in "(pkcs11:)?.{0,60}") {
            drop(text.parse::<TokenUri>());
        }
    }
}
