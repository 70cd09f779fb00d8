//! No identifier survives wherever it is planted, and what is done twice is done once.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code")]

mod common;

use cloister_deid::{DeidError, Deidentified, Deidentifier, Policy, gate};
use cloister_phi::{AgeBand, Sex, View};
use cloister_scrub::{Kind, KnownIdentifiers};
use common::{
    ids,
    objects::{sequence, text},
};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use proptest::prelude::*;

fn film(name: &str, id: &str) -> InMemDicomObject {
    InMemDicomObject::from_element_iter([
        text(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192"),
        text(tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY"),
        text(
            tags::SOP_CLASS_UID,
            VR::UI,
            uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE,
        ),
        text(tags::SOP_INSTANCE_UID, VR::UI, "1.2.276.5.20160705.1001"),
        text(tags::STUDY_DATE, VR::DA, "20160705"),
        text(tags::ACCESSION_NUMBER, VR::SH, "ACC778812"),
        text(tags::MODALITY, VR::CS, "CR"),
        text(tags::MANUFACTURER, VR::LO, "Example Works"),
        text(tags::REFERRING_PHYSICIAN_NAME, VR::PN, "Quimby^Zelda"),
        text(
            tags::STUDY_DESCRIPTION,
            VR::LO,
            &format!("XR CHEST AP for {name}"),
        ),
        text(tags::PATIENT_NAME, VR::PN, name),
        text(tags::PATIENT_ID, VR::LO, id),
        text(tags::PATIENT_BIRTH_DATE, VR::DA, "19760616"),
        text(tags::PATIENT_SEX, VR::CS, "F"),
        text(tags::BODY_PART_EXAMINED, VR::CS, "CHEST"),
        text(tags::VIEW_POSITION, VR::CS, "AP"),
        text(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.276.5.20160705.1"),
        text(tags::SERIES_INSTANCE_UID, VR::UI, "1.2.276.5.20160705.2"),
        DataElement::new(tags::ROWS, VR::US, PrimitiveValue::from(4_u16)),
        DataElement::new(tags::COLUMNS, VR::US, PrimitiveValue::from(4_u16)),
        DataElement::new(tags::BITS_ALLOCATED, VR::US, PrimitiveValue::from(8_u16)),
        DataElement::new(
            tags::PIXEL_DATA,
            VR::OB,
            PrimitiveValue::U8((0..16).collect()),
        ),
    ])
}

fn run(object: InMemDicomObject) -> (Deidentified, KnownIdentifiers, Vec<u8>) {
    run_with(object, uids::EXPLICIT_VR_LITTLE_ENDIAN)
}

fn run_with(object: InMemDicomObject, syntax: &str) -> (Deidentified, KnownIdentifiers, Vec<u8>) {
    let file = object
        .with_meta(FileMetaTableBuilder::new().transfer_syntax(syntax))
        .unwrap();
    let mut encoded = Vec::new();
    file.write_all(&mut encoded).unwrap();
    let (clean, known) = Deidentifier::new(Policy::basic())
        .deidentify(&encoded, "SITE", &ids())
        .unwrap();
    let bytes = clean.to_bytes().unwrap();
    (clean, known, bytes)
}

#[test]
fn a_film_comes_out_clean_and_its_facts_are_kept() {
    for syntax in [
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
        uids::IMPLICIT_VR_LITTLE_ENDIAN,
        uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    ] {
        let (clean, known, bytes) = run_with(film("Davidson^Douglas", "292821506"), syntax);
        gate::look(&bytes, &known, Policy::basic()).unwrap();
        assert_eq!(clean.age_band(), AgeBand::From40To64);
        assert_eq!(clean.sex(), Sex::Female);
        assert_eq!(clean.view(), View::Ap);
        let identity = clean.identity().expose();
        assert_eq!(identity.patient_name, "Davidson^Douglas");
        assert_eq!(identity.issuer, "SITE");
        let back = dicom_object::from_reader(&bytes[..]).unwrap();
        assert_eq!(back.meta().transfer_syntax(), syntax);
        assert_eq!(
            back.meta()
                .media_storage_sop_instance_uid()
                .trim_end_matches('\0'),
            clean.sop_instance_uid().as_str()
        );
        assert_eq!(back.meta().source_application_entity_title(), None);
        let value = |tag| back.element(tag).unwrap().to_str().unwrap().into_owned();
        assert_eq!(value(tags::PATIENT_IDENTITY_REMOVED), "YES");
        assert_eq!(
            value(tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED),
            "REMOVED"
        );
        assert_eq!(value(tags::BODY_PART_EXAMINED), "CHEST");
        assert_eq!(
            value(tags::STUDY_INSTANCE_UID),
            clean.study_instance_uid().as_str()
        );
        // Until redaction has looked.
        assert_eq!(value(tags::BURNED_IN_ANNOTATION), "YES");
        let codes = back
            .element(tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE)
            .unwrap();
        let code = codes.items().unwrap()[0].element(tags::CODE_VALUE).unwrap();
        assert_eq!(code.to_str().unwrap(), "113100");
        assert_eq!(
            back.element(tags::PIXEL_DATA)
                .unwrap()
                .to_bytes()
                .unwrap()
                .as_ref(),
            (0..16).collect::<Vec<u8>>()
        );
    }
}

#[test]
fn deidentifying_twice_gives_a_clean_result_again() {
    let (_, _, once) = run(film("Davidson^Douglas", "292821506"));
    let (clean, known) = Deidentifier::default()
        .deidentify(&once, "SITE", &ids())
        .unwrap();
    let twice = clean.to_bytes().unwrap();
    gate::look(&twice, &known, Policy::basic()).unwrap();
    let (a, b) = (
        dicom_object::from_reader(&once[..]).unwrap(),
        dicom_object::from_reader(&twice[..]).unwrap(),
    );
    assert_eq!(a.tags().collect::<Vec<_>>(), b.tags().collect::<Vec<_>>());
}

#[test]
fn pseudonyms_are_the_same_for_every_object_of_a_study() {
    let (a, ..) = run(film("Davidson^Douglas", "292821506"));
    let mut second = film("Davidson^Douglas", "292821506");
    second.put(text(
        tags::SOP_INSTANCE_UID,
        VR::UI,
        "1.2.276.5.20160705.1002",
    ));
    let (b, ..) = run(second);
    let value = |film: &Deidentified, tag| {
        film.object()
            .element(tag)
            .unwrap()
            .to_str()
            .unwrap()
            .into_owned()
    };
    for tag in [
        tags::STUDY_INSTANCE_UID,
        tags::SERIES_INSTANCE_UID,
        tags::PATIENT_ID,
        tags::ACCESSION_NUMBER,
    ] {
        assert_eq!(value(&a, tag), value(&b, tag));
    }
    assert_eq!(a.study_pseudonym(), b.study_pseudonym());
    assert_ne!(a.sop_instance_uid(), b.sop_instance_uid());
}

#[test]
fn the_gate_finds_a_planted_identifier_anywhere() {
    let (clean, known, good) = run(film("Davidson^Douglas", "292821506"));
    gate::look(&good, &known, Policy::basic()).unwrap();
    let encode = |object: InMemDicomObject| {
        let file = object.with_exact_meta(clean.object().meta().clone());
        let mut bytes = Vec::new();
        file.write_all(&mut bytes).unwrap();
        bytes
    };
    let with = |element| {
        let mut object = clean.object().clone().into_inner();
        object.put(element);
        encode(object)
    };
    let utf16: Vec<u8> = "Davidson"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let mut pixels = vec![0x80_u8; 64];
    pixels.extend(b"DAVIDSON");
    let deep = (0..8).fold(
        text(tags::CODE_MEANING, VR::LO, "for DOUGLAS"),
        |inner, _| {
            sequence(
                tags::ANATOMIC_REGION_SEQUENCE,
                InMemDicomObject::from_element_iter([inner]),
            )
        },
    );
    let mut cases = vec![
        (
            "text",
            with(text(tags::MANUFACTURER, VR::LO, "Works of davidson")),
        ),
        (
            "joined",
            with(text(tags::MANUFACTURER, VR::LO, "xDAVIDSONx")),
        ),
        (
            "date",
            with(text(tags::SOFTWARE_VERSIONS, VR::LO, "built 16 Jun 1976")),
        ),
        (
            "id",
            with(text(tags::SOFTWARE_VERSIONS, VR::LO, "292-821-506")),
        ),
        (
            "accession",
            with(text(tags::SOFTWARE_VERSIONS, VR::LO, "acc778812")),
        ),
        (
            "uid",
            with(text(
                tags::SOP_CLASSES_SUPPORTED,
                VR::UI,
                "1.2.276.5.20160705.1",
            )),
        ),
        ("nested", with(deep)),
        (
            "utf16",
            with(DataElement::new(
                tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
                VR::OW,
                PrimitiveValue::U8(utf16.into()),
            )),
        ),
        (
            "private",
            with(text(Tag(0x0029, 0x1001), VR::LO, "harmless")),
        ),
        (
            "listed",
            with(text(tags::STUDY_DESCRIPTION, VR::LO, "harmless")),
        ),
        (
            "pixels",
            with(DataElement::new(
                tags::PIXEL_DATA,
                VR::OB,
                PrimitiveValue::U8(pixels.into()),
            )),
        ),
    ];
    let mut preamble = good.clone();
    preamble[..8].copy_from_slice(b"DAVIDSON");
    cases.push(("preamble", preamble));
    let mut trailing = good.clone();
    trailing.extend(b"\0\0DAVIDSON\0\0");
    cases.push(("trailing", trailing));
    let mut meta = clean.object().clone();
    meta.update_meta(|meta| meta.source_application_entity_title = Some("DAVIDSON_CT".into()));
    let mut bytes = Vec::new();
    meta.write_all(&mut bytes).unwrap();
    cases.push(("meta", bytes));
    cases.push(("cut", good[..good.len() - 5].to_vec()));
    cases.push(("no object", b"hello".to_vec()));
    for (name, bytes) in cases {
        assert!(
            gate::look(&bytes, &known, Policy::basic()).is_err(),
            "{name}"
        );
    }
}

#[test]
fn a_patient_named_like_the_device_maker_does_not_shut_the_gate() {
    let mut object = film("Philips^Ann", "292821506");
    object.put(text(tags::MANUFACTURER, VR::LO, "Philips Medical Systems"));
    let (_, known, bytes) = run(object);
    gate::look(&bytes, &known, Policy::basic()).unwrap();
    let (_, known, bytes) = run(film("Chest^Portable", "CHEST"));
    gate::look(&bytes, &known, Policy::basic()).unwrap();
    let back = dicom_object::from_reader(&bytes[..]).unwrap();
    assert_eq!(
        back.element(tags::BODY_PART_EXAMINED)
            .unwrap()
            .to_str()
            .unwrap(),
        "CHEST"
    );
}

#[test]
fn opaque_unknown_and_private_attributes_are_dropped() {
    let mut object = film("Davidson^Douglas", "292821506");
    let bytes = |text: &str| PrimitiveValue::U8(text.bytes().collect());
    object.put(DataElement::new(
        tags::PATIENT_NAME,
        VR::UN,
        bytes("Davidson^Douglas"),
    ));
    object.put(DataElement::new(
        tags::ICC_PROFILE,
        VR::OB,
        bytes("DAVIDSON"),
    ));
    object.put(DataElement::new(
        Tag(0x0008, 0xABCC),
        VR::UN,
        bytes("DAVIDSON"),
    ));
    object.put(text(Tag(0x0009, 0x0010), VR::LO, "ACME"));
    object.put(sequence(
        Tag(0x0009, 0x1001),
        film("Davidson^Douglas", "292821506"),
    ));
    object.put(text(Tag(0x6000, 0x0022), VR::LO, "DAVIDSON"));
    object.put(text(
        tags::SEGMENT_DESCRIPTION,
        VR::ST,
        "seen by Dr. Hofstadter on 03/04/2021",
    ));
    let (_, known, encoded) = run(object);
    assert!(known.is_hit("davidson"), "collected from UN");
    gate::look(&encoded, &known, Policy::basic()).unwrap();
    let back = dicom_object::from_reader(&encoded[..]).unwrap();
    for tag in [
        tags::ICC_PROFILE,
        Tag(0x0008, 0xABCC),
        Tag(0x0009, 0x0010),
        Tag(0x0009, 0x1001),
        Tag(0x6000, 0x0022),
    ] {
        assert!(back.get(tag).is_none(), "{tag}");
    }
    assert_eq!(
        back.element(tags::SEGMENT_DESCRIPTION)
            .unwrap()
            .to_str()
            .unwrap(),
        "seen by Dr. [NAME] on [DATE]"
    );
}

#[test]
fn a_hostile_depth_is_refused_without_a_stack_overflow() {
    let mut encoded = Vec::new();
    film("Davidson^Douglas", "292821506")
        .with_meta(FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN))
        .unwrap()
        .write_meta_and_magic(&mut encoded);
    for _ in 0..200_000 {
        encoded.extend([
            0x08, 0, 0x18, 0x22, b'S', b'Q', 0, 0, 0xff, 0xff, 0xff, 0xff,
        ]);
        encoded.extend([0xfe, 0xff, 0, 0xe0, 0xff, 0xff, 0xff, 0xff]);
    }
    let result = Deidentifier::default().deidentify(&encoded, "", &ids());
    assert_eq!(result.err(), Some(DeidError::TooDeep));
}

trait MetaOnly {
    fn write_meta_and_magic(&self, to: &mut Vec<u8>);
}

impl MetaOnly for dicom_object::DefaultDicomObject {
    fn write_meta_and_magic(&self, to: &mut Vec<u8>) {
        to.extend([0; 128]);
        to.extend(b"DICM");
        self.write_meta(to).unwrap();
    }
}

#[test]
fn debug_prints_no_identifier() {
    let (clean, known, _) = run(film("Davidson^Douglas", "292821506"));
    let printed = format!("{clean:?} {known:?} {:?}", clean.identity());
    assert!(!known.is_hit(&printed), "{printed}");
}

fn places() -> impl Strategy<Value = (Tag, VR)> {
    prop::sample::select(vec![
        (tags::MANUFACTURER, VR::LO),
        (tags::STUDY_DESCRIPTION, VR::LO),
        (tags::PATIENT_COMMENTS, VR::LT),
        (tags::IMAGE_COMMENTS, VR::LT),
        (tags::SOFTWARE_VERSIONS, VR::LO),
        (tags::OTHER_PATIENT_NAMES, VR::PN),
        (tags::OPERATORS_NAME, VR::PN),
        (tags::TEXT_VALUE, VR::UT),
        (tags::UNFORMATTED_TEXT_VALUE, VR::ST),
        (tags::CODE_MEANING, VR::LO),
        (tags::VIEW_NAME, VR::SH),
        (tags::RETRIEVE_URL, VR::UR),
        (Tag(0x5000, 0x2500), VR::LO),
        (tags::PRIVATE_DATA_ELEMENT_NAME, VR::UC),
        (Tag(0x0019, 0x1001), VR::UN),
        (Tag(0x0019, 0x1002), VR::LT),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_identifier_survives_wherever_it_is_planted(
        family in "[A-Z][a-z]{4,9}",
        given in "[A-Z][a-zéüø]{3,8}",
        id in "[A-Z]{0,2}[0-9]{6,9}",
        depth in 0_usize..5,
        place in places(),
        order in 0..3,
    ) {
        let name = format!("{family}^{given}");
        let written = match order {
            0 => name.clone(),
            1 => format!("{given} {family}, ID {id}"),
            _ => format!("MRN={id} {}", family.to_uppercase()),
        };
        let mut object = film(&name, &id);
        let value = if place.1 == VR::UN {
            PrimitiveValue::U8(written.bytes().collect())
        } else {
            written.as_str().into()
        };
        let element = DataElement::new(place.0, place.1, value);
        object.put((0..depth).fold(element, |inner, _| {
            sequence(tags::ANATOMIC_REGION_SEQUENCE, InMemDicomObject::from_element_iter([inner]))
        }));
        let (_, known, bytes) = run(object);
        prop_assert_eq!(gate::look(&bytes, &known, Policy::basic()), Ok(()));
        let lower = String::from_utf8_lossy(&bytes).to_lowercase();
        prop_assert!(!lower.contains(&id.to_lowercase()));
        let common = !known.is_hit(&family);
        prop_assert!(common || !lower.contains(&family.to_lowercase()));
    }

    #[test]
    fn damaged_files_never_panic(at in 0_usize..2000, byte: u8, cut in 0_usize..2000) {
        let file = film("Davidson^Douglas", "292821506")
            .with_meta(FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN))
            .unwrap();
        let mut encoded = Vec::new();
        file.write_all(&mut encoded).unwrap();
        let length = encoded.len();
        encoded[at % length] = byte;
        encoded.truncate(length.saturating_sub(cut % 100));
        if let Ok((clean, _)) = Deidentifier::default().deidentify(&encoded, "", &ids()) {
            drop(clean.to_bytes());
        }
        gate::look(&encoded, &KnownIdentifiers::new(), Policy::basic()).ok();
    }
}

#[test]
fn known_identifiers_are_collected_at_any_depth() {
    let mut object = film("Davidson^Douglas", "292821506");
    let inner = InMemDicomObject::from_element_iter([
        text(tags::PATIENT_ID, VR::LO, "OTHER-99812"),
        text(tags::PATIENT_NAME, VR::PN, "Geborene^Anna"),
    ]);
    object.put(sequence(tags::OTHER_PATIENT_I_DS_SEQUENCE, inner));
    object.put(text(
        tags::PATIENT_ADDRESS,
        VR::LO,
        "12 Elm Grove, Springfield",
    ));
    object.put(text(
        tags::PATIENT_TELEPHONE_NUMBERS,
        VR::SH,
        "617 555 1212",
    ));
    object.put(text(tags::INSTITUTION_NAME, VR::LO, "St. Mary's Infirmary"));
    let (_, known, _) = run(object);
    for hit in [
        "Davidson",
        "292821506",
        "OTHER99812",
        "geborene",
        "12 elm grove springfield",
        "617-555-1212",
        "St Mary's Infirmary",
        "Zelda",
        "ACC778812",
        "05.07.2016",
        "June 16, 1976",
        "1.2.276.5.20160705.2",
    ] {
        assert!(known.is_hit(hit), "{hit}");
    }
    let mut empty = KnownIdentifiers::new();
    empty.add(Kind::Name, "");
    assert!(empty.is_empty());
}
