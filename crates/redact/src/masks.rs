//! Used by `look`: places where this device is known to write (`masks.toml`). They are blanked beside
//! what is found by looking; a device without an entry is looked at like any other.

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::DefaultDicomObject;
use serde::Deserialize;

use crate::error::RedactError;
use crate::film::Film;
use crate::redacted::{FoundBox, Source};

const TABLE: &str = include_str!("masks.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    mask: Vec<Mask>,
}

/// What a device is known by, and where it writes. An empty list asks for nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Mask {
    modality: Vec<String>,
    manufacturer: Vec<String>,
    model: Vec<String>,
    image_type: Vec<String>,
    rows: Vec<usize>,
    columns: Vec<usize>,
    /// Left, top, width, height.
    places: Vec<[u32; 4]>,
}

/// The table, parsed.
#[derive(Debug)]
pub(crate) struct Masks(Vec<Mask>);

impl Masks {
    /// Parses the table that is compiled in.
    pub(crate) fn load() -> Result<Self, RedactError> {
        let table: Table = toml::from_str(TABLE).map_err(|_| RedactError::StartFailed)?;
        Ok(Self(table.mask))
    }

    /// The places on every frame of this object, cut at its edges.
    pub(crate) fn places(&self, object: &DefaultDicomObject, film: &Film) -> Vec<FoundBox> {
        let text = |tag: Tag| {
            let value = object.get(tag).and_then(|element| element.to_str().ok());
            value.unwrap_or_default().to_uppercase()
        };
        let (modality, manufacturer) = (text(tags::MODALITY), text(tags::MANUFACTURER));
        let (model, kind) = (text(tags::MANUFACTURER_MODEL_NAME), text(tags::IMAGE_TYPE));
        let says = |wanted: &[String], value: &str| {
            wanted.is_empty() || wanted.iter().any(|one| value.contains(&one.to_uppercase()))
        };
        let is = |wanted: &[usize], value: usize| wanted.is_empty() || wanted.contains(&value);
        let matching = self.0.iter().filter(|mask| {
            says(&mask.modality, &modality)
                && says(&mask.manufacturer, &manufacturer)
                && says(&mask.model, &model)
                && says(&mask.image_type, &kind)
                && is(&mask.rows, film.height)
                && is(&mask.columns, film.width)
        });
        let (width, height) = (film.width as u32, film.height as u32);
        let mut found = Vec::new();
        for &[x, y, w, h] in matching.flat_map(|mask| &mask.places) {
            let (x, y) = (x.min(width), y.min(height));
            let (w, h) = (w.min(width - x), h.min(height - y));
            if w == 0 || h == 0 {
                continue;
            }
            found.extend((0..film.frames).map(|frame| FoundBox {
                frame: frame as u32,
                x,
                y,
                w,
                h,
                score: 1.0,
                source: Source::Mask,
                ..FoundBox::default()
            }));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use dicom_core::{DataElement, VR};
    use dicom_dictionary_std::tags;
    use dicom_object::{FileMetaTableBuilder, InMemDicomObject};

    use super::Masks;
    use crate::film::{Display, Film, Photometric, Stored};

    fn film(width: usize, height: usize, frames: usize) -> Film {
        Film {
            width,
            height,
            frames,
            channels: 1,
            bytes_per_sample: 1,
            bits_stored: 8,
            signed: false,
            float: false,
            photometric: Photometric::Monochrome2,
            samples: Vec::new(),
            display: Display::default(),
            stored: Stored::default(),
        }
    }

    fn places(modality: &str, manufacturer: &str, model: &str, film: &Film) -> Vec<[u32; 5]> {
        let object = InMemDicomObject::from_element_iter([
            DataElement::new(tags::SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.1"),
            DataElement::new(tags::SOP_INSTANCE_UID, VR::UI, "2.25.1"),
            DataElement::new(tags::MODALITY, VR::CS, modality),
            DataElement::new(tags::MANUFACTURER, VR::LO, manufacturer),
            DataElement::new(tags::MANUFACTURER_MODEL_NAME, VR::LO, model),
        ])
        .with_meta(FileMetaTableBuilder::new().transfer_syntax("1.2.840.10008.1.2.1"))
        .unwrap();
        let found = Masks::load().unwrap().places(&object, film);
        found
            .iter()
            .map(|b| [b.frame, b.x, b.y, b.w, b.h])
            .collect()
    }

    #[test]
    fn a_known_device_is_masked_on_every_frame_and_cut_at_the_edges() {
        let canon = places("DX", "Canon Inc.", "CXDI-50G", &film(2208, 2592, 1));
        assert_eq!(canon, [[0, 0, 0, 2208, 80], [0, 0, 2512, 2208, 80]]);
        let narrow = places("US", "GE Healthcare", "LOGIQ9", &film(600, 480, 2));
        assert_eq!(narrow, [[0, 0, 0, 600, 30], [1, 0, 0, 600, 30]]);
    }

    #[test]
    fn another_device_size_or_modality_is_not() {
        for (modality, manufacturer, model, film) in [
            ("DX", "Canon Inc.", "CXDI-50G", film(2208, 2000, 1)),
            ("MR", "Canon Inc.", "CXDI-50G", film(2208, 2592, 1)),
            ("DX", "Fuji", "FCR", film(2208, 2592, 1)),
            ("DX", "", "", film(2208, 2592, 1)),
        ] {
            let found = places(modality, manufacturer, model, &film);
            assert!(found.is_empty(), "{manufacturer} {model}: {found:?}");
        }
    }

    #[test]
    fn no_entry_matches_everything() {
        for mask in Masks::load().unwrap().0 {
            assert!(
                !mask.manufacturer.is_empty() && !mask.places.is_empty(),
                "{mask:?}"
            );
        }
    }
}
