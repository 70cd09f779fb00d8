//! Content items (PS3.3 C.17.3, C.18; PS3.15 E.3.4): each by its value type
//! and concept name. The cleaner hands every item of a sequence through here.

use dicom_core::{DataElement, VR};
use dicom_dictionary_std::tags;
use dicom_object::{InMemDicomObject, mem::InMemElement};

use crate::{
    PseudonymError,
    charset::{codes_of, values},
    clean::Cleaner,
    dummy::REMOVED,
    required::Place,
    table::ProfileOption,
};

/// Who looks at what (TID 1002 to 1008), by DCM code: text that identifies a person.
const PERSONAL: [&str; 15] = [
    "121008", // Person Observer Name
    "121018", // Procedure Study Instance UID
    "121019", // Procedure Study Component UID
    "121020", // Placer Number
    "121021", // Filler Number
    "121022", // Accession Number
    "121028", // Subject UID
    "121029", // Subject Name
    "121030", // Subject ID
    "121031", // Subject Birth Date
    "121036", // Mother of fetus
    "128774", // Person Observer's Login Name
    "121010", // Person Observer's Role in the Organization
    "121009", // Person Observer's Organization Name
    "121017", // Device Observer Physical Location During Observation
];
/// Text that the option on device identity keeps, cleaned.
const DEVICE: [&str; 5] = ["121013", "121014", "121015", "121016", "121017"];
/// Text that the option on institution identity keeps, cleaned.
const INSTITUTION: [&str; 1] = ["121009"];
/// Sex, age, species and breed of the subject: the option on patient characteristics keeps them.
const CHARACTERISTICS: [&str; 4] = ["121032", "121033", "121034", "121035"];

/// Words of a concept name that announce an identifier.
const ANNOUNCES: [&str; 16] = [
    "name",
    "id",
    "identifier",
    "number",
    "address",
    "telephone",
    "phone",
    "birth",
    "accession",
    "login",
    "contact",
    "signature",
    "email",
    "mrn",
    "initials",
    "location",
];

/// Schemes whose codes are concepts (PS3.16 chapter 8).
const STANDARD_SCHEMES: [&str; 14] = [
    "DCM", "SCT", "SRT", "SNM3", "LN", "RADLEX", "UCUM", "UMLS", "FMA", "MDC", "NCIt", "BI",
    "ICD10", "I10",
];

/// Whether the data set is a code of a standard scheme.
pub(crate) fn has_standard_code(object: &InMemDicomObject) -> bool {
    object
        .get(tags::CODING_SCHEME_DESIGNATOR)
        .and_then(|element| element.to_str().ok())
        .is_some_and(|scheme| STANDARD_SCHEMES.contains(&scheme.trim()))
}

/// Whether the attribute is the code itself.
pub(crate) fn is_code_value(tag: dicom_core::Tag) -> bool {
    tag == tags::CODE_VALUE || tag == tags::LONG_CODE_VALUE
}

impl Cleaner<'_> {
    /// `C` of the option on structured content: a sequence of content items. None if nothing of it
    /// can stay.
    pub(crate) fn content_items(
        &self,
        element: &InMemElement,
        codes: &[String],
        place: Place,
    ) -> Result<Option<InMemElement>, PseudonymError> {
        let had = element.items().is_some_and(|items| !items.is_empty());
        let cleaned = self.items(element, codes, place)?;
        Ok(
            cleaned
                .filter(|cleaned| !had || cleaned.items().is_some_and(|items| !items.is_empty())),
        )
    }

    /// One item of any sequence; none if it is a content item that cannot stay.
    pub(crate) fn item(
        &self,
        item: &InMemDicomObject,
        outer: &[String],
        place: Place,
    ) -> Result<Option<InMemDicomObject>, PseudonymError> {
        let codes = codes_of(item, outer);
        let value_type = item
            .get(tags::VALUE_TYPE)
            .map(|element| values(element, &codes).join("\\"));
        let Some(value_type) = value_type.filter(|value_type| !value_type.is_empty()) else {
            return self.clean(item, outer, place).map(Some);
        };
        let concept = Concept::of(item, &codes);
        let described = self.policy.has(ProfileOption::RetainPatientCharacteristics);
        if !described && concept.is_one_of(&CHARACTERISTICS) {
            return Ok(None);
        }
        let mut cleaned = self.clean(item, outer, place)?;
        match value_type.as_str() {
            // The table speaks of the values of all but free text.
            "PNAME" | "DATE" | "TIME" | "DATETIME" | "UIDREF" | "CODE" | "NUM" | "CONTAINER"
            | "COMPOSITE" | "IMAGE" | "WAVEFORM" | "SCOORD" | "SCOORD3D" | "TCOORD" | "TABLE" => {}
            "TEXT" => {
                if self.identifies(&concept) && cleaned.get(tags::TEXT_VALUE).is_some() {
                    cleaned.put(DataElement::new(tags::TEXT_VALUE, VR::UT, REMOVED));
                }
            }
            _ => return Ok(None),
        }
        Ok(Some(cleaned))
    }

    /// Whether text under this concept is an identifier whatever it says.
    fn identifies(&self, concept: &Concept) -> bool {
        let keeps = |option, codes: &[&str]| self.policy.has(option) && concept.is_one_of(codes);
        if keeps(ProfileOption::RetainDeviceIdentity, &DEVICE)
            || keeps(ProfileOption::RetainInstitutionIdentity, &INSTITUTION)
        {
            return false;
        }
        // A concept without a name may be anything.
        concept.meaning.is_empty()
            || concept.is_one_of(&PERSONAL)
            || concept.is_one_of(&DEVICE)
            || concept
                .meaning
                .split(|c: char| !c.is_alphanumeric())
                .any(|word| ANNOUNCES.contains(&word.to_lowercase().as_str()))
    }
}

/// What a content item speaks of.
struct Concept {
    scheme: String,
    code: String,
    meaning: String,
}

impl Concept {
    fn of(item: &InMemDicomObject, codes: &[String]) -> Self {
        let name = item
            .get(tags::CONCEPT_NAME_CODE_SEQUENCE)
            .and_then(|sequence| sequence.items())
            .and_then(<[_]>::first);
        let text = |tag| {
            name.and_then(|name| name.get(tag))
                .map(|element| values(element, codes).join(" "))
                .unwrap_or_default()
        };
        Self {
            scheme: text(tags::CODING_SCHEME_DESIGNATOR),
            code: text(tags::CODE_VALUE),
            meaning: text(tags::CODE_MEANING),
        }
    }

    fn is_one_of(&self, dcm: &[&str]) -> bool {
        self.scheme == "DCM" && dcm.contains(&self.code.as_str())
    }
}
