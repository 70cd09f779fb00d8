//! What an object of its class must hold, and what it may say of itself, after identifiers are gone.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "test code"
)]

mod common;

use std::{fmt::Write as _, fs, path::Path};

use cloister_deid::{DeidError, Deidentified, Deidentifier, Policy, gate, read};
use cloister_scrub::KnownIdentifiers;
use common::{
    BIG_ENDIAN, EXPLICIT, Film, IMPLICIT, JPEG, contains, ids, objects, objects::text, real_files,
};
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{
    FileDicomObject, FileMetaTableBuilder, InMemDicomObject, from_reader, mem::InMemElement,
};
use dicom_transfer_syntax_registry::entries;

type Object = FileDicomObject<InMemDicomObject>;

fn sequence(tag: Tag, item: impl IntoIterator<Item = InMemElement>) -> InMemElement {
    objects::sequence(tag, InMemDicomObject::from_element_iter(item))
}

fn study() -> InMemElement {
    let class = text(
        tags::REFERENCED_SOP_CLASS_UID,
        VR::UI,
        "1.2.840.10008.3.1.2.3.1",
    );
    let instance = text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, "1.2.276.1.9");
    sequence(tags::REFERENCED_STUDY_SEQUENCE, [class, instance])
}

fn object(class: &str, elements: impl IntoIterator<Item = InMemElement>) -> Object {
    let mut object = InMemDicomObject::from_element_iter([
        text(tags::SOP_CLASS_UID, VR::UI, class),
        text(tags::SOP_INSTANCE_UID, VR::UI, "1.2.276.1.1"),
        text(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.276.1.2"),
        text(tags::PATIENT_NAME, VR::PN, "Davidson^Douglas"),
        text(tags::PATIENT_ID, VR::LO, "4711-08"),
    ]);
    for element in elements {
        object.put(element);
    }
    object
        .with_meta(FileMetaTableBuilder::new().transfer_syntax(EXPLICIT))
        .unwrap()
}

/// Through the cleaner, the encoder and the gate.
fn clean(object: &Object) -> Object {
    let (clean, known) = Deidentifier::default()
        .deidentify_object(object, "SITE", &ids())
        .unwrap();
    let bytes = clean.to_bytes().unwrap();
    gate::look(&bytes, &known, Policy::basic()).unwrap();
    from_reader(&bytes[..]).unwrap()
}

fn item(object: &InMemDicomObject, tag: Tag) -> &InMemDicomObject {
    &object.element(tag).unwrap().items().unwrap()[0]
}

fn is_empty(object: &InMemDicomObject, tag: Tag) -> bool {
    let element = object.element(tag).unwrap();
    match element.items() {
        Some(items) => items.is_empty(),
        None => element.to_bytes().unwrap().is_empty(),
    }
}

#[test]
fn what_the_table_removes_stays_without_a_value_where_its_sequence_must_hold_it() {
    let request = [
        text(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.276.1.2"),
        study(),
        text(tags::REQUESTED_PROCEDURE_ID, VR::SH, "RP 12"),
    ];
    let photo = text(tags::PATIENT_SETUP_PHOTO_DESCRIPTION, VR::LT, "left arm up");
    let resource = text(
        tags::CODING_SCHEME_URL,
        VR::UR,
        "http://hospital.example/codes",
    );
    let clean = clean(&object(
        uids::CT_IMAGE_STORAGE,
        [
            study(),
            sequence(tags::REFERENCED_REQUEST_SEQUENCE, request),
            sequence(tags::REFERENCED_PATIENT_SETUP_PHOTO_SEQUENCE, [photo]),
            sequence(tags::CODING_SCHEME_RESOURCES_SEQUENCE, [resource]),
        ],
    ));
    // Type 3 with one item or more: a sequence without items would be wrong.
    assert!(clean.get(tags::REFERENCED_STUDY_SEQUENCE).is_none());
    let request = item(&clean, tags::REFERENCED_REQUEST_SEQUENCE);
    assert!(is_empty(request, tags::REFERENCED_STUDY_SEQUENCE));
    assert!(is_empty(request, tags::REQUESTED_PROCEDURE_ID));
    let photo = item(&clean, tags::REFERENCED_PATIENT_SETUP_PHOTO_SEQUENCE);
    assert!(is_empty(photo, tags::PATIENT_SETUP_PHOTO_DESCRIPTION));
    let resource = item(&clean, tags::CODING_SCHEME_RESOURCES_SEQUENCE);
    let url = resource.element(tags::CODING_SCHEME_URL).unwrap();
    assert_eq!(url.to_str().unwrap(), "about:removed");
}

#[test]
fn a_code_that_is_a_urn_alone_keeps_a_value() {
    let urn = || text(tags::URN_CODE_VALUE, VR::UR, "urn:lex:us:federal:codified");
    let meaning = || text(tags::CODE_MEANING, VR::LO, "Finding");
    let clean = clean(&object(
        uids::CT_IMAGE_STORAGE,
        [
            sequence(tags::ANATOMIC_REGION_SEQUENCE, [urn(), meaning()]),
            sequence(
                tags::VIEW_CODE_SEQUENCE,
                [text(tags::CODE_VALUE, VR::SH, "R-10206"), urn(), meaning()],
            ),
        ],
    ));
    let alone = item(&clean, tags::ANATOMIC_REGION_SEQUENCE);
    assert_eq!(
        alone
            .element(tags::URN_CODE_VALUE)
            .unwrap()
            .to_str()
            .unwrap(),
        "about:removed"
    );
    let beside = item(&clean, tags::VIEW_CODE_SEQUENCE);
    assert!(beside.get(tags::URN_CODE_VALUE).is_none());
}

#[test]
fn the_top_level_is_judged_by_the_class_and_the_species() {
    let date = || text(tags::PRESENTATION_CREATION_DATE, VR::DA, "20160705");
    let person = || text(tags::RESPONSIBLE_PERSON, VR::PN, "Owner^Olga");
    let state = clean(&object(
        uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE,
        [date(), person()],
    ));
    let made = state.element(tags::PRESENTATION_CREATION_DATE).unwrap();
    assert_eq!(made.to_str().unwrap(), "19000101");
    assert!(state.get(tags::RESPONSIBLE_PERSON).is_none());

    let species = text(tags::PATIENT_SPECIES_DESCRIPTION, VR::LO, "Canine");
    let animal = clean(&object(uids::CT_IMAGE_STORAGE, [date(), person(), species]));
    assert!(animal.get(tags::PRESENTATION_CREATION_DATE).is_none());
    assert!(is_empty(&animal, tags::RESPONSIBLE_PERSON));
    assert!(!is_empty(&animal, tags::PATIENT_SPECIES_DESCRIPTION));
}

#[test]
fn the_gate_lets_no_other_value_through_in_their_place() {
    let known = KnownIdentifiers::new();
    for (value, verdict) in [
        ("", Ok(())),
        ("REMOVED", Ok(())),
        ("Owner^Olga", Err(gate::GateError::Forbidden)),
        ("REMOVED^Olga", Err(gate::GateError::Forbidden)),
    ] {
        let person = text(tags::RESPONSIBLE_PERSON, VR::PN, value);
        let mut bytes = vec![0; 128];
        bytes.extend(b"DICM");
        let object = object(uids::CT_IMAGE_STORAGE, [person]);
        object.write_meta(&mut bytes).unwrap();
        let syntax = entries::EXPLICIT_VR_LITTLE_ENDIAN.erased();
        object.write_dataset_with_ts(&mut bytes, &syntax).unwrap();
        assert_eq!(
            gate::look(&bytes, &known, Policy::basic()),
            verdict,
            "{value}"
        );
    }
}

/// A number that is the patient's own cannot stay; the attribute does.
#[test]
fn a_number_that_is_an_identifier_is_emptied() {
    let mut film = Film::new("ISO_IR 192", b"Davidson^Douglas", "292821506");
    film.put((0x0020, 0x0013), "IS", b"292821506");
    let (clean, _) = deidentified(&film.encode());
    assert!(is_empty(clean.object(), tags::INSTANCE_NUMBER));
}

fn deidentified(encoded: &[u8]) -> (Deidentified, Vec<u8>) {
    let (clean, _) = Deidentifier::default()
        .deidentify(encoded, "SITE", &ids())
        .unwrap();
    let bytes = clean.to_bytes().unwrap();
    (clean, bytes)
}

/// As redaction leaves it.
fn redacted(bytes: &[u8], edit: impl FnOnce(&mut Object)) -> Vec<u8> {
    let mut object = from_reader(bytes).unwrap();
    object.put(text(tags::BURNED_IN_ANNOTATION, VR::CS, "NO"));
    edit(&mut object);
    let mut out = Vec::new();
    object.write_all(&mut out).unwrap();
    out
}

fn codes(object: &InMemDicomObject) -> Vec<String> {
    let items = object
        .element(tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE)
        .unwrap();
    let code = |item: &InMemDicomObject| {
        item.element(tags::CODE_VALUE)
            .unwrap()
            .to_str()
            .unwrap()
            .into_owned()
    };
    items.items().unwrap().iter().map(code).collect()
}

#[test]
fn clean_pixels_are_stated_after_redaction_and_only_then() {
    let mut film = Film::new("ISO_IR 192", b"Davidson^Douglas", "292821506");
    // The sender says that all is well, and what else was done: nobody believes it.
    let claims: Vec<u8> = ["113101", "113103", "113105", "113106", "113109", "113111"]
        .map(|code| {
            let code = [
                common::element((8, 0x0100), "SH", code.as_bytes()),
                common::element((8, 0x0102), "SH", b"DCM"),
                common::element((8, 0x0104), "LO", b"Some Option"),
            ]
            .concat();
            let mut claim = common::item(0xE000, code.len() as u32);
            claim.extend(code);
            claim
        })
        .concat();
    film.elements.insert(
        (0x0012, 0x0064),
        common::raw((0x0012, 0x0064), "SQ", claims.len() as u32, &claims),
    );
    let (clean, bytes) = deidentified(&film.encode());
    let before = from_reader(&bytes[..]).unwrap();
    let value = |object: &InMemDicomObject, tag| {
        let text = object.element(tag).unwrap().to_str().unwrap();
        text.trim().to_owned()
    };
    assert_eq!(value(&before, tags::BURNED_IN_ANNOTATION), "YES");
    assert_eq!(codes(&before), ["113100"]);

    let unredacted = clean.unredacted();
    let stated = unredacted.complete(redacted(&bytes, |_| {})).unwrap();
    let after = from_reader(stated.as_bytes()).unwrap();
    assert_eq!(value(&after, tags::BURNED_IN_ANNOTATION), "NO");
    assert_eq!(codes(&after), ["113100", "113101"]);
    assert_eq!(
        value(&after, tags::DEIDENTIFICATION_METHOD),
        "Cloister: PS3.15 Basic Profile, 1 option"
    );
    assert_eq!(
        after.element(tags::PIXEL_DATA).unwrap().to_bytes().unwrap(),
        before
            .element(tags::PIXEL_DATA)
            .unwrap()
            .to_bytes()
            .unwrap()
    );
    // Completing twice says it once.
    let twice = unredacted.complete(stated.into_bytes()).unwrap();
    assert_eq!(
        codes(&from_reader(twice.as_bytes()).unwrap()),
        ["113100", "113101"]
    );

    let refused = |bytes| unredacted.complete(bytes).unwrap_err();
    assert_eq!(refused(bytes.clone()), DeidError::NotRedacted);
    let other = |object: &mut Object| {
        object.put(text(tags::SOP_INSTANCE_UID, VR::UI, "2.25.1"));
    };
    assert_eq!(refused(redacted(&bytes, other)), DeidError::NotRedacted);
    let frames = |object: &mut Object| {
        object.put(text(tags::NUMBER_OF_FRAMES, VR::IS, "2"));
    };
    assert_eq!(refused(redacted(&bytes, frames)), DeidError::NotRedacted);
    let none = |object: &mut Object| {
        object.remove_element(tags::PIXEL_DATA);
    };
    assert_eq!(refused(redacted(&bytes, none)), DeidError::NotRedacted);
    let compressed = |object: &mut Object| {
        let fragments = dicom_core::value::PixelFragmentSequence::new(vec![], vec![vec![0_u8; 4]]);
        object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, fragments));
        object
            .meta_mut()
            .set_transfer_syntax(&entries::JPEG_BASELINE.erased());
        assert_eq!(object.meta().transfer_syntax(), JPEG);
    };
    // Redaction leaves compressed pixels as they came where it found nothing.
    let stated = unredacted.complete(redacted(&bytes, compressed)).unwrap();
    let after = from_reader(stated.as_bytes()).unwrap();
    assert_eq!(after.meta().transfer_syntax(), JPEG);
    assert_eq!(codes(&after), ["113100", "113101"]);
    let fragments = after.element(tags::PIXEL_DATA).unwrap().fragments();
    assert_eq!(fragments.unwrap(), [vec![0_u8; 4]]);
}

