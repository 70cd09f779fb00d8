//! Compressed films through real workers: what redaction keeps, what damage does, how much memory a
//! worker needs.

use cloister_redact::phantom::{Phantom, PhantomSpec};
use cloister_redact::{RedactError, Redactor};
use dicom_core::value::{PixelFragmentSequence, PrimitiveValue, Value};
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};

use crate::support::{Film, code, config, data, nobody, pool, small_film, wait};

const JPEG: &str = "1.2.840.10008.1.2.4.50";

/// What a worker may use.
const WORKER_BYTES: u64 = 512 << 20;

/// The phantom's frames as baseline JPEG.
fn jpeg(phantoms: &[Phantom]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let frames: Vec<Vec<u8>> = phantoms
        .iter()
        .map(|phantom| {
            let mut frame = Vec::new();
            image::codecs::jpeg::JpegEncoder::new_with_quality(&mut frame, 90)
                .encode(
                    &phantom.samples_8bit(),
                    phantom.width,
                    phantom.height,
                    image::ExtendedColorType::L8,
                )
                .unwrap();
            frame.resize(frame.len().next_multiple_of(2), 0);
            frame
        })
        .collect();
    let text =
        |tag: Tag, vr: VR, value: &str| DataElement::new(tag, vr, PrimitiveValue::from(value));
    let number = |tag: Tag, value: u16| DataElement::new(tag, VR::US, PrimitiveValue::from(value));
    let sequence = PixelFragmentSequence::new(vec![], frames.clone());
    let value: Value<InMemDicomObject> = Value::PixelSequence(sequence);
    let elements = [
        text(tags::SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.1"),
        text(tags::SOP_INSTANCE_UID, VR::UI, "2.25.1"),
        text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
        text(tags::NUMBER_OF_FRAMES, VR::IS, &frames.len().to_string()),
        number(tags::SAMPLES_PER_PIXEL, 1),
        number(tags::ROWS, phantoms[0].height as u16),
        number(tags::COLUMNS, phantoms[0].width as u16),
        number(tags::BITS_ALLOCATED, 8),
        number(tags::BITS_STORED, 8),
        number(tags::HIGH_BIT, 7),
        number(tags::PIXEL_REPRESENTATION, 0),
        DataElement::new(tags::PIXEL_DATA, VR::OB, value),
    ];
    let meta = FileMetaTableBuilder::new().transfer_syntax(JPEG);
    let object = InMemDicomObject::from_element_iter(elements);
    let mut out = Vec::new();
    object.with_meta(meta).unwrap().write_all(&mut out).unwrap();
    (out, frames)
}

pub(crate) fn of_a_jpeg_only_the_frame_with_text_changes() {
    let mut spec = PhantomSpec::square(71, 256);
    spec.bits = 8;
    let plain = Phantom::draw(&spec);
    let marked = Phantom::draw(&spec.with_text(&["DOE^JANE"]));
    let (film, frames) = jpeg(&[plain.clone(), marked.clone(), plain]);
    let redacted = wait(pool().redact(film, &nobody())).unwrap();
    assert!(redacted.boxes().iter().any(|found| found.frame == 1));
    assert!(
        redacted
            .boxes()
            .iter()
            .all(|b| b.x % 8 == 0 && b.y % 8 == 0)
    );
    let object = dicom_object::from_reader(redacted.object()).unwrap();
    assert_eq!(object.meta().transfer_syntax().trim_end_matches('\0'), JPEG);
    let kept = object
        .element(tags::PIXEL_DATA)
        .unwrap()
        .fragments()
        .unwrap();
    assert_ne!(kept[1], frames[1]);
    for frame in [0, 2] {
        if redacted.boxes().iter().all(|found| found.frame != frame) {
            assert_eq!(kept[frame as usize], frames[frame as usize]);
        }
    }
    // The ink is gone from what a decoder makes of the result.
    let after = image::load_from_memory(&kept[1]).unwrap().into_luma8();
    let (x, y, w, h) = marked.ink[0];
    let bright = (x..x + w)
        .flat_map(|px| (y..y + h).map(move |py| (px, py)))
        .filter(|&(px, py)| after.get_pixel(px, py).0[0] > 200);
    assert_eq!(bright.count(), 0);
}

pub(crate) fn damaged_frames_of_every_codec_are_answered() {
    let Some(folder) = data() else { return };
    let pool = Redactor::start(config()).unwrap();
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let (mut decoded, mut refused, mut died) = (0, 0, 0);
    for name in [
        "pydicom/JPEG2000.dcm",
        "pydicom/JPGExtended.dcm",
        "pydicom/SC_rgb_small_odd_jpeg.dcm",
        "pydicom/JPEGLSNearLossless_16.dcm",
        "pydicom/rtdose_rle_1frame.dcm",
        "pydicom-data/JPEG-LL.dcm",
        "pydicom-data/HTJ2K_08_RGB.dcm",
    ] {
        let good = std::fs::read(folder.join(name)).unwrap();
        for round in 0..12 {
            let mut bytes = good.clone();
            for _ in 0..=round {
                let at = good.len() / 3 + next(good.len() - good.len() / 3);
                bytes[at] = next(256) as u8;
            }
            match wait(pool.detect(bytes, &nobody())) {
                Ok(_) => decoded += 1,
                Err(RedactError::WorkerDied | RedactError::TimedOut) => died += 1,
                Err(RedactError::Protocol) => panic!("{name}: a worker spoke nonsense"),
                Err(_) => refused += 1,
            }
        }
    }
    println!("  {decoded} decoded, {refused} refused, {died} workers lost");
    assert_eq!(code(wait(pool.redact(small_film(2), &nobody()))), "ok");
}

pub(crate) fn a_large_film_needs_no_more_than_half_a_gigabyte() {
    let mut config = config();
    config.memory_bytes = WORKER_BYTES;
    let pool = Redactor::start(config).unwrap();
    // 4,288 × 3,520 at 16 bits: the largest detectors for the chest.
    let mut phantom = Phantom::draw(&PhantomSpec::square(1, 64));
    (phantom.width, phantom.height) = (4288, 3520);
    let mut film = Film::of(phantom);
    let samples = 4288 * 3520;
    film.frames = vec![
        (0..samples)
            .flat_map(|at| ((at / 4288 + at % 4288) as u16 / 2).to_le_bytes())
            .collect(),
    ];
    assert_eq!(code(wait(pool.redact(film.encode(), &nobody()))), "ok");
}
