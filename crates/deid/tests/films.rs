//! Real files, where `../shared/data/dicom` lies beside the project.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use cloister_deid::{Deidentifier, HmacPseudonyms, Policy, chest, gate};
use cloister_scrub::scrub;
use dicom_dictionary_std::tags;
use zeroize::Zeroizing;

fn data() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/dicom");
    if dir.is_dir() {
        return Some(dir);
    }
    println!("SKIPPED: ../shared/data/dicom is absent");
    None
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, found);
        } else if !matches!(
            path.extension().and_then(|e| e.to_str()),
            Some("md" | "csv" | "png" | "json")
        ) {
            found.push(path);
        }
    }
}

fn ids() -> HmacPseudonyms {
    HmacPseudonyms::new(Zeroizing::new([5; 32]))
}

fn pixels(object: &dicom_object::DefaultDicomObject) -> Option<Vec<u8>> {
    object.get(tags::PIXEL_DATA).map(|element| {
        element.fragments().map_or_else(
            || element.to_bytes().unwrap().into_owned(),
            <[Vec<u8>]>::concat,
        )
    })
}

/// De-identifies, encodes, looks, re-opens, and does it again.
fn outcome(bytes: &[u8]) -> Result<(), String> {
    let deidentifier = Deidentifier::default();
    let (clean, known) = deidentifier
        .deidentify(bytes, "TEST", &ids())
        .map_err(|error| format!("error: {error}"))?;
    let encoded = clean
        .to_bytes()
        .map_err(|error| format!("error: {error}"))?;
    gate::look(&encoded, &known, Policy::basic()).map_err(|error| format!("gate: {error}"))?;
    let back = dicom_object::from_reader(&encoded[..]).unwrap();
    if let Ok(original) = dicom_object::from_reader(bytes) {
        // What was tidied (comments, unused bits, bytes after the last frame) never grows.
        let (before, after) = (pixels(&original), pixels(&back));
        assert_eq!(before.is_some(), after.is_some());
        if before != after {
            let length = |pixels: &Option<Vec<u8>>| pixels.as_ref().map_or(0, Vec::len);
            // Segments of RLE are filled up to even length (PS3.5 section G.3.1); some writers did not.
            let fragments = original
                .get(tags::PIXEL_DATA)
                .and_then(|element| element.fragments())
                .map_or(0, <[Vec<u8>]>::len);
            assert!(length(&after) <= length(&before) + 1 + 15 * fragments);
            println!(
                "tidied: {} bytes less",
                length(&before) - length(&after).min(length(&before))
            );
        }
        assert_eq!(
            original.meta().transfer_syntax(),
            back.meta().transfer_syntax()
        );
    }
    let (again, known) = deidentifier.deidentify(&encoded, "TEST", &ids()).unwrap();
    gate::look(&again.to_bytes().unwrap(), &known, Policy::basic())
        .map_err(|error| format!("gate again: {error}"))
}

#[test]
fn every_file_comes_out_clean_or_with_a_clear_error() {
    let Some(dir) = data() else { return };
    let mut paths = Vec::new();
    files(&dir, &mut paths);
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for path in &paths {
        let outcome = outcome(&fs::read(path).unwrap())
            .err()
            .unwrap_or_else(|| "clean".into());
        if outcome != "clean" {
            println!("{outcome}: {}", path.strip_prefix(&dir).unwrap().display());
        }
        *outcomes.entry(outcome).or_default() += 1;
    }
    println!("{} files: {outcomes:#?}", paths.len());
    assert!(
        outcomes.keys().all(|outcome| !outcome.starts_with("gate")),
        "{outcomes:?}"
    );
    assert!(outcomes["clean"] * 10 >= paths.len() * 9, "{outcomes:?}");
}

#[test]
fn the_presidio_film_loses_every_header_identifier() {
    let Some(dir) = data() else { return };
    let bytes = fs::read(dir.join("presidio/0_ORIGINAL_compressed.dcm")).unwrap();
    let (clean, known) = Deidentifier::default()
        .deidentify(&bytes, "TEST", &ids())
        .unwrap();
    let encoded = clean.to_bytes().unwrap();
    for hit in ["Douglas Davidson", "DAVIDSON", "292821506", "06.16.1976"] {
        assert!(known.is_hit(hit), "{hit}");
        assert!(
            !encoded
                .windows(hit.len())
                .any(|w| w.eq_ignore_ascii_case(hit.as_bytes())),
            "{hit}"
        );
    }
    let query = "Is there a pneumothorax in Mr. Douglas Davidson (MRN 292821506)?";
    assert_eq!(
        scrub(query, &known).text,
        "Is there a pneumothorax in Mr. [NAME] (MRN [ID])?"
    );
    assert_eq!(clean.view(), cloister_phi::View::Ap);
}

#[test]
fn chest_films_pass_and_other_modalities_do_not() {
    let Some(dir) = data() else { return };
    let mut paths = Vec::new();
    files(&dir, &mut paths);
    let mut passed = Vec::new();
    for path in &paths {
        let Ok(object) = dicom_object::open_file(path) else {
            continue;
        };
        let modality = object
            .get(tags::MODALITY)
            .and_then(|m| m.to_str().ok().map(std::borrow::Cow::into_owned));
        if chest::is_chest(&object).is_ok() {
            assert!(
                matches!(modality.as_deref(), Some("CR" | "DX")),
                "{}",
                path.display()
            );
            passed.push(path.strip_prefix(&dir).unwrap().display().to_string());
        }
    }
    println!("{passed:#?}");
    for film in [
        "presidio/0_ORIGINAL_compressed.dcm",
        "pydicom-data/RG1_J2KI.dcm",
        "robyoung/RG1_JLSN",
        "torchxrayvision/1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819.dcm",
        "torchxrayvision/Fake_MONOHR1.dcm",
    ] {
        assert!(passed.iter().any(|path| path == film), "{film}");
    }
}

#[test]
fn names_in_any_character_set_are_known_and_gone() {
    let Some(dir) = data() else { return };
    for (file, name) in [
        ("chrArab.dcm", "قباني"),
        ("chrFren.dcm", "Jérôme"),
        ("chrFrenMulti.dcm", "Jérôme"),
        ("chrGerm.dcm", "Rüdiger"),
        ("chrGreek.dcm", "Διονυσιος"),
        ("chrH31.dcm", "山田"),
        ("chrH32.dcm", "太郎"),
        ("chrHbrw.dcm", "שרון"),
        ("chrI2.dcm", "길동"),
        ("chrJapMulti.dcm", "やまだ"),
        ("chrKoreanMulti.dcm", "김희중"),
        ("chrRuss.dcm", "Люкceмбypг"),
        ("chrX1.dcm", "小東"),
        ("chrX2.dcm", "小东"),
    ] {
        let bytes = fs::read(dir.join("pydicom").join(file)).unwrap();
        let (clean, known) = Deidentifier::default()
            .deidentify(&bytes, "TEST", &ids())
            .unwrap();
        assert!(
            known.is_hit(name),
            "{file}: {:?}",
            clean.identity().expose().patient_name
        );
        assert!(
            !scrub(&format!("film of {name} today"), &known)
                .text
                .contains(name),
            "{file}"
        );
        assert!(
            gate::look(&bytes, &known, Policy::basic()).is_err(),
            "{file}: the original passes the gate"
        );
        gate::look(&clean.to_bytes().unwrap(), &known, Policy::basic()).unwrap();
    }
}
