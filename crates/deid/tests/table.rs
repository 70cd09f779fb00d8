//! Every cell of Table E.1-1, 621 rows under the Basic profile and each of ten options, at the top
//! level and nested, through the encoder and the gate.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code")]

mod common;

use cloister_deid::{
    Deidentifier, HmacPseudonyms, Policy, ProfileOption, gate,
    table::{self, Action, Effect, Row, Tags},
};
use cloister_scrub::Kind;
use common::objects::{sequence, text};
use dicom_core::{
    DataDictionary, DataElement, PrimitiveValue, Tag, VR,
    dictionary::{DataDictionaryEntry, VirtualVr},
};
use dicom_dictionary_std::{StandardDataDictionary, tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject, mem::InMemElement};
use zeroize::Zeroizing;

const CANARY: &str = "ZYXWCANARY";
const CANARY_UID: &str = "1.2.276.987654321.77";
const CANARY_DATE: &str = "19530722";
/// The same in the items of sequences, apart because an option may keep only one of the two.
const ITEM_UID: &str = "1.2.276.123456789.99";
const ITEM_DATE: &str = "19531122";

fn tag_of(tags: Tags) -> Tag {
    match tags {
        Tags::One(tag) => tag,
        Tags::Group(base, element) => Tag(base + 2, element),
        Tags::Groups(base) => Tag(base + 4, 0x3000),
        Tags::Private => Tag(0x7053, 0x1000),
    }
}

fn vr_of(tag: Tag) -> VR {
    match StandardDataDictionary
        .by_tag(tag)
        .map(DataDictionaryEntry::vr)
    {
        Some(VirtualVr::Exact(vr)) => vr,
        Some(other) => other.relaxed(),
        None => VR::DS,
    }
}

/// Text with an identifier, or without one.
#[derive(Clone, Copy, PartialEq)]
enum Says {
    Canary,
    Nothing,
}

fn planted(tag: Tag, says: Says) -> InMemElement {
    let vr = vr_of(tag);
    let word = if says == Says::Canary {
        CANARY
    } else {
        "PLAIN"
    };
    let value: PrimitiveValue = match vr {
        VR::SQ => {
            let concept = InMemDicomObject::from_element_iter([
                text(tags::CODE_VALUE, VR::SH, "121071"),
                text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, "DCM"),
                text(tags::CODE_MEANING, VR::LO, "Finding"),
            ]);
            let texts = InMemDicomObject::from_element_iter([text(
                tags::UNFORMATTED_TEXT_VALUE,
                VR::ST,
                word,
            )]);
            let mut item = InMemDicomObject::from_element_iter([
                text(tags::CODE_MEANING, VR::LO, word),
                text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, ITEM_UID),
                text(tags::PATIENT_NAME, VR::PN, CANARY),
                text(tags::STUDY_DATE, VR::DA, ITEM_DATE),
                text(tags::VALUE_TYPE, VR::CS, "TEXT"),
                sequence(tags::CONCEPT_NAME_CODE_SEQUENCE, concept),
                text(tags::TEXT_VALUE, VR::UT, word),
            ]);
            item.put(sequence(tags::TEXT_OBJECT_SEQUENCE, texts));
            return sequence(tag, item);
        }
        VR::UI => CANARY_UID.into(),
        VR::DA => CANARY_DATE.into(),
        VR::TM => "123456.789".into(),
        VR::DT => format!("{CANARY_DATE}123456").into(),
        VR::AS => "042Y".into(),
        VR::DS => "7.7777".into(),
        VR::IS => "77777".into(),
        VR::US => PrimitiveValue::from(7777_u16),
        VR::OB | VR::UN | VR::OW => PrimitiveValue::U8(word.bytes().collect()),
        _ if tag == tags::TIMEZONE_OFFSET_FROM_UTC => "+0100".into(),
        _ => word.into(),
    };
    DataElement::new(tag, vr, value)
}

