//! States in the object what was done to it (PS3.15 E.1.1 items 6 and 7, PS3.3 Table C.7-1). Cleaning
//! stands before it; encoding follows. Burned In Annotation is left to redaction.

use dicom_core::{DataElement, Length, PrimitiveValue, VR, value::DataSetSequence};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use crate::{Policy, dummy::code, table::ProfileOption};

const BASIC: (&str, &str) = ("113100", "Basic Application Confidentiality Profile");

/// PS3.16 CID 7050: what may have been done before, by others too.
const CODES: [(&str, &str); 13] = [
    BASIC,
    ("113101", "Clean Pixel Data Option"),
    ("113102", "Clean Recognizable Visual Features Option"),
    ("113103", "Clean Graphics Option"),
    ("113104", "Clean Structured Content Option"),
    ("113105", "Clean Descriptors Option"),
    (
        "113106",
        "Retain Longitudinal Temporal Information Full Dates Option",
    ),
    (
        "113107",
        "Retain Longitudinal Temporal Information Modified Dates Option",
    ),
    ("113108", "Retain Patient Characteristics Option"),
    ("113109", "Retain Device Identity Option"),
    ("113110", "Retain UIDs Option"),
    ("113111", "Retain Safe Private Option"),
    ("113112", "Retain Institution Identity Option"),
];

const fn code_of(option: ProfileOption) -> &'static str {
    match option {
        ProfileOption::CleanGraphics => "113103",
        ProfileOption::CleanStructuredContent => "113104",
        ProfileOption::CleanDescriptors => "113105",
        ProfileOption::RetainFullDates => "113106",
        ProfileOption::RetainModifiedDates => "113107",
        ProfileOption::RetainPatientCharacteristics => "113108",
        ProfileOption::RetainDeviceIdentity => "113109",
        ProfileOption::RetainUids => "113110",
        ProfileOption::RetainSafePrivate => "113111",
        ProfileOption::RetainInstitutionIdentity => "113112",
    }
}

/// Writes the statement into `cleaned`. What `original` says of earlier steps stands before it:
/// both attributes hold one value for each successive step (PS3.3 Table C.7-1). Of those only
/// standard codes and texts in the cleaned form are repeated.
/// `lost_dates`: some that the policy keeps were not kept.
pub(crate) fn state(
    cleaned: &mut InMemDicomObject,
    original: &InMemDicomObject,
    policy: Policy,
    lost_dates: bool,
) {
    let mut applied = earlier_codes(original);
    let ours = std::iter::once(BASIC.0).chain(policy.options().map(code_of));
    for value in ours {
        if let Some(known) = CODES.iter().find(|(code, _)| *code == value)
            && !applied.contains(known)
        {
            applied.push(*known);
        }
    }
    let items: Vec<_> = applied
        .iter()
        .map(|(value, meaning)| code(value, "DCM", meaning))
        .collect();

    let method = match policy.options().count() {
        0 => "Cloister: PS3.15 Basic Profile".to_owned(),
        1 => "Cloister: PS3.15 Basic Profile, 1 option".to_owned(),
        many => format!("Cloister: PS3.15 Basic Profile, {many} options"),
    };
    let mut methods: Vec<String> = cleaned
        .get(tags::DEIDENTIFICATION_METHOD)
        .and_then(|element| element.to_multi_str().ok())
        .map(std::borrow::Cow::into_owned)
        .unwrap_or_default();
    methods.retain(|earlier| !earlier.trim().is_empty() && *earlier != method);
    methods.push(method);

    cleaned.put(DataElement::new(
        tags::SPECIFIC_CHARACTER_SET,
        VR::CS,
        "ISO_IR 192",
    ));
    cleaned.put(DataElement::new(
        tags::PATIENT_IDENTITY_REMOVED,
        VR::CS,
        "YES",
    ));
    cleaned.put(DataElement::new(
        tags::DEIDENTIFICATION_METHOD,
        VR::LO,
        PrimitiveValue::Strs(methods.into()),
    ));
    cleaned.put(DataElement::new(
        tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE,
        VR::SQ,
        DataSetSequence::new(items, Length::UNDEFINED),
    ));
    cleaned.put(DataElement::new(
        tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED,
        VR::CS,
        dates(original, policy, lost_dates),
    ));
}

fn earlier_codes(original: &InMemDicomObject) -> Vec<(&'static str, &'static str)> {
    let items = original
        .get(tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE)
        .and_then(|sequence| sequence.items())
        .unwrap_or_default();
    let mut earlier = Vec::new();
    for item in items {
        let text = |tag| item.get(tag).and_then(|element| element.to_str().ok());
        if text(tags::CODING_SCHEME_DESIGNATOR).is_none_or(|scheme| scheme.trim() != "DCM") {
            continue;
        }
        let value = text(tags::CODE_VALUE).unwrap_or_default();
        if let Some(known) = CODES.iter().find(|(code, _)| *code == value.trim())
            && !earlier.contains(known)
        {
            earlier.push(*known);
        }
    }
    earlier
}

/// (0028,0303). Dates that an earlier step modified or removed are not unmodified for being kept.
fn dates(original: &InMemDicomObject, policy: Policy, lost: bool) -> &'static str {
    const RANKS: [&str; 3] = ["UNMODIFIED", "MODIFIED", "REMOVED"];
    let now = if policy.has(ProfileOption::RetainFullDates) {
        usize::from(lost)
    } else if policy.has(ProfileOption::RetainModifiedDates) {
        1
    } else {
        2
    };
    let before = original
        .get(tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED)
        .and_then(|element| element.to_str().ok())
        .and_then(|said| RANKS.iter().position(|rank| *rank == said.trim()))
        .unwrap_or(0);
    RANKS.get(now.max(before)).copied().unwrap_or("REMOVED")
}
