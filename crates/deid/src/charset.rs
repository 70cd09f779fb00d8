//! Decodes text whose character set changes by escape sequences (ISO 2022). The parser decodes
//! with the first character set only; this step mends the rest before names are collected.

use dicom_core::dictionary::VirtualVr;
use dicom_core::{DataDictionary, Tag, VR, dictionary::DataDictionaryEntry};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use dicom_encoding::text::{SpecificCharacterSet, TextCodec};
use dicom_object::{InMemDicomObject, mem::InMemElement};

/// The VR that the dictionary gives a tag.
pub(crate) fn dictionary_vr(tag: Tag) -> Option<VR> {
    StandardDataDictionary
        .by_tag(tag)
        .map(|entry| match entry.vr() {
            VirtualVr::Exact(vr) => vr,
            other => other.relaxed(),
        })
}

/// Specific Character Set of an object, or of the one around it.
pub fn codes_of(object: &InMemDicomObject, outer: &[String]) -> Vec<String> {
    object
        .get(tags::SPECIFIC_CHARACTER_SET)
        .and_then(|element| {
            element
                .to_multi_str()
                .ok()
                .map(std::borrow::Cow::into_owned)
        })
        .map_or_else(
            || outer.to_vec(),
            |codes| codes.iter().map(|code| code.trim().to_owned()).collect(),
        )
}

/// All values of an element as text, decoded with the object's character sets. Elements that a
/// sender wrote as UN or OB although the dictionary knows them as text are decoded as well.
/// Never fails: what cannot be decoded comes out as its Latin-1 characters.
pub fn values(element: &InMemElement, codes: &[String]) -> Vec<String> {
    let opaque = matches!(element.vr(), VR::UN | VR::OB | VR::OW);
    if opaque {
        let Ok(bytes) = element.to_bytes() else {
            return Vec::new();
        };
        let text = codes
            .first()
            .and_then(|code| SpecificCharacterSet::from_code(code.as_str()))
            .unwrap_or_default()
            .decode(&bytes)
            .unwrap_or_else(|_| bytes.iter().copied().map(char::from).collect());
        return split(&decode(&text, codes));
    }
    let Ok(parts) = element.to_multi_str() else {
        return Vec::new();
    };
    if codes.len() > 1 {
        // A backslash may have been the second byte of a character.
        split(&decode(&parts.join("\\"), codes))
    } else {
        parts.iter().map(|part| trim(part)).collect()
    }
}

fn split(text: &str) -> Vec<String> {
    text.split('\\').map(trim).collect()
}

fn trim(text: &str) -> String {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\0')
        .to_owned()
}

/// Resolves ISO 2022 escape sequences left in `text` by a decoder that knew the first set only.
pub fn decode(text: &str, codes: &[String]) -> String {
    if !text.contains('\u{1b}') {
        return text.to_owned();
    }
    let mut out = String::new();
    for (index, part) in text.split('\u{1b}').enumerate() {
        if index == 0 {
            out.push_str(part);
            continue;
        }
        let Some((set, rest)) = escape(part) else {
            out.push_str(part);
            continue;
        };
        match set {
            Set::Initial => out.push_str(rest),
            Set::Code(code) => out.push_str(&redecode(rest, code)),
            Set::Jis => {
                let framed = format!("\u{1b}$B{rest}");
                out.push_str(&redecode(&framed, "ISO_IR 87"));
            }
        }
    }
    let _ = codes;
    out
}

enum Set {
    Initial,
    Code(&'static str),
    Jis,
}

/// Escape sequences of PS3.3 section C.12.1.1.2, tables C.12-3 and C.12-4.
fn escape(part: &str) -> Option<(Set, &str)> {
    const TABLE: [(&str, Set); 18] = [
        ("$B", Set::Jis),
        ("$@", Set::Jis),
        ("$)C", Set::Code("ISO_IR 149")),
        ("$)A", Set::Code("GBK")),
        ("(B", Set::Initial),
        ("(J", Set::Initial),
        (")I", Set::Code("ISO_IR 13")),
        ("-A", Set::Code("ISO_IR 100")),
        ("-B", Set::Code("ISO_IR 101")),
        ("-C", Set::Code("ISO_IR 109")),
        ("-D", Set::Code("ISO_IR 110")),
        ("-L", Set::Code("ISO_IR 144")),
        ("-G", Set::Code("ISO_IR 127")),
        ("-F", Set::Code("ISO_IR 126")),
        ("-H", Set::Code("ISO_IR 138")),
        ("-T", Set::Code("ISO_IR 166")),
        ("-M", Set::Initial),
        ("$(D", Set::Initial),
    ];
    TABLE
        .into_iter()
        .find_map(|(prefix, set)| part.strip_prefix(prefix).map(|rest| (set, rest)))
}

/// Takes characters back to the bytes they came from (Latin-1) and decodes those anew.
fn redecode(text: &str, code: &str) -> String {
    let bytes: Option<Vec<u8>> = text
        .chars()
        .map(|c| u8::try_from(u32::from(c)).ok())
        .collect();
    bytes
        .zip(SpecificCharacterSet::from_code(code))
        .and_then(|(bytes, codec)| codec.decode(&bytes).ok())
        .unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn resolves_japanese_korean_and_greek_escapes() {
        let codes = [String::new(), String::from("ISO 2022 IR 87")];
        assert_eq!(
            decode(
                "Yamada^Tarou=\u{1b}$B;3ED\u{1b}(B^\u{1b}$BB@O:\u{1b}(B",
                &codes
            ),
            "Yamada^Tarou=山田^太郎"
        );
        let korean: String = [0x1b, b'$', b')', b'C', 0xfb, 0xf3]
            .map(char::from)
            .into_iter()
            .collect();
        assert_eq!(decode(&korean, &codes), "洪");
        let greek: String = [0x1b, b'-', b'F', 0xc4]
            .map(char::from)
            .into_iter()
            .collect();
        assert_eq!(decode(&greek, &codes), "Δ");
    }

    #[test]
    fn leaves_unknown_escapes_readable() {
        assert_eq!(decode("a\u{1b}", &[]), "a");
        assert_eq!(decode("a\u{1b}%Xb", &[]), "a%Xb");
    }
}