fn base() -> InMemDicomObject {
    InMemDicomObject::from_element_iter([
        text(
            tags::SOP_CLASS_UID,
            VR::UI,
            uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE,
        ),
        text(tags::SOP_INSTANCE_UID, VR::UI, "1.2.276.1.1"),
        text(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.276.1.2"),
        text(tags::PATIENT_ID, VR::LO, "4711-08"),
    ])
}

fn nest(elements: Vec<InMemElement>, depth: usize) -> Vec<InMemElement> {
    (0..depth).fold(elements, |inner, _| {
        let item = InMemDicomObject::from_element_iter(inner);
        // Not listed in the table, so it is kept and its items are cleaned.
        vec![sequence(tags::ANATOMIC_REGION_SEQUENCE, item)]
    })
}

fn dig(object: &InMemDicomObject, depth: usize) -> &InMemDicomObject {
    (0..depth).fold(object, |object, _| {
        &object
            .element(tags::ANATOMIC_REGION_SEQUENCE)
            .unwrap()
            .items()
            .unwrap()[0]
    })
}

fn bytes_of(element: &InMemElement) -> Vec<u8> {
    let mut bytes = element.to_bytes().unwrap().into_owned();
    while matches!(bytes.last(), Some(0 | b' ')) {
        bytes.pop();
    }
    bytes
}

/// Runs rows together and returns the data set that holds what is left of them.
fn run(policy: Policy, rows: &[&Row], depth: usize, says: Says) -> InMemDicomObject {
    let mut elements = Vec::new();
    for row in rows {
        let tag = tag_of(row.tags);
        elements.push(planted(tag, says));
        if row.tags == Tags::Private {
            let creator = Tag(tag.group(), tag.element() >> 8);
            elements.push(text(creator, VR::LO, "Philips PET Private Group"));
        }
    }
    let mut object = base();
    if says == Says::Canary {
        // The canary is the patient's name, so that every option knows it.
        object.put(text(tags::PATIENT_NAME, VR::PN, CANARY));
    }
    for element in nest(elements, depth) {
        object.put(element);
    }
    let file = object
        .with_meta(FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN))
        .unwrap();
    let ids = HmacPseudonyms::new(Zeroizing::new([3; 32]));
    let (clean, mut known) = Deidentifier::new(policy)
        .deidentify_object(&file, "SITE", &ids)
        .unwrap();
    if says == Says::Canary {
        known.add(Kind::Name, CANARY);
    }
    if !policy.has(ProfileOption::RetainUids) {
        known.add(Kind::Uid, ITEM_UID);
    }
    if !policy.has(ProfileOption::RetainFullDates) {
        known.add(Kind::Date, ITEM_DATE);
    }
    let bytes = clean.to_bytes().unwrap();
    gate::look(&bytes, &known, policy)
        .unwrap_or_else(|error| panic!("depth {depth} under {policy:?}: {error}"));
    let back = dicom_object::from_reader(&bytes[..]).unwrap();
    dig(&back, depth).clone()
}

fn check_basic(row: &Row, effect: Effect, left: Option<&InMemElement>) {
    let tag = tag_of(row.tags);
    let name = row.name;
    match effect {
        Effect::Remove => assert!(left.is_none(), "{name} stays"),
        Effect::Empty if tag == tags::ACCESSION_NUMBER => {
            assert!(left.unwrap().to_str().unwrap().starts_with('A'));
        }
        // X/Z: type 3 with one item or more here, so X.
        Effect::Empty if tag == tags::REFERENCED_STUDY_SEQUENCE => {
            assert!(left.is_none(), "{name} stays");
        }
        Effect::Empty => {
            let element = left.unwrap();
            let empty = element.items().map_or_else(
                || element.to_bytes().unwrap().is_empty(),
                <[InMemDicomObject]>::is_empty,
            );
            assert!(empty, "{name} has a value");
        }
        Effect::Dummy if tag == tags::PATIENT_ID => {
            assert!(left.unwrap().to_str().unwrap().starts_with('P'));
        }
        Effect::Dummy => {
            let element = left.unwrap();
            let filled = element.items().map_or_else(
                || !element.to_bytes().unwrap().is_empty(),
                |items| items.len() == 1,
            );
            assert!(filled, "{name} has no dummy");
            if element.items().is_none() {
                assert_ne!(
                    bytes_of(element),
                    bytes_of(&planted(tag, Says::Nothing)),
                    "{name} is kept"
                );
            }
        }
        Effect::MapUid if vr_of(tag) == VR::UI => {
            assert!(
                left.unwrap().to_str().unwrap().starts_with("2.25."),
                "{name}"
            );
        }
        Effect::MapUid => {
            let item = &left.unwrap().items().unwrap()[0];
            let uid = item.element(tags::REFERENCED_SOP_INSTANCE_UID).unwrap();
            assert!(uid.to_str().unwrap().starts_with("2.25."), "{name}");
        }
        other => unreachable!("the Basic profile does not {other:?}"),
    }
}

