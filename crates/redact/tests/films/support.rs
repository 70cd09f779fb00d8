//! Objects made of phantoms, and a pool around this executable.

use std::path::{Path, PathBuf};

use cloister_redact::phantom::Phantom;
use cloister_redact::{FoundBox, RedactConfig, RedactError, Redactor};
use cloister_scrub::KnownIdentifiers;
use dicom_core::value::PrimitiveValue;
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn data() -> Option<PathBuf> {
    let folder = root().join("../shared/data/dicom");
    if !folder.is_dir() {
        println!("SKIPPED: ../shared/data/dicom is not here");
        return None;
    }
    Some(folder)
}

pub(crate) fn config() -> RedactConfig {
    let library =
        cloister_onnx::library_path().expect("ONNX Runtime is not in the cache: run `make setup`");
    RedactConfig::at(
        std::env::current_exe().unwrap(),
        root().join("models/text-ppocr"),
        library,
    )
}

pub(crate) fn pool() -> Redactor {
    Redactor::start(config())
        .expect("workers start; if the detector is not in the cache, run `make setup`")
}

pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// An object with the attributes the decoder needs.
pub(crate) struct Film {
    pub(crate) phantom: Phantom,
    pub(crate) photometric: &'static str,
    pub(crate) window: Option<(&'static str, &'static str)>,
    pub(crate) frames: Vec<Vec<u8>>,
}

impl Film {
    pub(crate) fn of(phantom: Phantom) -> Self {
        let frames = vec![phantom.bytes()];
        Self {
            phantom,
            photometric: "MONOCHROME2",
            window: None,
            frames,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let bits = self.phantom.bits as u16;
        let text =
            |tag: Tag, vr: VR, value: &str| DataElement::new(tag, vr, PrimitiveValue::from(value));
        let number =
            |tag: Tag, value: u16| DataElement::new(tag, VR::US, PrimitiveValue::from(value));
        let mut elements = vec![
            text(tags::SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.1"),
            text(tags::SOP_INSTANCE_UID, VR::UI, "2.25.1"),
            text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, self.photometric),
            text(
                tags::NUMBER_OF_FRAMES,
                VR::IS,
                &self.frames.len().to_string(),
            ),
            text(tags::BURNED_IN_ANNOTATION, VR::CS, "YES"),
            text(tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "01"),
            number(tags::SAMPLES_PER_PIXEL, 1),
            number(tags::ROWS, self.phantom.height as u16),
            number(tags::COLUMNS, self.phantom.width as u16),
            number(tags::BITS_ALLOCATED, if bits == 8 { 8 } else { 16 }),
            number(tags::BITS_STORED, bits),
            number(tags::HIGH_BIT, bits - 1),
            number(tags::PIXEL_REPRESENTATION, 0),
        ];
        if let Some((centre, width)) = self.window {
            elements.push(text(tags::WINDOW_CENTER, VR::DS, centre));
            elements.push(text(tags::WINDOW_WIDTH, VR::DS, width));
        }
        let pixels = self.frames.concat();
        elements.push(DataElement::new(
            tags::PIXEL_DATA,
            VR::OW,
            PrimitiveValue::U8(pixels.into()),
        ));
        let meta = FileMetaTableBuilder::new().transfer_syntax("1.2.840.10008.1.2.1");
        let object = InMemDicomObject::from_element_iter(elements)
            .with_meta(meta)
            .unwrap();
        let mut out = Vec::new();
        object.write_all(&mut out).unwrap();
        out
    }
}

/// Pixel bytes of an encoded, uncompressed object.
pub(crate) fn pixels(object: &[u8]) -> Vec<u8> {
    let object = dicom_object::from_reader(object).unwrap();
    object
        .element(tags::PIXEL_DATA)
        .unwrap()
        .to_bytes()
        .unwrap()
        .into_owned()
}

/// A patient of whom nothing is known.
pub(crate) fn nobody() -> KnownIdentifiers {
    KnownIdentifiers::new()
}

/// Whether a pixel is blanked.
pub(crate) fn is_inside(boxes: &[FoundBox], frame: u32, x: u32, y: u32) -> bool {
    boxes
        .iter()
        .filter(|b| b.is_redacted())
        .any(|b| b.frame == frame && (b.x..b.x + b.w).contains(&x) && (b.y..b.y + b.h).contains(&y))
}

pub(crate) fn small_film(seed: u64) -> Vec<u8> {
    use cloister_redact::phantom::PhantomSpec;
    Film::of(Phantom::draw(&PhantomSpec::square(seed, 192))).encode()
}

pub(crate) fn code<T>(result: Result<T, RedactError>) -> &'static str {
    result.map_or_else(RedactError::code, |_| "ok")
}
