//! Collects the identifiers of an object before they are removed. Reading comes before; the
//! cleaner, the gate and the query scrubber use what is collected here.

use cloister_scrub::{Kind, KnownIdentifiers};
use dicom_core::{DataDictionary, Tag, VR, dictionary::DataDictionaryEntry};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use dicom_object::{FileDicomObject, InMemDicomObject, mem::InMemElement};

use crate::{
    Identity, Policy,
    charset::{also_named, codes_of, dictionary_vr, values},
    table::{self, Effect, ProfileOption},
};

/// Identifiers of one object beyond which it is refused; real objects hold some dozens.
const MAX_IDENTIFIERS: usize = 1024;
/// Parts of one name: the search pairs them, so their number counts squared.
const MAX_NAME_PARTS: usize = 24;

/// All identifiers at any depth, also in private attributes, but for those that the policy lets
/// stay. `None` if there are more than can be searched for.
pub(crate) fn collect(
    object: &FileDicomObject<InMemDicomObject>,
    policy: Policy,
) -> Option<KnownIdentifiers> {
    let mut known = KnownIdentifiers::new();
    let instance = object.meta().media_storage_sop_instance_uid();
    if !instance.starts_with("1.2.840.10008.1.") && !policy.has(ProfileOption::RetainUids) {
        known.add(Kind::Uid, instance);
    }
    collect_item(object, &[], policy, &mut known)?;
    Some(known)
}

fn collect_item(
    object: &InMemDicomObject,
    outer: &[String],
    policy: Policy,
    known: &mut KnownIdentifiers,
) -> Option<()> {
    let codes = codes_of(object, outer);
    for element in object.iter() {
        if let Some(items) = element.items() {
            for item in items {
                collect_item(item, &codes, policy, known)?;
            }
            continue;
        }
        if element.fragments().is_some() {
            continue;
        }
        let Some(kind) = kind_of(element, policy) else {
            continue;
        };
        for value in values(element, &codes) {
            let parts = value.split(|c: char| !c.is_alphanumeric());
            let long = kind == Kind::Name
                && parts.filter(|part| !part.is_empty()).count() > MAX_NAME_PARTS;
            if long || known.len() >= MAX_IDENTIFIERS {
                return None;
            }
            // The standard's own UIDs (colour palettes, frames of reference) name nobody.
            if kind != Kind::Uid || !value.starts_with("1.2.840.10008.1.") {
                known.add(kind, &value);
            }
            if kind == Kind::Name && known.len() < MAX_IDENTIFIERS / 2 {
                for reading in also_named(&value, &codes) {
                    known.add(kind, &reading);
                }
            }
        }
        // As the parser saw it: bytes of an ISO 2022 set that were copied elsewhere look the same.
        if kind == Kind::Name
            && codes.len() > 1
            && let Ok(raw) = element.to_str()
            && raw.contains('\u{1b}')
        {
            known.add(kind, &raw);
        }
    }
    Some(())
}

/// What kind of identifier an attribute holds; none where it holds none or may keep it.
fn kind_of(element: &InMemElement, policy: Policy) -> Option<Kind> {
    let tag = element.header().tag;
    let row = table::find(tag)?;
    let vr = dictionary_vr(tag).unwrap_or(element.vr());
    let entry = StandardDataDictionary.by_tag(tag);
    let alias = entry.map(DataDictionaryEntry::alias).unwrap_or_default();
    let kind = match vr {
        VR::PN => Some(Kind::Name),
        VR::DA | VR::DT => Some(Kind::Date),
        VR::UI => (row.action.effect() == Effect::MapUid).then_some(Kind::Uid),
        VR::LO | VR::SH | VR::ST | VR::LT | VR::UT | VR::UC => match alias {
            "InstitutionName"
            | "InstitutionalDepartmentName"
            | "IssuerOfPatientID"
            | "ResponsibleOrganization"
            | "RequestingService"
            | "PerformedLocation" => Some(Kind::Institution),
            "CurrentPatientLocation" | "PatientInstitutionResidence" | "RegionOfResidence" => {
                Some(Kind::Address)
            }
            "PatientComments" | "AdditionalPatientHistory" => None,
            _ if alias.contains("Address") => Some(Kind::Address),
            _ if alias.contains("Telephone") || alias.contains("Telecom") => Some(Kind::Phone),
            _ if matches!(vr, VR::LO | VR::SH) && names_a_number(alias) => Some(Kind::Id),
            _ => None,
        },
        _ => None,
    };
    kind.filter(|kind| !policy.lets_stay(row, *kind, alias))
}

fn names_a_number(alias: &str) -> bool {
    let ends = ["ID", "IDs", "Number", "Identifier", "Locator"];
    ends.iter().any(|end| alias.ends_with(end))
        || alias.contains("OrderNumber")
        || alias == "MilitaryRank"
        || alias == "InsurancePlanIdentification"
}

/// Who the patient is, for the capsule.
pub(crate) fn identity(object: &InMemDicomObject, issuer_fallback: &str) -> Identity {
    let codes = codes_of(object, &[]);
    let text = |tag: Tag| {
        object
            .get(tag)
            .map(|element| values(element, &codes).join("\\"))
            .unwrap_or_default()
    };
    let issuer = text(tags::ISSUER_OF_PATIENT_ID);
    Identity {
        patient_name: text(tags::PATIENT_NAME),
        patient_id: text(tags::PATIENT_ID),
        issuer: if issuer.is_empty() {
            issuer_fallback.to_owned()
        } else {
            issuer
        },
        birth_date: text(tags::PATIENT_BIRTH_DATE),
        sex: text(tags::PATIENT_SEX),
        accession: text(tags::ACCESSION_NUMBER),
        study_uid: text(tags::STUDY_INSTANCE_UID),
        series_uid: text(tags::SERIES_INSTANCE_UID),
        sop_uid: text(tags::SOP_INSTANCE_UID),
        sop_class: text(tags::SOP_CLASS_UID),
        study_date: text(tags::STUDY_DATE),
        study_time: text(tags::STUDY_TIME),
        referring: text(tags::REFERRING_PHYSICIAN_NAME),
    }
}
