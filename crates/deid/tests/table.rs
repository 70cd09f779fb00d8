//! Every row of Table E.1-1, at the top level and nested, through the encoder and the gate.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code")]

use cloister_deid::{Deidentifier, HmacPseudonyms, Policy, gate, table};
use cloister_scrub::Kind;
use dicom_core::{
    DataDictionary, DataElement, Length, PrimitiveValue, Tag, VR,
    dictionary::{DataDictionaryEntry, VirtualVr},
    value::DataSetSequence,
};
use dicom_dictionary_std::{StandardDataDictionary, tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject, mem::InMemElement};
use zeroize::Zeroizing;

const CANARY: &str = "ZYXWCANARY";
const CANARY_UID: &str = "1.2.276.987654321.77";
const CANARY_DATE: &str = "19530722";

fn tag_of(tags: table::Tags) -> Tag {
    match tags {
        table::Tags::One(tag) => tag,
        table::Tags::Group(base, element) => Tag(base + 2, element),
        table::Tags::Groups(base) => Tag(base + 4, 0x3000),
        table::Tags::Private => Tag(0x0029, 0x1010),
    }
}

fn vr_of(tag: Tag) -> VR {
    match StandardDataDictionary
        .by_tag(tag)
        .map(DataDictionaryEntry::vr)
    {
        Some(VirtualVr::Exact(vr)) => vr,
        Some(other) => other.relaxed(),
        None => VR::LO,
    }
}

fn planted(tag: Tag) -> InMemElement {
    let vr = vr_of(tag);
    let value: PrimitiveValue = match vr {
        VR::SQ => {
            let item = InMemDicomObject::from_element_iter([
                DataElement::new(tags::CODE_MEANING, VR::LO, CANARY),
                DataElement::new(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, CANARY_UID),
                DataElement::new(tags::PATIENT_NAME, VR::PN, CANARY),
            ]);
            let items = DataSetSequence::new(vec![item], Length::UNDEFINED);
            return DataElement::new(tag, VR::SQ, items);
        }
        VR::UI => CANARY_UID.into(),
        VR::DA => CANARY_DATE.into(),
        VR::TM => "123456.789".into(),
        VR::DT => format!("{CANARY_DATE}123456").into(),
        VR::AS => "042Y".into(),
        VR::DS => "7.7777".into(),
        VR::IS => "77777".into(),
        VR::US => PrimitiveValue::from(7777_u16),
        VR::OB | VR::UN | VR::OW => PrimitiveValue::U8(CANARY.bytes().collect()),
        _ => CANARY.into(),
    };
    DataElement::new(tag, vr, value)
}

fn base() -> InMemDicomObject {
    InMemDicomObject::from_element_iter([
        DataElement::new(
            tags::SOP_CLASS_UID,
            VR::UI,
            uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE,
        ),
        DataElement::new(tags::SOP_INSTANCE_UID, VR::UI, "1.2.276.1.1"),
        DataElement::new(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.276.1.2"),
    ])
}

fn nest(element: InMemElement, depth: usize) -> InMemElement {
    (0..depth).fold(element, |inner, _| {
        let item = InMemDicomObject::from_element_iter([inner]);
        // Not listed in the table, so it is kept and its items are cleaned.
        DataElement::new(
            tags::ANATOMIC_REGION_SEQUENCE,
            VR::SQ,
            DataSetSequence::new(vec![item], Length::UNDEFINED),
        )
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

#[test]
fn every_row_is_treated_at_the_top_level_and_nested() {
    let deidentifier = Deidentifier::new(Policy::basic());
    let ids = HmacPseudonyms::new(Zeroizing::new([3; 32]));
    let mut checked = 0;
    for row in table::rows() {
        let tag = tag_of(row.tags);
        for depth in [0, 1, 5] {
            let mut object = base();
            object.put(nest(planted(tag), depth));
            let file = object
                .with_meta(
                    FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN),
                )
                .unwrap();
            let (clean, mut known) = deidentifier.deidentify_object(&file, "SITE", &ids).unwrap();
            known.add(Kind::Name, CANARY);
            known.add(Kind::Uid, CANARY_UID);
            known.add(Kind::Date, CANARY_DATE);
            let bytes = clean.to_bytes().unwrap();
            gate::look(&bytes, &known).unwrap_or_else(|error| panic!("{}: {error}", row.name));
            let back = dicom_object::from_reader(&bytes[..]).unwrap();

            let left = dig(&back, depth).get(tag);
            // Groups 0000 and 0002 do not belong in a data set.
            let effect = if tag.group() < 8 {
                table::Effect::Remove
            } else {
                row.action.effect()
            };
            match effect {
                table::Effect::Remove => assert!(left.is_none(), "{} stays", row.name),
                table::Effect::Empty if tag == tags::ACCESSION_NUMBER => {
                    assert!(left.unwrap().to_str().unwrap().starts_with('A'));
                }
                table::Effect::Empty => {
                    let element = left.unwrap();
                    let empty = element.items().map_or_else(
                        || element.to_bytes().unwrap().is_empty(),
                        <[InMemDicomObject]>::is_empty,
                    );
                    assert!(empty, "{} has a value", row.name);
                }
                table::Effect::Dummy => {
                    let element = left.unwrap();
                    let filled = element.items().map_or_else(
                        || !element.to_bytes().unwrap().is_empty(),
                        |items| items.iter().all(|item| item.iter().count() == 0),
                    );
                    assert!(filled, "{} has no dummy", row.name);
                }
                table::Effect::MapUid if vr_of(tag) == VR::UI => {
                    assert!(
                        left.unwrap().to_str().unwrap().starts_with("2.25."),
                        "{}",
                        row.name
                    );
                }
                table::Effect::MapUid => {
                    let item = &left.unwrap().items().unwrap()[0];
                    let uid = item.element(tags::REFERENCED_SOP_INSTANCE_UID).unwrap();
                    assert!(uid.to_str().unwrap().starts_with("2.25."), "{}", row.name);
                }
                table::Effect::Clean => unreachable!("no row of the Basic profile keeps"),
            }
            checked += 1;
        }
    }
    assert_eq!(checked, 621 * 3);
}
