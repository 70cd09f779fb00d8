//! Modality, VOI and palette look-up tables: needed to show the pixels. A table holds no more than
//! its descriptor counts (PS3.3 sections C.7.6.3.1.5 and C.11.1.1.1); the rest goes.

use dicom_core::{DataElement, PrimitiveValue, Tag, VR, value::Value};
use dicom_dictionary_std::tags;
use dicom_object::{InMemDicomObject, mem::InMemElement};

/// A descriptor counts no more entries; 0 stands for as many.
const MAX_ENTRIES: usize = 1 << 16;

/// Whether an attribute holds a table.
pub(crate) fn is_lut(tag: Tag) -> bool {
    tag == tags::LUT_DATA
        || tag.group() == 0x0028 && matches!(tag.element(), 0x1201..=0x1213 | 0x1221..=0x1224)
}

/// The attribute that describes a table; none for segmented ones, whose length follows from their
/// own segments.
fn descriptor(tag: Tag) -> Option<Tag> {
    match tag.element() {
        _ if tag == tags::LUT_DATA => Some(tags::LUT_DESCRIPTOR),
        0x1201..=0x1204 | 0x1211..=0x1213 => Some(Tag(0x0028, tag.element() - 0x0100)),
        _ => None,
    }
}

/// The table, cut where it ends; none if it is no table. Entries have at most two bytes.
pub(crate) fn bounded(object: &InMemDicomObject, element: &InMemElement) -> Option<InMemElement> {
    let tag = element.header().tag;
    let counted = descriptor(tag)
        .and_then(|descriptor| object.get(descriptor))
        .and_then(|descriptor| descriptor.to_multi_int::<i64>().ok())
        .and_then(|numbers| numbers.first().copied());
    let entries = match counted {
        // Signed descriptors wrap.
        Some(count) => match count & 0xFFFF {
            0 => MAX_ENTRIES,
            count => usize::try_from(count).ok()?,
        },
        None => MAX_ENTRIES,
    };
    let Value::Primitive(value) = element.value() else {
        return None;
    };
    let mut value = value.clone();
    match &mut value {
        PrimitiveValue::U8(bytes) => bytes.truncate(entries * 2),
        PrimitiveValue::U16(words) => words.truncate(entries),
        PrimitiveValue::I16(words) => words.truncate(entries),
        PrimitiveValue::Empty => {}
        _ => return None,
    }
    (element.vr() != VR::UN).then(|| DataElement::new(tag, element.vr(), value))
}