#[test]
fn a_data_set_without_file_meta_is_read_in_its_own_syntax() {
    let film = Film::new("ISO_IR 192", b"Davidson^Douglas", "292821506");
    let reference = read(&film.encode()).unwrap();
    for (syntax, entry) in [
        (EXPLICIT, entries::EXPLICIT_VR_LITTLE_ENDIAN.erased()),
        (IMPLICIT, entries::IMPLICIT_VR_LITTLE_ENDIAN.erased()),
        (BIG_ENDIAN, entries::EXPLICIT_VR_BIG_ENDIAN.erased()),
    ] {
        let mut bare = Vec::new();
        reference.write_dataset_with_ts(&mut bare, &entry).unwrap();
        let object = read(&bare).unwrap();
        assert_eq!(object.meta().transfer_syntax(), syntax);
        let (clean, bytes) = deidentified(&bare);
        assert!(!contains(&bytes, b"Davidson") && !contains(&bytes, b"292821506"));
        let rows = clean.object().element(tags::ROWS).unwrap();
        assert_eq!(rows.to_int::<u16>().unwrap(), 4);
        let back = from_reader(&bytes[..]).unwrap();
        assert_eq!(back.meta().transfer_syntax(), syntax);
        assert_eq!(
            back.meta()
                .media_storage_sop_class_uid()
                .trim_end_matches('\0'),
            uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE
        );
    }
}

