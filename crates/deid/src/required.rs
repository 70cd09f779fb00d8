//! What an information object must hold where the table, or the rule for what it does not list,
//! takes an attribute away without asking its type. PS3.15 E.1.1 wants a valid object of the same
//! class: such an attribute stays without a value (type 2) or with one that says nothing (type 1).
//! The cleaner asks for every attribute; the gate lets exactly such values through.
//!
//! Found by comparing the table with the modules of all storage classes (PS3.3, as data in
//! `highdicom`'s `_standard`); `tools/check_outputs.py` repeats the comparison on real objects.

use dicom_core::{Tag, VR, value::Value};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{InMemDicomObject, mem::InMemElement};

use crate::dummy::{dummy, empty};

/// Where a data set stands in its object.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    /// Sequences around it.
    pub(crate) depth: usize,
    /// The innermost of them.
    pub(crate) sequence: Option<Tag>,
}

impl Place {
    /// In an item of a sequence that stands here.
    pub(crate) const fn inside(self, sequence: Tag) -> Self {
        Self {
            depth: self.depth + 1,
            sequence: Some(sequence),
        }
    }
}

/// What an object must have of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Type 2: the attribute.
    Presence,
    /// Type 1: a value.
    Value,
}

use Need::{Presence, Value as AValue};

/// Attributes by the sequence they stand in; it has the same type wherever the sequence occurs.
const NESTED: [(Tag, Tag, Need); 16] = [
    // PS3.3 C.12.1 (SOP Common).
    (
        tags::CODING_SCHEME_RESOURCES_SEQUENCE,
        tags::CODING_SCHEME_URL,
        AValue,
    ),
    // C.17.2 and C.17.6: Referenced Request Sequence of documents.
    (
        tags::REFERENCED_REQUEST_SEQUENCE,
        tags::REFERENCED_STUDY_SEQUENCE,
        Presence,
    ),
    (
        tags::REFERENCED_REQUEST_SEQUENCE,
        tags::REQUESTED_PROCEDURE_ID,
        Presence,
    ),
    // C.8.8.5 (Structure Set).
    (
        tags::SOURCE_SERIES_INFORMATION_SEQUENCE,
        tags::SERIES_DESCRIPTION,
        AValue,
    ),
    // C.8.8 and C.36: radiotherapy, first and second generation.
    (
        tags::RECORDED_SOURCE_SEQUENCE,
        tags::SOURCE_MANUFACTURER,
        Presence,
    ),
    (
        tags::PATIENT_TREATMENT_PREPARATION_PROCEDURE_SEQUENCE,
        tags::PATIENT_TREATMENT_PREPARATION_PROCEDURE_PARAMETER_DESCRIPTION,
        Presence,
    ),
    (
        tags::REFERENCED_PATIENT_SETUP_PHOTO_SEQUENCE,
        tags::PATIENT_SETUP_PHOTO_DESCRIPTION,
        Presence,
    ),
    (
        tags::RT_ACCESSORY_HOLDER_SLOT_SEQUENCE,
        tags::RT_ACCESSORY_HOLDER_SLOT_ID,
        AValue,
    ),
    (
        tags::POSITION_ACQUISITION_TEMPLATE_IDENTIFICATION_SEQUENCE,
        tags::POSITION_ACQUISITION_TEMPLATE_NAME,
        AValue,
    ),
    (
        tags::POSITION_ACQUISITION_TEMPLATE_IDENTIFICATION_SEQUENCE,
        tags::POSITION_ACQUISITION_TEMPLATE_DESCRIPTION,
        Presence,
    ),
    (
        tags::RT_PRESCRIPTION_SEQUENCE,
        tags::PRIOR_TREATMENT_DOSE_DESCRIPTION,
        Presence,
    ),
    (
        tags::PLANNING_INPUT_INFORMATION_SEQUENCE,
        tags::REFERENCED_STUDY_SEQUENCE,
        AValue,
    ),
    (
        tags::RT_PHYSICIAN_INTENT_INPUT_INSTANCE_SEQUENCE,
        tags::REFERENCED_STUDY_SEQUENCE,
        AValue,
    ),
    (
        tags::REFERENCED_POSITION_REFERENCE_INSTANCE_SEQUENCE,
        tags::REFERENCED_STUDY_SEQUENCE,
        AValue,
    ),
    // Hanging protocols and protocol storage.
    (
        tags::HANGING_PROTOCOL_DEFINITION_SEQUENCE,
        tags::REASON_FOR_REQUESTED_PROCEDURE_CODE_SEQUENCE,
        Presence,
    ),
    (tags::STOWRS_STORAGE_SEQUENCE, tags::STORAGE_URL, AValue),
];

