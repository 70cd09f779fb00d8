//! The two headers that STOW-RS turns on (RFC 9110 sections 8.3 and 12.5, RFC 2387).

use http::HeaderValue;
use http::header::GetAll;

/// What is answered.
pub(super) const DICOM_JSON: &str = "application/dicom+json";

/// The boundary of `multipart/related; type="application/dicom"; boundary=…`; `None` for any other
/// media type.
pub(super) fn boundary(content_type: &str) -> Option<String> {
    let mut parts = split(content_type).into_iter();
    let essence = parts.next()?;
    if !essence.trim().eq_ignore_ascii_case("multipart/related") {
        return None;
    }
    let (mut kind, mut boundary) = (None, None);
    for part in parts {
        let (key, value) = part.split_once('=')?;
        let value = unquote(value.trim())?;
        let slot = match key.trim() {
            key if key.eq_ignore_ascii_case("type") => &mut kind,
            key if key.eq_ignore_ascii_case("boundary") => &mut boundary,
            _ => continue,
        };
        if slot.replace(value).is_some() {
            return None;
        }
    }
    let dicom = kind?.eq_ignore_ascii_case("application/dicom");
    boundary.filter(|boundary| dicom && is_boundary(boundary))
}

/// RFC 2046 section 5.1.1.
fn is_boundary(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&b);
    (1..=70).contains(&text.len()) && text.bytes().all(allowed) && !text.ends_with(' ')
}

/// Splits at semicolons outside quotes.
fn split(text: &str) -> Vec<&str> {
    let mut quoted = false;
    text.split(|c| {
        quoted ^= c == '"';
        c == ';' && !quoted
    })
    .collect()
}

/// A token, or a quoted string without escapes.
fn unquote(text: &str) -> Option<String> {
    match text.strip_prefix('"') {
        Some(rest) => {
            let inner = rest.strip_suffix('"')?;
            (!inner.contains(['"', '\\'])).then(|| inner.to_owned())
        }
        None => (!text.contains('"')).then(|| text.to_owned()),
    }
}

/// Whether DICOM JSON, the default of the transaction, is among what the client takes.
pub(super) fn accepts_dicom_json(accept: GetAll<'_, HeaderValue>) -> bool {
    let mut any = false;
    for value in accept {
        any = true;
        let ranges = value.to_str().unwrap_or_default().split(',');
        for range in ranges {
            let range = range.split(';').next().unwrap_or_default().trim();
            if ["*/*", "application/*", DICOM_JSON]
                .iter()
                .any(|known| range.eq_ignore_ascii_case(known))
            {
                return true;
            }
        }
    }
    !any
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, header};

    use super::*;

    #[test]
    fn a_boundary_comes_only_with_the_media_type_of_dicom_parts() {
        for (text, expected) in [
            (
                r#"multipart/related; type="application/dicom"; boundary=abc"#,
                Some("abc"),
            ),
            (
                r#"Multipart/Related;boundary="a;b=c";TYPE=application/dicom"#,
                None,
            ),
            (
                r#"multipart/related;boundary="a b=c";type=Application/DICOM;x=y"#,
                Some("a b=c"),
            ),
            (
                r#"multipart/related; type="application/dicom+json"; boundary=abc"#,
                None,
            ),
            ("multipart/related; boundary=abc", None),
            (r#"multipart/related; type="application/dicom""#, None),
            (
                r#"multipart/related; type="application/dicom"; boundary=a; boundary=b"#,
                None,
            ),
            (
                r#"multipart/related; type="application/dicom"; boundary="#,
                None,
            ),
            (
                r#"multipart/related; type="application/dicom; boundary=abc"#,
                None,
            ),
            ("application/dicom", None),
            ("", None),
        ] {
            assert_eq!(boundary(text).as_deref(), expected, "{text}");
        }
        let long = "a".repeat(71);
        let text = format!("multipart/related; type=application/dicom; boundary={long}");
        assert_eq!(boundary(&text), None);
    }

    #[test]
    fn dicom_json_is_accepted_unless_something_else_alone_is_asked_for() {
        for (accept, expected) in [
            (None, true),
            (Some("*/*"), true),
            (
                Some("application/dicom+xml, application/dicom+json;q=0.5"),
                true,
            ),
            (Some("application/dicom+xml"), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(
                accepts_dicom_json(headers.get_all(header::ACCEPT)),
                expected,
                "{accept:?}"
            );
        }
    }
}
