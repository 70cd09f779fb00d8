//! The gate for objects that were cleaned with options: what an option retains is not forbidden,
//! but it is searched like all the rest. Redaction stands before it.

use cloister_scrub::KnownIdentifiers;
use dicom_core::{DataElement, Length, VR, value::DataSetSequence};
use dicom_dictionary_std::tags;
use dicom_encoding::transfer_syntax::TransferSyntaxIndex;
use dicom_object::{InMemDicomObject, mem::InMemElement};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use crate::{
    Policy,
    charset::{codes_of, values},
    gate::{self, GateError},
    read,
    retain::is_text,
};

/// [`gate::look`] under a policy with options. What only an option lets stay is searched here; the
/// gate then looks through the object without it, and through the bytes as they are.
///
/// # Errors
/// [`GateError`]; the object must not leave.
pub fn look_under(
    encoded: &[u8],
    known: &KnownIdentifiers,
    policy: Policy,
) -> Result<(), GateError> {
    if policy == Policy::basic() {
        return gate::look(encoded, known);
    }
    let searcher = known.searcher();
    if searcher.find_in_pixels(encoded) {
        return Err(GateError::Identifier);
    }
    let object = read::read(encoded).map_err(|_| GateError::Unreadable)?;
    let mut retained = Vec::new();
    let mut rest = without_retained(&object, policy, &mut retained);
    let codes = codes_of(&object, &[]);
    for element in &retained {
        let Some(value) = element.value().primitive() else {
            continue;
        };
        let hit = searcher.find_in_bytes(&value.to_bytes())
            || is_text(element.vr())
                && values(element, &codes)
                    .iter()
                    .any(|text| !searcher.find(text).is_empty());
        if hit {
            return Err(GateError::Identifier);
        }
    }
    // Retained sequences hang from a place where the gate walks into them.
    let items: Vec<_> = retained
        .iter()
        .filter_map(|element| element.items())
        .flatten()
        .cloned()
        .collect();
    if !items.is_empty() {
        rest.put(DataElement::new(
            tags::ANATOMIC_REGION_SEQUENCE,
            VR::SQ,
            DataSetSequence::new(with_own(&rest, items), Length::UNDEFINED),
        ));
    }
    // Preamble and file meta information as they are (PS3.10 section 7.1).
    let meta = encoded
        .get(140..144)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u32::from_le_bytes)
        .and_then(|length| usize::try_from(length).ok())
        .and_then(|length| length.checked_add(144));
    let mut bytes = meta
        .and_then(|end| encoded.get(..end))
        .ok_or(GateError::Unreadable)?
        .to_vec();
    let syntax = TransferSyntaxRegistry
        .get(object.meta().transfer_syntax())
        .ok_or(GateError::Unreadable)?;
    rest.write_dataset_with_ts(&mut bytes, syntax)
        .map_err(|_| GateError::Unreadable)?;
    gate::look(&bytes, known)
}

fn with_own(rest: &InMemDicomObject, mut items: Vec<InMemDicomObject>) -> Vec<InMemDicomObject> {
    let own = rest
        .get(tags::ANATOMIC_REGION_SEQUENCE)
        .and_then(|sequence| sequence.items());
    items.extend(own.unwrap_or_default().iter().cloned());
    items
}

/// The data set without the elements that the Basic profile forbids and the policy does not; those,
/// cleared of such elements themselves, go to `retained`.
fn without_retained(
    object: &InMemDicomObject,
    policy: Policy,
    retained: &mut Vec<InMemElement>,
) -> InMemDicomObject {
    let basic = Policy::basic();
    let mut rest = InMemDicomObject::new_empty();
    for element in object.iter() {
        let tag = element.header().tag;
        let element = match element.items() {
            None => element.clone(),
            Some(items) => {
                let items: Vec<_> = items
                    .iter()
                    .map(|item| without_retained(item, policy, retained))
                    .collect();
                DataElement::new(tag, VR::SQ, DataSetSequence::new(items, Length::UNDEFINED))
            }
        };
        if basic.forbids(tag) && !policy.forbids(tag) {
            retained.push(element);
        } else {
            rest.put(element);
        }
    }
    rest
}
