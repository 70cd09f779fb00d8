//! Attributes that PS3.15 Table E.1-1 does not list and that go all the same. The cleaner, the
//! collection and the gate ask alike; what is neither here nor in the table is judged by its value.

use dicom_core::Tag;
use dicom_dictionary_std::tags;

/// Attributes about the patient (group 0010) that the table does not list and that say nothing of
/// who it is. All others of the group go: names to use, pronouns, dates in other calendars, body
/// measures, and whatever the standard adds.
const OF_ANY_PATIENT: [Tag; 8] = [
    tags::TYPE_OF_PATIENT_ID,
    tags::SUBJECT_RELATIVE_POSITION_IN_IMAGE,
    tags::QUALITY_CONTROL_SUBJECT,
    tags::QUALITY_CONTROL_SUBJECT_TYPE_CODE_SEQUENCE,
    tags::PATIENT_SPECIES_CODE_SEQUENCE,
    tags::ANATOMICAL_ORIENTATION_TYPE,
    tags::PATIENT_BREED_CODE_SEQUENCE,
    tags::RESPONSIBLE_PERSON_ROLE,
];

/// Persons and their comments outside that group.
const ELSEWHERE: [Tag; 4] = [
    tags::COMPONENT_WELDER_I_DS,
    tags::COMMENTS_ON_THE_SCHEDULED_PROCEDURE_STEP,
    tags::CONTACT_DISPLAY_NAME,
    tags::OWNER_ID,
];

/// Luggage and its owners: boarding passes, itineraries.
const SECURITY_GROUP: u16 = 0x4010;

/// Pixels and where their frames begin: all that group 7FE0 may hold.
const PIXELS: [Tag; 6] = [
    tags::EXTENDED_OFFSET_TABLE,
    tags::EXTENDED_OFFSET_TABLE_LENGTHS,
    tags::ENCAPSULATED_PIXEL_DATA_VALUE_TOTAL_LENGTH,
    tags::FLOAT_PIXEL_DATA,
    tags::DOUBLE_FLOAT_PIXEL_DATA,
    tags::PIXEL_DATA,
];

/// Whether an attribute without a row in the table must not stay.
pub(crate) fn is_denied(tag: Tag) -> bool {
    match tag.group() {
        0x0010 => !OF_ANY_PATIENT.contains(&tag),
        0x7FE0 => !PIXELS.contains(&tag),
        SECURITY_GROUP => true,
        _ => ELSEWHERE.contains(&tag),
    }
}

/// Whether an attribute holds pixels; below the top level there are none that anybody redacts.
pub(crate) fn is_of_pixels(tag: Tag) -> bool {
    tag.group() == 0x7FE0
}
