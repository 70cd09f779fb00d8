//! How the header wants the samples shown: modality and VOI transformations (PS3.3 C.11.1, C.11.2),
//! padding (C.7.5.1.1.2) and the palette (C.7.6.3.1.5). What is damaged is left out: `render` then
//! finds a range of its own.

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::{DefaultDicomObject, InMemDicomObject};

use super::number;
use crate::film::{Display, Film, Function, Modality, Photometric, Table, Voi};

fn float(object: &InMemDicomObject, tag: Tag) -> Option<f64> {
    let value = object.get(tag)?.to_multi_float64().ok()?.first().copied()?;
    value.is_finite().then_some(value)
}

pub(super) fn display(object: &DefaultDicomObject, film: &Film) -> Display {
    let mut vois = vois(object).into_iter();
    Display {
        modality: modality(object, film.signed),
        voi: vois.next(),
        others: vois.collect(),
        padding: padding(object, film),
        palette: (film.photometric == Photometric::Palette)
            .then(|| palette(object, film.signed))
            .flatten(),
    }
}

fn first_item(object: &InMemDicomObject, tag: Tag) -> Option<&InMemDicomObject> {
    items(object, tag).first()
}

fn modality(object: &InMemDicomObject, signed: bool) -> Modality {
    let table = first_item(object, tags::MODALITY_LUT_SEQUENCE);
    if let Some(table) = table.and_then(|item| table_of(item, signed)) {
        return Modality::Table(table);
    }
    // Of an enhanced object: what all frames share, or the first.
    let shared = first_item(object, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE);
    let first = first_item(object, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE);
    let mut groups = [shared, first].into_iter().flatten();
    let object = groups
        .find_map(|item| first_item(item, tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE))
        .unwrap_or(object);
    match float(object, tags::RESCALE_SLOPE).filter(|&slope| slope != 0.0) {
        Some(slope) => {
            Modality::Linear(slope, float(object, tags::RESCALE_INTERCEPT).unwrap_or(0.0))
        }
        None => Modality::Identity,
    }
}

/// Windows and tables that a viewer may choose between: no more are looked at.
const MAX_VOIS: usize = 4;

/// Every distinct one of the object, its first frame's and those all frames share first to last.
fn vois(object: &InMemDicomObject) -> Vec<Voi> {
    let mut found = vois_of(object);
    for groups in [
        tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE,
        tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE,
    ] {
        for item in items(object, groups) {
            for group in items(item, tags::FRAME_VOILUT_SEQUENCE) {
                found.extend(vois_of(group));
            }
        }
    }
    let mut distinct: Vec<Voi> = Vec::new();
    for voi in found {
        if distinct.len() < MAX_VOIS && !distinct.contains(&voi) {
            distinct.push(voi);
        }
    }
    distinct
}

fn items(object: &InMemDicomObject, tag: Tag) -> &[InMemDicomObject] {
    object.get(tag).and_then(|e| e.items()).unwrap_or_default()
}

fn vois_of(object: &InMemDicomObject) -> Vec<Voi> {
    // C.11.2: one of both is applied; the table says more.
    let tables = items(object, tags::VOILUT_SEQUENCE).iter();
    let mut found: Vec<Voi> = tables
        .filter_map(|item| table_of(item, true).map(Voi::Table))
        .collect();
    let function = object
        .get(tags::VOILUT_FUNCTION)
        .and_then(|element| element.to_str().ok());
    let function = match function.as_deref().map(str::trim) {
        Some("SIGMOID") => Function::Sigmoid,
        Some("LINEAR_EXACT") => Function::LinearExact,
        _ => Function::Linear,
    };
    let numbers = |tag| {
        let element = object.get(tag);
        element
            .and_then(|element| element.to_multi_float64().ok())
            .unwrap_or_default()
    };
    let (centres, widths) = (numbers(tags::WINDOW_CENTER), numbers(tags::WINDOW_WIDTH));
    for (&centre, &width) in centres.iter().zip(&widths) {
        let fits = if function == Function::Linear {
            width >= 1.0
        } else {
            width > 0.0
        };
        if fits && centre.is_finite() && width.is_finite() {
            found.push(Voi::Window(centre, width, function));
        }
    }
    found
}

/// A table and its descriptor: number of entries, value of the first, bits of each.
fn table_of(item: &InMemDicomObject, signed: bool) -> Option<Table> {
    let descriptor = item.get(tags::LUT_DESCRIPTOR)?.to_multi_int::<i32>().ok()?;
    let (&count, &first, &bits) = (descriptor.first()?, descriptor.get(1)?, descriptor.get(2)?);
    let count = match count & 0xFFFF {
        0 => 1 << 16,
        count => usize::try_from(count).ok()?,
    };
    let first = match (signed, first) {
        // Written as US or as SS, whatever the parser thought.
        (true, 0x8000..=0xFFFF) => first - 0x1_0000,
        (false, i32::MIN..=-1) => first & 0xFFFF,
        _ => first,
    };
    let bits = u32::try_from(bits)
        .ok()
        .filter(|bits| (1..=16).contains(bits))?;
    let bytes = item.get(tags::LUT_DATA)?.to_bytes().ok()?;
    let entries: Vec<u16> = if bytes.len() >= count * 2 {
        let words = bytes.as_chunks::<2>().0.iter();
        words
            .map(|pair| u16::from_le_bytes(*pair))
            .take(count)
            .collect()
    } else if bits <= 8 && bytes.len() >= count {
        bytes.iter().map(|&byte| byte.into()).take(count).collect()
    } else {
        return None;
    };
    Some(Table {
        first: first.into(),
        entries,
        bits,
    })
}

