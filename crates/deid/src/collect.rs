//! Collects the identifiers of an object before they are removed. Reading comes before; the
//! cleaner, the gate and the query scrubber use what is collected here.

use std::collections::HashSet;

use cloister_scrub::{Kind, KnownIdentifiers};
use dicom_core::{DataDictionary, Tag, VR, dictionary::DataDictionaryEntry};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use dicom_object::{FileDicomObject, InMemDicomObject, mem::InMemElement};

use crate::{
    Identity, Policy,
    charset::{also_named, codes_of, dictionary_vr, values},
    denied::is_denied,
    table::{self, Effect, ProfileOption},
};

/// Identifiers of one object beyond which it is refused; real objects hold some dozens.
const MAX_IDENTIFIERS: usize = 1024;
/// Parts of one name: the search pairs them, so their number counts squared.
const MAX_NAME_PARTS: usize = 24;

/// Pairs of parts of all names together: some 250 names of four parts. Other readings of a name
/// take of it too, but no more than half.
const MAX_NAME_PAIRS: usize = 4096;

/// All identifiers at any depth, also in private attributes, but for those that the policy lets
/// stay. `None` if there are more than can be searched for.
pub(crate) fn collect(
    object: &FileDicomObject<InMemDicomObject>,
    policy: Policy,
) -> Option<KnownIdentifiers> {
    let mut collection = Collection {
        policy,
        known: KnownIdentifiers::new(),
        pairs: 0,
        births: Vec::new(),
        kept_dates: HashSet::new(),
    };
    let instance = object.meta().media_storage_sop_instance_uid();
    if !instance.starts_with("1.2.840.10008.1.") && !policy.has(ProfileOption::RetainUids) {
        collection.known.add(Kind::Uid, instance);
    }
    collection.item(object, &[])?;
    let age = object.get(tags::PATIENT_AGE);
    let years = age.is_some_and(|age| {
        let age = values(age, &[]).concat();
        age.ends_with('Y') && age != "000Y"
    });
    Some(collection.finish(years))
}

struct Collection {
    policy: Policy,
    known: KnownIdentifiers,
    pairs: usize,
    /// Birth dates where the policy keeps dates. A newborn's is a kept date too and cannot be
    /// looked for; with a date that is no newborn's it is somebody's birth date in a wrong place.
    births: Vec<String>,
    kept_dates: HashSet<String>,
}

impl Collection {
    /// `years`: the patient is said to be one year old or more.
    fn finish(mut self, years: bool) -> KnownIdentifiers {
        for birth in self.births {
            let born = day(&birth);
            let within_a_year = |kept: &String| {
                let span = kept.parse::<u32>().ok().zip(born.parse::<u32>().ok());
                span.is_some_and(|(kept, born)| (born..=born + 10_000).contains(&kept))
            };
            let newborn = !years
                && self.kept_dates.contains(&born)
                && self.kept_dates.iter().all(within_a_year);
            if !newborn {
                self.known.add(Kind::Date, &birth);
            }
        }
        self.known
    }

    fn item(&mut self, object: &InMemDicomObject, outer: &[String]) -> Option<()> {
        let codes = codes_of(object, outer);
        for element in object.iter() {
            if let Some(items) = element.items() {
                for item in items {
                    self.item(item, &codes)?;
                }
                continue;
            }
            if element.fragments().is_some() {
                continue;
            }
            if keeps_date(element, self.policy) {
                let dates = values(element, &codes);
                let dates = dates.iter().filter(|date| !date.is_empty());
                self.kept_dates.extend(dates.map(|date| day(date)));
            }
            if let Some(kind) = kind_of(element, self.policy) {
                self.element(element, kind, &codes)?;
            }
        }
        Some(())
    }

    fn element(&mut self, element: &InMemElement, kind: Kind, codes: &[String]) -> Option<()> {
        let birth = kind == Kind::Date
            && self.policy.has(ProfileOption::RetainFullDates)
            && element.header().tag == tags::PATIENT_BIRTH_DATE;
        for value in values(element, codes) {
            if self.known.len() + self.births.len() >= MAX_IDENTIFIERS {
                return None;
            }
            match kind {
                Kind::Name => self.name(&value, codes)?,
                _ if birth => self.births.push(value),
                // The standard's own UIDs (colour palettes, frames of reference) name nobody.
                Kind::Uid if value.starts_with("1.2.840.10008.1.") => {}
                _ => self.known.add(kind, &value),
            }
        }
        // As the parser saw it: bytes of an ISO 2022 set that were copied elsewhere look the same.
        if kind == Kind::Name
            && codes.len() > 1
            && let Ok(raw) = element.to_str()
            && raw.contains('\u{1b}')
        {
            self.paired(&raw)?;
        }
        Some(())
    }

    fn name(&mut self, value: &str, codes: &[String]) -> Option<()> {
        if parts(value) > MAX_NAME_PARTS {
            return None;
        }
        self.paired(value)?;
        for reading in also_named(value, codes) {
            let pairs = self.pairs + parts(&reading).pow(2);
            if self.known.len() < MAX_IDENTIFIERS / 2 && pairs <= MAX_NAME_PAIRS / 2 {
                self.paired(&reading)?;
            }
        }
        Some(())
    }

    /// Adds a name within the budget; the same one again costs nothing.
    fn paired(&mut self, name: &str) -> Option<()> {
        let before = self.known.len();
        self.known.add(Kind::Name, name);
        if self.known.len() > before {
            self.pairs += parts(name).pow(2);
        }
        (self.pairs <= MAX_NAME_PAIRS).then_some(())
    }
}

fn parts(name: &str) -> usize {
    name.split(|c: char| !c.is_alphanumeric())
        .filter(|part| !part.is_empty())
        .count()
}

/// `YYYYMMDD` of a date or a point in time.
fn day(value: &str) -> String {
    value.chars().filter(char::is_ascii_digit).take(8).collect()
}

/// Whether an attribute is a date that stays as it is for the option on full dates.
fn keeps_date(element: &InMemElement, policy: Policy) -> bool {
    let tag = element.header().tag;
    policy.has(ProfileOption::RetainFullDates)
        && matches!(dictionary_vr(tag), Some(VR::DA | VR::DT))
        && table::find(tag).is_some_and(|row| policy.effect(row) == Effect::Keep)
}

/// What kind of identifier an attribute holds; none where it holds none or may keep it.
fn kind_of(element: &InMemElement, policy: Policy) -> Option<Kind> {
    let tag = element.header().tag;
    let vr = dictionary_vr(tag).unwrap_or(element.vr());
    let entry = StandardDataDictionary.by_tag(tag);
    let alias = entry.map(DataDictionaryEntry::alias).unwrap_or_default();
    let Some(row) = table::find(tag) else {
        return kind_of_unlisted(tag, vr, alias);
    };
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

/// The table does not speak of it, so no option keeps it.
fn kind_of_unlisted(tag: Tag, vr: VR, alias: &str) -> Option<Kind> {
    if !is_denied(tag) {
        return None;
    }
    match vr {
        VR::PN => Some(Kind::Name),
        VR::LO | VR::SH | VR::ST | VR::LT | VR::UT | VR::UC => match alias {
            "NameToUse" | "ContactDisplayName" => Some(Kind::Name),
            // Digits of another calendar.
            _ if alias.ends_with("InAlternativeCalendar") => Some(Kind::Id),
            _ => names_a_number(alias).then_some(Kind::Id),
        },
        _ => None,
    }
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