/// Presentation states (PS3.3 C.11.10): when they were made is type 1, as for structured displays.
const PRESENTATION_STATES: &str = "1.2.840.10008.5.1.4.1.1.11.";

/// What an object of `class` must have of `tag` in `data_set`, which stands at `place`. None where
/// the table's own choice is valid, or where nothing here knows.
pub(crate) fn need(
    class: &str,
    data_set: &InMemDicomObject,
    place: Place,
    tag: Tag,
) -> Option<Need> {
    if tag == tags::URN_CODE_VALUE {
        // Type 1C, where no other code value stands (PS3.3 Table 8.8-1).
        let other = [tags::CODE_VALUE, tags::LONG_CODE_VALUE];
        let alone = other.iter().all(|tag| data_set.get(*tag).is_none());
        return alone.then_some(AValue);
    }
    let Some(sequence) = place.sequence else {
        return of_object(class, data_set, tag);
    };
    // PS3.3 C.8.22.4; in the older PET module it is type 3.
    if tag == tags::RADIOPHARMACEUTICAL_START_DATE_TIME {
        let enhanced = class == uids::ENHANCED_PET_IMAGE_STORAGE;
        return enhanced.then_some(AValue);
    }
    NESTED
        .iter()
        .find(|(around, one, _)| *around == sequence && *one == tag)
        .map(|(_, _, need)| *need)
}

fn of_object(class: &str, object: &InMemDicomObject, tag: Tag) -> Option<Need> {
    match tag {
        tags::PRESENTATION_CREATION_DATE | tags::PRESENTATION_CREATION_TIME => {
            let states = class.starts_with(PRESENTATION_STATES);
            (states || class == uids::BASIC_STRUCTURED_DISPLAY_STORAGE).then_some(AValue)
        }
        // PS3.3 Table C.7-1, for patients that are no humans.
        tags::PATIENT_SPECIES_DESCRIPTION => object
            .get(tags::PATIENT_SPECIES_CODE_SEQUENCE)
            .is_none()
            .then_some(AValue),
        tags::PATIENT_BREED_DESCRIPTION
        | tags::BREED_REGISTRATION_SEQUENCE
        | tags::RESPONSIBLE_PERSON
        | tags::RESPONSIBLE_ORGANIZATION => {
            let species = [
                tags::PATIENT_SPECIES_DESCRIPTION,
                tags::PATIENT_SPECIES_CODE_SEQUENCE,
            ];
            let animal = species.iter().any(|tag| object.get(*tag).is_some());
            animal.then_some(Presence)
        }
        _ => None,
    }
}

/// Adds what became required by what went. Laterality (0020,0060) is type 2C: without a body part
/// that is known to be single, it is unknown and stands there without a value (PS3.3 Table C.7-5a).
pub(crate) fn complete(cleaned: &mut InMemDicomObject, original: &InMemDicomObject) {
    let part = |object: &InMemDicomObject| {
        let part = object.get(tags::BODY_PART_EXAMINED)?.to_bytes().ok()?;
        Some(part.trim_ascii().to_vec()).filter(|part| !part.is_empty())
    };
    let sides = [
        tags::LATERALITY,
        tags::IMAGE_LATERALITY,
        tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE,
    ];
    let was = part(original);
    if was.is_some() && was != part(cleaned) && sides.iter().all(|tag| cleaned.get(*tag).is_none())
    {
        cleaned.put(empty(tags::LATERALITY, VR::CS));
    }
}