fn padding(object: &DefaultDicomObject, film: &Film) -> Option<(f64, f64)> {
    if film.channels != 1 || film.float {
        return None;
    }
    let stored = |tag| {
        let value = number(object, tag)?;
        let size = 1_i64 << film.bits_stored;
        // Written as US or as SS, whatever the samples are.
        Some(match (film.signed, value) {
            (true, value) if value >= size / 2 => value - size,
            (false, value) if value < 0 => value + size,
            _ => value,
        } as f64)
    };
    let one = stored(tags::PIXEL_PADDING_VALUE)?;
    let other = stored(tags::PIXEL_PADDING_RANGE_LIMIT).unwrap_or(one);
    Some((one.min(other), one.max(other)))
}

fn palette(object: &DefaultDicomObject, signed: bool) -> Option<(i32, Vec<[u8; 3]>)> {
    let descriptor = object
        .get(tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR)?
        .to_multi_int::<i32>()
        .ok()?;
    let (&entries, &first, &bits) = (descriptor.first()?, descriptor.get(1)?, descriptor.get(2)?);
    let entries = match entries & 0xFFFF {
        0 => 1 << 16,
        entries => usize::try_from(entries).ok()?,
    };
    let first = match (signed, first) {
        // Written as US or as SS, whatever the parser thought.
        (true, 0x8000..=0xFFFF) => first - 0x1_0000,
        (false, i32::MIN..=-1) => first & 0xFFFF,
        _ => first,
    };
    let table = |tag| -> Option<Vec<u16>> {
        let bytes = object.get(tag)?.to_bytes().ok()?;
        let wide = bits > 8 || bytes.len() >= entries * 2;
        Some(if wide {
            let words = bytes.as_chunks::<2>().0.iter();
            words.map(|pair| u16::from_le_bytes(*pair)).collect()
        } else {
            bytes.iter().map(|&byte| byte.into()).collect()
        })
    };
    let red = table(tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA)?;
    let green = table(tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA)?;
    let blue = table(tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA)?;
    // Whatever the descriptor says: some writers put eight bits into the lower byte of a word.
    let most = [&red, &green, &blue].into_iter().flatten().max().copied();
    let shift = if most.unwrap_or(0) > 0xFF { 8 } else { 0 };
    let short = |value: u16| (value >> shift) as u8;
    let colours = red.iter().zip(&green).zip(&blue);
    let colours = colours.map(|((&r, &g), &b)| [short(r), short(g), short(b)]);
    Some((first, colours.collect()))
}

#[cfg(test)]
mod tests {
    use dicom_core::{DataElement, PrimitiveValue, VR};
    use dicom_dictionary_std::tags;
    use dicom_object::{FileMetaTableBuilder, InMemDicomObject};

    use super::{palette, vois};
    use crate::film::{Function, Voi};

    fn windows(centres: &[&str], widths: &[&str]) -> InMemDicomObject {
        let text = |tag, values: &[&str]| {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            DataElement::new(tag, VR::DS, PrimitiveValue::Strs(values))
        };
        InMemDicomObject::from_element_iter([
            text(tags::WINDOW_CENTER, centres),
            text(tags::WINDOW_WIDTH, widths),
        ])
    }

    #[test]
    fn every_distinct_window_is_known_also_those_of_functional_groups() {
        let mut object = windows(&["100", "100", "200"], &["50", "50", "60"]);
        let inner = windows(&["300"], &["70"]);
        let group = DataElement::new(
            tags::FRAME_VOILUT_SEQUENCE,
            VR::SQ,
            dicom_core::value::DataSetSequence::from(vec![inner]),
        );
        let group = InMemDicomObject::from_element_iter([group]);
        object.put(DataElement::new(
            tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE,
            VR::SQ,
            dicom_core::value::DataSetSequence::from(vec![group]),
        ));
        let wanted = [(100.0, 50.0), (200.0, 60.0), (300.0, 70.0)];
        let wanted = wanted.map(|(centre, width)| Voi::Window(centre, width, Function::Linear));
        assert_eq!(vois(&object), wanted);
    }

    #[test]
    fn a_palette_in_lower_bytes_is_not_black_and_its_first_value_has_a_sign() {
        for (bits, factor) in [(16, 257), (16, 1), (8, 1)] {
            let words: Vec<u16> = (0..256).map(|at| at * factor).collect();
            let mut elements = Vec::new();
            for (descriptor, data) in [
                (
                    tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
                    tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
                ),
                (
                    tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
                    tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
                ),
                (
                    tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
                    tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
                ),
            ] {
                let numbers = PrimitiveValue::U16([256, 65_526, bits].into_iter().collect());
                elements.push(DataElement::new(descriptor, VR::US, numbers));
                let words = PrimitiveValue::U16(words.iter().copied().collect());
                elements.push(DataElement::new(data, VR::OW, words));
            }
            let meta = FileMetaTableBuilder::new()
                .transfer_syntax("1.2.840.10008.1.2.1")
                .media_storage_sop_class_uid("1.2.840.10008.5.1.4.1.1.7")
                .media_storage_sop_instance_uid("2.25.1");
            let object = InMemDicomObject::from_element_iter(elements);
            let object = object.with_exact_meta(meta.build().unwrap());
            let (first, table) = palette(&object, true).unwrap();
            assert_eq!((first, table[200]), (-10, [200; 3]), "{bits} {factor}");
            assert_eq!(palette(&object, false).unwrap().0, 65_526);
        }
    }
}
