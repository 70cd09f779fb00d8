//! The last look at an object before it leaves: re-reads the encoded bytes and searches them for
//! every identifier the object came with. De-identification and redaction stand before it; only
//! what passes is forwarded.

use cloister_scrub::{KnownIdentifiers, Searcher};
use dicom_core::{VR, value::Value};
use dicom_object::{InMemDicomObject, mem::InMemElement};

use crate::{
    Policy,
    charset::{codes_of, is_text_as_numbers, values},
    denied::is_of_pixels,
    hits, private, read,
    required::says_nothing,
    retain::{has_form, is_text},
};

/// Why the gate stays shut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// An attribute that the profile removes is there with a value that says something, private ones
    /// included that no list calls safe.
    #[error("an attribute that must be removed is left in the encoded object")]
    Forbidden,
    /// An identifier of the original is somewhere in the bytes.
    #[error("an identifier is left in the encoded object")]
    Identifier,
    /// The preamble is not zero.
    #[error("the preamble of the encoded object is not empty")]
    Preamble,
    /// The bytes cannot be read back.
    #[error("the encoded object cannot be read back")]
    Unreadable,
}

/// Looks through an encoded Part 10 file: preamble, file meta information, every attribute at any
/// depth, and the raw bytes of the whole. What an option of `policy` retains is not forbidden, but
/// searched like all the rest.
///
/// It does not decode pixels; burned-in text is redaction's part.
///
/// # Errors
/// [`GateError`]; the object must not leave.
pub fn look(encoded: &[u8], known: &KnownIdentifiers, policy: Policy) -> Result<(), GateError> {
    look_with(encoded, &known.searcher(), policy)
}

/// As [`look`], with the identifiers already made into a searcher.
pub(crate) fn look_with(
    encoded: &[u8],
    searcher: &Searcher,
    policy: Policy,
) -> Result<(), GateError> {
    match (encoded.get(..128), encoded.get(128..132)) {
        (Some(preamble), Some(b"DICM")) if preamble.iter().all(|byte| *byte == 0) => {}
        (Some(_), Some(b"DICM")) => return Err(GateError::Preamble),
        _ => return Err(GateError::Unreadable),
    }
    // Group length: 8 bytes of header, 4 of value (PS3.10 section 7.1).
    let length = encoded
        .get(140..144)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u32::from_le_bytes)
        .and_then(|length| usize::try_from(length).ok())
        .ok_or(GateError::Unreadable)?;
    let meta = encoded
        .get(132..length.saturating_add(144))
        .ok_or(GateError::Unreadable)?;
    if searcher.find_in_bytes(meta) {
        return Err(GateError::Identifier);
    }
    // Everything, as it lies there: also what the parser would not show, such as bytes after the
    // end, padding, and text in compressed fragments.
    if searcher.find_in_pixels(encoded) {
        return Err(GateError::Identifier);
    }
    let object = read::read(encoded).map_err(|_| GateError::Unreadable)?;
    look_at(&object, &[], searcher, policy, 0)
}

fn look_at(
    object: &InMemDicomObject,
    outer: &[String],
    searcher: &Searcher,
    policy: Policy,
    depth: usize,
) -> Result<(), GateError> {
    let codes = codes_of(object, outer);
    for element in object.iter() {
        let tag = element.header().tag;
        let private = tag.group() % 2 == 1;
        if policy.forbids(tag) && !says_nothing(element)
            || tag.group() <= 0x0007
            || is_of_pixels(tag) && depth > 0
            || private && !private::is_listed(object, tag, &codes)
        {
            return Err(GateError::Forbidden);
        }
        match element.value() {
            Value::Sequence(sequence) => {
                for item in sequence.items() {
                    look_at(item, &codes, searcher, policy, depth + 1)?;
                }
            }
            Value::PixelSequence(sequence) => {
                // Already searched as raw bytes, unless the data set was deflated.
                if sequence
                    .fragments()
                    .iter()
                    .any(|fragment| searcher.find_in_pixels(fragment))
                {
                    return Err(GateError::Identifier);
                }
            }
            Value::Primitive(value) => {
                let bytes = value.to_bytes();
                let hit = if tag.group() == 0x7fe0 {
                    searcher.find_in_pixels(&bytes)
                } else {
                    !is_decimals(element, &codes) && searcher.find_in_bytes(&bytes)
                        || (is_text(element.vr()) || is_text_as_numbers(element))
                            && in_values(searcher, &values(element, &codes), element.vr(), &codes)
                };
                if hit {
                    return Err(GateError::Identifier);
                }
            }
        }
    }
    Ok(())
}

fn in_values(searcher: &Searcher, values: &[String], vr: VR, codes: &[String]) -> bool {
    values
        .iter()
        .any(|text| hits::in_value(searcher, text, vr, codes))
        || hits::across(searcher, values, vr)
}

/// Whether all values are well-formed decimal numbers: each is asked about by itself.
fn is_decimals(element: &InMemElement, codes: &[String]) -> bool {
    element.vr() == VR::DS
        && values(element, codes)
            .iter()
            .all(|text| has_form(VR::DS, text))
}
