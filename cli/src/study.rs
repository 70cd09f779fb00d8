//! Draws the studies of a patient who does not exist: the demo's film and the tests' films.

use std::fmt;

use anyhow::{Context as _, Result};
use cloister_redact::phantom::{Phantom, PhantomSpec};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR, dicom_value};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use sha2::{Digest as _, Sha256};

/// A made-up patient, as a modality's worklist would hold one.
#[derive(Clone)]
pub struct Patient {
    /// (0010,0010).
    pub name: String,
    /// (0010,0020).
    pub id: String,
    /// (0010,0030), `YYYYMMDD`.
    pub birth_date: String,
    /// (0010,0040).
    pub sex: String,
    /// (0008,0050).
    pub accession: String,
    /// (0008,0090).
    pub referring: String,
}

impl fmt::Debug for Patient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Patient(redacted)")
    }
}

impl Patient {
    /// The demo's patient.
    pub fn made_up() -> Self {
        Self {
            name: "VANDERMOLEN^ANNELIES^JOHANNA".into(),
            id: "MRN48213377".into(),
            birth_date: "19570314".into(),
            sex: "F".into(),
            accession: "ACC7740912".into(),
            referring: "OKONKWO^CHIDI".into(),
        }
    }

    /// The name as a modality burns it into the pixels: given name first.
    pub fn spoken_name(&self) -> String {
        let mut parts = self.name.split('^');
        let family = parts.next().unwrap_or_default();
        let given = parts.next().unwrap_or_default();
        format!("{given} {family}").trim().to_owned()
    }
}

/// What study to draw.
#[derive(Debug, Clone)]
pub struct StudySpec {
    /// The same seed gives the same study, UIDs included.
    pub seed: u64,
    /// Whose.
    pub patient: Patient,
    /// How many films.
    pub films: usize,
    /// Side of a film in pixels.
    pub side: u32,
    /// How many films, from the first, carry burned-in text.
    pub burned_in: usize,
    /// (0018,0015); `CHEST` unless a test wants something else.
    pub body_part: String,
}

impl StudySpec {
    /// A study of chest films without burned-in text.
    pub fn chest(seed: u64, patient: Patient, films: usize, side: u32) -> Self {
        Self {
            seed,
            patient,
            films,
            side,
            burned_in: 0,
            body_part: "CHEST".into(),
        }
    }
}

/// A drawn study: the films as DICOM files.
#[derive(Clone)]
pub struct DrawnStudy {
    /// One encoded DICOM file per film.
    pub files: Vec<Vec<u8>>,
    /// Study Instance UID of this made-up study.
    pub study_uid: String,
    /// SOP Instance UID of each film.
    pub instance_uids: Vec<String>,
}

impl fmt::Debug for DrawnStudy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrawnStudy")
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}

/// Draws a study.
///
/// # Errors
/// When a film cannot be encoded.
pub fn draw(spec: &StudySpec) -> Result<DrawnStudy> {
    let study_uid = uid(spec.seed, "study", 0);
    let mut drawn = DrawnStudy {
        files: Vec::new(),
        study_uid,
        instance_uids: Vec::new(),
    };
    for film in 0..spec.films {
        let instance = uid(spec.seed, "instance", film);
        drawn
            .files
            .push(encode(spec, film, &drawn.study_uid, &instance)?);
        drawn.instance_uids.push(instance);
    }
    Ok(drawn)
}