#[test]
fn what_is_refused_has_a_code_that_says_what_to_do() {
    let film = Film::new("ISO_IR 192", b"Davidson^Douglas", "292821506");
    let code = |encoded: &[u8]| {
        let result = Deidentifier::default().deidentify(encoded, "SITE", &ids());
        result.map(drop).unwrap_err().code()
    };
    for other in [
        &b""[..],
        b"# dicom\n351 files",
        b"\x89PNG\r\n\x1a\n",
        &[8, 0],
        &[0; 400],
    ] {
        assert_eq!(code(other), "NOT_DICOM");
    }
    let whole = film.encode();
    assert_eq!(code(&whole[..whole.len() - 9]), "UNREADABLE");
    let mut nameless = Film::new("ISO_IR 192", b"Davidson^Douglas", "292821506");
    nameless.elements.remove(&(0x0008, 0x0018));
    assert_eq!(code(&nameless.data_set()), "NO_INSTANCE_UID");
    let mut video = Film::new("ISO_IR 192", b"Davidson^Douglas", "292821506");
    video.syntax = "1.2.840.10008.1.2.4.102".into();
    assert_eq!(code(&video.encode()), "PIXELS_UNREADABLE");
    let mut unknown = Film::new("ISO_IR 192", b"Davidson^Douglas", "292821506");
    unknown.syntax = "1.2.3.4".into();
    assert_eq!(code(&unknown.encode()), "UNKNOWN_TRANSFER_SYNTAX");
}

