//! Graphic annotations (PS3.3 C.10.5; PS3.15 E.3.3): their text is cleaned, and of what is drawn
//! only shapes stay that cannot spell. Overlays and curves never come here: they go by the table.

use dicom_core::{DataElement, Length, VR, value::DataSetSequence};
use dicom_dictionary_std::tags;
use dicom_object::{InMemDicomObject, mem::InMemElement};

use crate::{PseudonymError, clean::Cleaner, dummy::dummy_text_object, required::Place};

/// More shapes in one sequence of annotations could be strokes of letters.
const MAX_SHAPES: usize = 16;

impl Cleaner<'_> {
    /// `C` of the option on graphics. None if the element is no sequence.
    pub(crate) fn annotations(
        &self,
        element: &InMemElement,
        codes: &[String],
        place: Place,
    ) -> Result<Option<InMemElement>, PseudonymError> {
        let Some(items) = element.items() else {
            return Ok(None);
        };
        let mut cleaned = Vec::with_capacity(items.len());
        let mut shapes = 0;
        for item in items {
            cleaned.push(annotation(
                self.clean(item, codes, place.inside(element.header().tag))?,
                &mut shapes,
            ));
        }
        Ok((!cleaned.is_empty()).then(|| sequence(element.header().tag, cleaned)))
    }
}

/// The text of `item` is clean already.
fn annotation(mut item: InMemDicomObject, before: &mut usize) -> InMemDicomObject {
    item.remove_element(tags::COMPOUND_GRAPHIC_SEQUENCE);
    let shapes: Vec<InMemDicomObject> = item
        .get(tags::GRAPHIC_OBJECT_SEQUENCE)
        .and_then(|shapes| shapes.items())
        .unwrap_or_default()
        .iter()
        .filter(|shape| is_plain(shape))
        .cloned()
        .collect();
    *before += shapes.len();
    if shapes.is_empty() || *before > MAX_SHAPES {
        item.remove_element(tags::GRAPHIC_OBJECT_SEQUENCE);
    } else {
        item.put(sequence(tags::GRAPHIC_OBJECT_SEQUENCE, shapes));
    }
    // Type 1C: one of the two must be there.
    let texts = item
        .get(tags::TEXT_OBJECT_SEQUENCE)
        .and_then(|texts| texts.items());
    if texts.is_none_or(<[_]>::is_empty) {
        item.remove_element(tags::TEXT_OBJECT_SEQUENCE);
        if item.get(tags::GRAPHIC_OBJECT_SEQUENCE).is_none() {
            item.put(sequence(
                tags::TEXT_OBJECT_SEQUENCE,
                vec![dummy_text_object()],
            ));
        }
    }
    item
}

/// A point, circle, ellipse, or a straight line. Lines with corners are also handwriting.
fn is_plain(shape: &InMemDicomObject) -> bool {
    let kind = shape
        .get(tags::GRAPHIC_TYPE)
        .and_then(|element| element.to_str().ok())
        .map(|kind| kind.trim().to_owned())
        .unwrap_or_default();
    let coordinates = shape
        .get(tags::GRAPHIC_DATA)
        .and_then(|element| element.to_multi_float32().ok())
        .map_or(0, |data| data.len());
    matches!(
        (kind.as_str(), coordinates),
        ("POINT", 2) | ("CIRCLE" | "POLYLINE" | "INTERPOLATED", 4) | ("ELLIPSE", 8)
    )
}

fn sequence(tag: dicom_core::Tag, items: Vec<InMemDicomObject>) -> InMemElement {
    DataElement::new(tag, VR::SQ, DataSetSequence::new(items, Length::UNDEFINED))
}
