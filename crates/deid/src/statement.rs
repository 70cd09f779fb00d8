//! States in the object what was done to it (PS3.15 E.1.1 items 6 and 7, PS3.3 Table C.7-1). Cleaning
//! stands before it; encoding follows. Of the pixels it says the worst until redaction has looked
//! through them.

use cloister_phi::Uid;
use dicom_core::{DataElement, Length, PrimitiveValue, VR, value::DataSetSequence};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use crate::{
    DeidError, Policy,
    deidentify::{encode, file_meta},
    dummy::code,
    read,
    table::ProfileOption,
};

const CLEAN_PIXELS: &str = "113101";
const BASIC: (&str, &str) = ("113100", "Basic Application Confidentiality Profile");

/// PS3.16 CID 7050. Only what this run applied is ever stated.
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

/// Writes the statement into `cleaned`. The codes are those of this run: what a sender claims nobody
/// here has checked, and cleaning may have made it untrue. Of earlier steps the texts remain, in the
/// cleaned form; they hold one value for each step (PS3.3 Table C.7-1).
/// `lost_dates`: some that the policy keeps were not kept.
pub(crate) fn state(
    cleaned: &mut InMemDicomObject,
    original: &InMemDicomObject,
    policy: Policy,
    lost_dates: bool,
) {
    let mut applied = Vec::new();
    let ours = std::iter::once(BASIC.0).chain(policy.options().map(code_of));
    ours.for_each(|code| add(&mut applied, code));
    put_codes(cleaned, &applied);
    put_method(cleaned, None, &method(policy.options().count()));

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
        tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED,
        VR::CS,
        dates(original, policy, lost_dates),
    ));
    // Whatever the sender said: until they are looked through, pixels may name somebody.
    if has_pixels(cleaned) {
        cleaned.put(DataElement::new(tags::BURNED_IN_ANNOTATION, VR::CS, "YES"));
    }
}

/// What is left to do and to say for an object whose attributes are clean: its pixels. Redaction
/// takes the bytes; what it gives back is completed by this.
///
/// The attributes of an object that was never completed say that its pixels may hold text.
#[derive(Debug, Clone)]
pub struct Unredacted {
    sop_instance_uid: Uid,
    frames: u32,
    options: usize,
}

/// An encoded object that says truthfully that its pixels are clean. Only
/// [`Unredacted::complete`] makes one.
#[derive(Debug)]
pub struct Stated(Vec<u8>);

impl Stated {
    /// The encoded object.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same by value.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl Unredacted {
    pub(crate) fn of(object: &InMemDicomObject, uid: &Uid, policy: Policy) -> Self {
        Self {
            sop_instance_uid: uid.clone(),
            frames: frames(object),
            options: policy.options().count(),
        }
    }

    /// Adds the Clean Pixel Data Option (113101; PS3.15 E.3.1) to the statement of an object as
    /// redaction encoded it. The proof is in the object: the same instance with pixels in as many
    /// frames, and Burned In Annotation (0028,0301) NO, which nothing but redaction writes, after it
    /// has looked through every frame. Icons and overlays, which the option speaks of as well, are
    /// gone by the Basic profile.
    ///
    /// # Errors
    /// [`DeidError::NotRedacted`] where that is not so, [`DeidError::Unreadable`] or
    /// [`DeidError::Unwritable`]; the object must not leave.
    pub fn complete(&self, redacted: Vec<u8>) -> Result<Stated, DeidError> {
        let mut object = read::read(&redacted).map_err(|_| DeidError::Unreadable)?;
        // The pixels are in memory once and need not be there twice.
        drop(redacted);
        let text = |tag| {
            let element = object.get(tag)?;
            let text = element.to_str().ok()?;
            Some(text.trim_matches(['\0', ' ']).to_owned())
        };
        let same = text(tags::SOP_INSTANCE_UID).as_deref() == Some(self.sop_instance_uid.as_str())
            && frames(&object) == self.frames;
        let looked_through = text(tags::BURNED_IN_ANNOTATION).as_deref() == Some("NO");
        if !(has_pixels(&object) && same && looked_through) {
            return Err(DeidError::NotRedacted);
        }
        let mut applied = codes_in(&object);
        add(&mut applied, CLEAN_PIXELS);
        put_codes(&mut object, &applied);
        let before = method(self.options);
        put_method(&mut object, Some(&before), &method(self.options + 1));
        let class = object.meta().media_storage_sop_class_uid().to_owned();
        let syntax = object.meta().transfer_syntax().to_owned();
        let meta = file_meta(&syntax, &class, self.sop_instance_uid.as_str())?;
        *object.meta_mut() = meta;
        encode(&object).map(Stated)
    }
}

fn has_pixels(object: &InMemDicomObject) -> bool {
    [
        tags::PIXEL_DATA,
        tags::FLOAT_PIXEL_DATA,
        tags::DOUBLE_FLOAT_PIXEL_DATA,
    ]
    .into_iter()
    .any(|tag| object.get(tag).is_some())
}

fn frames(object: &InMemDicomObject) -> u32 {
    let frames = object.get(tags::NUMBER_OF_FRAMES);
    frames
        .and_then(|frames| frames.to_int::<u32>().ok())
        .unwrap_or(1)
        .max(1)
}

/// (0012,0063) in our words.
fn method(options: usize) -> String {
    match options {
        0 => "Cloister: PS3.15 Basic Profile".to_owned(),
        1 => "Cloister: PS3.15 Basic Profile, 1 option".to_owned(),
        many => format!("Cloister: PS3.15 Basic Profile, {many} options"),
    }
}

/// Puts `now` at the end of the methods; the last of them goes if it is `instead_of`.
fn put_method(object: &mut InMemDicomObject, instead_of: Option<&str>, now: &str) {
    let mut methods: Vec<String> = object
        .get(tags::DEIDENTIFICATION_METHOD)
        .and_then(|element| element.to_multi_str().ok())
        .map(std::borrow::Cow::into_owned)
        .unwrap_or_default();
    let ours = |last: &String| Some(last.trim()) == instead_of;
    if methods.last().is_some_and(ours) {
        methods.pop();
    }
    methods.retain(|earlier| !earlier.trim().is_empty() && earlier.trim() != now);
    methods.push(now.to_owned());
    object.put(DataElement::new(
        tags::DEIDENTIFICATION_METHOD,
        VR::LO,
        PrimitiveValue::Strs(methods.into()),
    ));
}

type Code = (&'static str, &'static str);

fn add(applied: &mut Vec<Code>, value: &str) {
    if let Some(known) = CODES.iter().find(|(code, _)| *code == value)
        && !applied.contains(known)
    {
        applied.push(*known);
    }
}

fn put_codes(object: &mut InMemDicomObject, applied: &[Code]) {
    let items: Vec<_> = applied
        .iter()
        .map(|(value, meaning)| code(value, "DCM", meaning))
        .collect();
    object.put(DataElement::new(
        tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE,
        VR::SQ,
        DataSetSequence::new(items, Length::UNDEFINED),
    ));
}

/// The standard codes of (0012,0064), each once.
fn codes_in(object: &InMemDicomObject) -> Vec<Code> {
    let items = object
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
