//! Which films the demo sends: one's own folder, or a phantom that nobody is.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};
use dicom_dictionary_std::tags;
use dicom_object::OpenFileOptions;

use super::super::deidentify::files_below;
use crate::failure::usage;
use crate::scu::Film;
use crate::study::{Patient, StudySpec, draw};

/// Films, ready to be sent.
pub(super) struct Films {
    /// What C-STORE sends.
    pub(super) to_send: Vec<Film>,
    /// The same as files, for the before picture.
    pub(super) files: Vec<Vec<u8>>,
    /// How many studies they make up.
    pub(super) studies: usize,
    /// In words, without a patient.
    pub(super) description: String,
}

/// One's own films, or two drawn ones.
pub(super) fn choose(dir: Option<&Path>) -> Result<Films> {
    match dir {
        Some(dir) => own(dir),
        None => drawn(),
    }
}

fn drawn() -> Result<Films> {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).context("no randomness")?;
    let mut spec = StudySpec::chest(u64::from_le_bytes(seed), Patient::made_up(), 2, 1024);
    spec.burned_in = 1;
    let study = draw(&spec)?;
    Ok(Films {
        to_send: study
            .files
            .iter()
            .map(|file| Ok(Film::parse(file)?))
            .collect::<Result<_>>()?,
        files: study.files,
        studies: 1,
        description:
            "2 drawn chest phantoms of a made-up patient, the name in the tags and burned \
                      into the pixels of the first"
                .to_owned(),
    })
}

fn own(dir: &Path) -> Result<Films> {
    if !dir.is_dir() {
        return Err(usage(format!("--study: {} is no folder", dir.display())));
    }
    let (mut films, mut files, mut skipped) = (Vec::new(), Vec::new(), 0usize);
    let mut studies = BTreeSet::new();
    for path in files_below(dir)? {
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let Ok(film) = Film::parse(&bytes) else {
            skipped += 1;
            continue;
        };
        studies.insert(study_of(&path));
        films.push(film);
        files.push(bytes);
    }
    if films.is_empty() {
        return Err(usage(format!(
            "--study: no DICOM file in {}",
            dir.display()
        )));
    }
    let description = format!(
        "{} of your films in {} study(ies) from {}, {skipped} other file(s) left out",
        films.len(),
        studies.len(),
        dir.display()
    );
    Ok(Films {
        to_send: films,
        files,
        studies: studies.len(),
        description,
    })
}

/// Study Instance UID of a file, as far as it can be read; films without one make up a study of
/// their own as far as counting goes.
fn study_of(path: &Path) -> Option<String> {
    let object = OpenFileOptions::new()
        .read_until(tags::PIXEL_DATA)
        .open_file(path)
        .ok()?;
    let uid = object.get(tags::STUDY_INSTANCE_UID)?.to_str().ok()?;
    Some(uid.trim_end_matches(['\0', ' ']).to_owned())
}