fn encode(spec: &StudySpec, film: usize, study: &str, instance: &str) -> Result<Vec<u8>> {
    let mut phantom = PhantomSpec::square(
        spec.seed.wrapping_mul(31).wrapping_add(film as u64),
        spec.side,
    );
    if film < spec.burned_in {
        let patient = &spec.patient;
        let lines = [
            patient.spoken_name(),
            patient.id.clone(),
            format!("DOB {}", patient.birth_date),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        phantom = phantom.with_text(&lines);
    }
    let phantom = Phantom::draw(&phantom);
    let meta = FileMetaTableBuilder::new()
        .media_storage_sop_class_uid(uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION)
        .media_storage_sop_instance_uid(instance)
        .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let mut object = InMemDicomObject::new_empty();
    identity(&mut object, spec, film, study, instance);
    image(&mut object, &phantom);
    let mut file = Vec::new();
    object
        .with_meta(meta)
        .context("file meta information")?
        .write_all(&mut file)
        .context("encoding a phantom")?;
    Ok(file)
}

fn identity(
    object: &mut InMemDicomObject,
    spec: &StudySpec,
    film: usize,
    study: &str,
    instance: &str,
) {
    let patient = &spec.patient;
    let view = if film.is_multiple_of(2) { "PA" } else { "LL" };
    let series = uid(spec.seed, "series", 0);
    let number = (film + 1).to_string();
    let texts: [(Tag, VR, &str); 24] = [
        (tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 100"),
        (
            tags::SOP_CLASS_UID,
            VR::UI,
            uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
        ),
        (tags::SOP_INSTANCE_UID, VR::UI, instance),
        (tags::STUDY_DATE, VR::DA, "20260311"),
        (tags::STUDY_TIME, VR::TM, "084512"),
        (tags::ACCESSION_NUMBER, VR::SH, &patient.accession),
        (tags::MODALITY, VR::CS, "DX"),
        (tags::MANUFACTURER, VR::LO, "Phantom Works"),
        (tags::INSTITUTION_NAME, VR::LO, "St. Elsewhere General"),
        (tags::REFERRING_PHYSICIAN_NAME, VR::PN, &patient.referring),
        (tags::STUDY_DESCRIPTION, VR::LO, "Chest two views"),
        (tags::PATIENT_NAME, VR::PN, &patient.name),
        (tags::PATIENT_ID, VR::LO, &patient.id),
        (tags::ISSUER_OF_PATIENT_ID, VR::LO, "PHANTOM"),
        (tags::PATIENT_BIRTH_DATE, VR::DA, &patient.birth_date),
        (tags::PATIENT_SEX, VR::CS, &patient.sex),
        (tags::PATIENT_AGE, VR::AS, "069Y"),
        (tags::BODY_PART_EXAMINED, VR::CS, &spec.body_part),
        (tags::VIEW_POSITION, VR::CS, view),
        (tags::STUDY_INSTANCE_UID, VR::UI, study),
        (tags::SERIES_INSTANCE_UID, VR::UI, &series),
        (tags::STUDY_ID, VR::SH, "1"),
        (tags::SERIES_NUMBER, VR::IS, "1"),
        (tags::INSTANCE_NUMBER, VR::IS, &number),
    ];
    for (tag, vr, text) in texts {
        object.put(DataElement::new(tag, vr, PrimitiveValue::from(text)));
    }
}

fn image(object: &mut InMemDicomObject, phantom: &Phantom) {
    let bits = u16::try_from(phantom.bits).unwrap_or(16);
    let allocated = if bits <= 8 { 8 } else { 16 };
    let numbers: [(Tag, u16); 8] = [
        (tags::SAMPLES_PER_PIXEL, 1),
        (
            tags::ROWS,
            u16::try_from(phantom.height).unwrap_or(u16::MAX),
        ),
        (
            tags::COLUMNS,
            u16::try_from(phantom.width).unwrap_or(u16::MAX),
        ),
        (tags::BITS_ALLOCATED, allocated),
        (tags::BITS_STORED, bits),
        (tags::HIGH_BIT, bits.saturating_sub(1)),
        (tags::PIXEL_REPRESENTATION, 0),
        (tags::SMALLEST_IMAGE_PIXEL_VALUE, 0),
    ];
    for (tag, number) in numbers {
        object.put(DataElement::new(tag, VR::US, dicom_value!(U16, [number])));
    }
    for (tag, vr, text) in [
        (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
        (tags::PRESENTATION_LUT_SHAPE, VR::CS, "IDENTITY"),
        (tags::PIXEL_SPACING, VR::DS, "0.4\\0.4"),
    ] {
        object.put(DataElement::new(tag, vr, PrimitiveValue::from(text)));
    }
    let pixels = if allocated == 8 {
        DataElement::new(
            tags::PIXEL_DATA,
            VR::OB,
            PrimitiveValue::from(even(phantom.bytes())),
        )
    } else {
        DataElement::new(
            tags::PIXEL_DATA,
            VR::OW,
            PrimitiveValue::U16(phantom.samples.iter().copied().collect()),
        )
    };
    object.put(pixels);
}

fn even(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    bytes
}

/// A UID under 2.25 (PS3.5 section B.2) that follows from the seed.
fn uid(seed: u64, what: &str, index: usize) -> String {
    let digest = Sha256::new()
        .chain_update(seed.to_le_bytes())
        .chain_update(what)
        .chain_update((index as u64).to_le_bytes())
        .finalize();
    let number = digest
        .iter()
        .take(16)
        .fold(0u128, |sum, byte| (sum << 8) | u128::from(*byte));
    format!("2.25.{number}")
}