/// The cell as the standard has it, not as the policy computes it.
fn check(row: &Row, option: Option<ProfileOption>, says: Says, left: Option<&InMemElement>) {
    let tag = tag_of(row.tags);
    let name = row.name;
    let cell = option.and_then(|option| row.options[option as usize]);
    // Groups 0000 to 0006 do not belong in a data set.
    if tag.group() < 8 {
        assert!(left.is_none(), "{name} stays");
        return;
    }
    let (Some(cell), Some(option)) = (cell, option) else {
        check_basic(row, row.action.effect(), left);
        return;
    };
    let is_sequence = vr_of(tag) == VR::SQ;
    let safe = says == Says::Nothing || !holds_word(tag);
    match cell {
        Action::Keep if is_sequence => {
            let item = &left.unwrap().items().unwrap()[0];
            let uid = item.element(tags::REFERENCED_SOP_INSTANCE_UID).unwrap();
            let retains = option == ProfileOption::RetainUids;
            assert_eq!(uid.to_str().unwrap() == ITEM_UID, retains, "{name}");
        }
        Action::Keep if safe => {
            let kept = bytes_of(left.unwrap_or_else(|| panic!("{name} is gone")));
            assert_eq!(kept, bytes_of(&planted(tag, says)), "{name} is changed");
        }
        // Known to everybody: a moved one would tell how far.
        Action::Clean if option == ProfileOption::RetainModifiedDates && is_constant(tag) => {
            check_basic(row, row.action.effect(), left);
        }
        Action::Clean if option == ProfileOption::RetainModifiedDates => match vr_of(tag) {
            VR::DA | VR::DT => {
                let kept = left.unwrap().to_str().unwrap().into_owned();
                let before = planted(tag, says).to_str().unwrap().into_owned();
                assert_eq!(kept.len(), before.len(), "{name}");
                assert_ne!(kept.get(..8), before.get(..8), "{name} is not shifted");
                assert_ne!(kept.get(..8), Some("19000101"), "{name} is a dummy");
                assert_eq!(kept.get(8..), before.get(8..), "{name}");
            }
            VR::TM | VR::SH => {
                assert_eq!(bytes_of(left.unwrap()), bytes_of(&planted(tag, says)));
            }
            // Time stamps in opaque bytes cannot be shifted.
            _ => check_basic(row, row.action.effect(), left),
        },
        Action::Clean if option == ProfileOption::CleanGraphics && row.tags != Tags::One(tag) => {
            assert!(left.is_none(), "{name} is a drawing");
        }
        Action::Clean if is_sequence => {
            let item = &left.unwrap().items().unwrap()[0];
            let word = item.element(tags::TEXT_VALUE).unwrap();
            let clean = word.to_str().unwrap();
            if says == Says::Nothing {
                assert_eq!(clean, "PLAIN", "{name}");
            } else {
                assert!(clean.contains("NAME") || clean == "REMOVED", "{name}");
            }
            let texts = item.element(tags::TEXT_OBJECT_SEQUENCE).unwrap();
            assert_eq!(texts.items().unwrap().len(), 1, "{name}");
        }
        // Makers' notes in opaque bytes cannot be cleaned.
        Action::Clean if vr_of(tag) == VR::OB => check_basic(row, row.action.effect(), left),
        Action::Clean if safe => {
            let kept = bytes_of(left.unwrap_or_else(|| panic!("{name} is gone")));
            assert_eq!(kept, bytes_of(&planted(tag, says)), "{name} is changed");
        }
        Action::Clean if matches!(vr_of(tag), VR::AE | VR::CS) => {
            check_basic(row, row.action.effect(), left);
        }
        Action::Clean => assert_eq!(left.unwrap().to_str().unwrap(), "[NAME]", "{name}"),
        // A kept value that holds the patient's name is treated as without the option.
        Action::Keep => check_basic(row, row.action.effect(), left),
        other => unreachable!("no option says {other:?}"),
    }
}

/// Dates of public documents and of devices.
fn is_constant(tag: Tag) -> bool {
    matches!(
        (tag.group(), tag.element()),
        (0x0008, 0x0106 | 0x0107)
            | (0x0018, 0x1204 | 0x1205)
            | (0x0040, 0xDB06 | 0xDB07)
            | (0x0068, 0x6270)
    )
}

/// Whether the planted value is the word itself.
fn holds_word(tag: Tag) -> bool {
    let planted = planted(tag, Says::Canary);
    planted.items().is_none() && bytes_of(&planted) == CANARY.as_bytes()
}

#[test]
fn every_cell_is_executed_at_the_top_level_and_nested() {
    let mut cells = 0;
    let columns = std::iter::once(None).chain(ProfileOption::ALL.map(Some));
    for option in columns {
        let policy = Policy::with(option).unwrap();
        // A cell that says nothing leaves the row to the Basic profile.
        let (speaking, silent): (Vec<&Row>, Vec<&Row>) = table::rows()
            .iter()
            .partition(|row| option.is_some_and(|option| row.options[option as usize].is_some()));
        for depth in [0, 1, 3] {
            for (rows, says) in [
                (&silent, Says::Canary),
                (&speaking, Says::Canary),
                (&speaking, Says::Nothing),
            ] {
                let left = run(policy, rows, depth, says);
                for row in rows {
                    check(row, option, says, left.get(tag_of(row.tags)));
                }
            }
        }
        cells += speaking.len() + silent.len();
    }
    assert_eq!(cells, 621 * 11);
}