/// `CLOISTER_TAGS_OUT=DIR cargo test -p cloister-deid --test iods public` writes what is left of the
/// public files before redaction, with a report, for `tools/check_outputs.py --before-redaction`.
#[test]
fn public_files_keep_their_group_of_patient_and_study() {
    let out = std::env::var_os("CLOISTER_TAGS_OUT");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/dicom");
    let files = real_files();
    if files.is_empty() {
        println!("SKIPPED: no ../shared/data/dicom");
        return;
    }
    let mut report = String::new();
    let mut clean = 0;
    for (number, path) in files.iter().enumerate() {
        let encoded = fs::read(path).unwrap();
        let input = path.strip_prefix(&root).unwrap().display();
        match Deidentifier::default().deidentify(&encoded, "SITE", &ids()) {
            Ok((object, _)) => {
                clean += 1;
                for tag in [tags::PATIENT_NAME, tags::PATIENT_ID, tags::STUDY_DATE] {
                    let before = read(&encoded).unwrap();
                    let had = before.get(tag).is_some();
                    assert_eq!(object.object().get(tag).is_some(), had, "{input} {tag}");
                }
                if let Some(dir) = &out {
                    let name = format!("{number}.dcm");
                    fs::write(Path::new(dir).join(&name), object.to_bytes().unwrap()).unwrap();
                    writeln!(
                        report,
                        r#"{{"input":"{input}","status":"clean","output":"{name}","flags":[]}}"#
                    )
                    .unwrap();
                }
            }
            Err(error) => {
                let code = error.code();
                assert_ne!(code, "DEIDENTIFY_FAILED", "{input}");
                writeln!(
                    report,
                    r#"{{"input":"{input}","status":"quarantined","reason":"{code}","flags":[]}}"#
                )
                .unwrap();
            }
        }
    }
    println!("{clean} of {} files without identifiers", files.len());
    if let Some(dir) = &out {
        fs::write(Path::new(dir).with_extension("jsonl"), report).unwrap();
    }
}