/// Whether an element is there without saying anything: no value, or the one that is the same for
/// everybody.
pub(crate) fn says_nothing(element: &InMemElement) -> bool {
    let bytes = |element: &InMemElement| {
        let bytes = element.to_bytes().ok()?.into_owned();
        let end = bytes.iter().rposition(|byte| !matches!(byte, 0 | b' '));
        Some(bytes.get(..end.map_or(0, |end| end + 1))?.to_vec())
    };
    match element.value() {
        Value::Sequence(sequence) => sequence.items().is_empty(),
        Value::PixelSequence(_) => false,
        Value::Primitive(value) if value.calculate_byte_len() == 0 => true,
        Value::Primitive(_) if element.vr() == VR::UN => false,
        Value::Primitive(_) => bytes(element)
            .is_some_and(|said| bytes(&dummy(element.header().tag, element.vr())) == Some(said)),
    }
}

#[cfg(test)]
mod tests {
    use dicom_core::{DataElement, VR};
    use dicom_dictionary_std::{tags, uids};
    use dicom_object::InMemDicomObject;

    use super::{Need, Place, complete, need, says_nothing};
    use crate::dummy::{dummy, empty};

    #[test]
    fn types_depend_on_class_and_sequence() {
        let none = InMemDicomObject::new_empty();
        let top = Place::default();
        let request = top.inside(tags::REFERENCED_REQUEST_SEQUENCE);
        let image = uids::CT_IMAGE_STORAGE;
        let state = uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE;
        let study = tags::REFERENCED_STUDY_SEQUENCE;
        assert_eq!(need(image, &none, top, study), None);
        assert_eq!(need(image, &none, request, study), Some(Need::Presence));
        let made = tags::PRESENTATION_CREATION_DATE;
        assert_eq!(need(image, &none, top, made), None);
        assert_eq!(need(state, &none, top, made), Some(Need::Value));
        let mut animal = InMemDicomObject::new_empty();
        let person = tags::RESPONSIBLE_PERSON;
        assert_eq!(need(image, &animal, top, person), None);
        animal.put(empty(tags::PATIENT_SPECIES_CODE_SEQUENCE, VR::SQ));
        assert_eq!(need(image, &animal, top, person), Some(Need::Presence));
    }

    #[test]
    fn without_its_body_part_an_object_has_no_known_side() {
        let part = |text: &str| {
            let part = DataElement::new(tags::BODY_PART_EXAMINED, VR::CS, text);
            InMemDicomObject::from_element_iter([part])
        };
        let side = |mut cleaned: InMemDicomObject| {
            complete(&mut cleaned, &part("CHEST "));
            cleaned.get(tags::LATERALITY).is_some()
        };
        assert!(side(part("REMOVED")) && !side(part("CHEST")));
        let mut left = part("REMOVED");
        left.put(DataElement::new(tags::IMAGE_LATERALITY, VR::CS, "L"));
        assert!(!side(left));
    }

    #[test]
    fn only_no_value_and_the_dummy_say_nothing() {
        let tag = tags::RESPONSIBLE_PERSON;
        assert!(says_nothing(&empty(tag, VR::PN)));
        assert!(says_nothing(&dummy(tag, VR::PN)));
        assert!(!says_nothing(&DataElement::new(tag, VR::PN, "Jane")));
        let date = tags::PRESENTATION_CREATION_DATE;
        assert!(says_nothing(&dummy(date, VR::DA)));
        assert!(!says_nothing(&DataElement::new(date, VR::DA, "19000102")));
    }
}
