//! How the header wants the samples shown: modality and VOI transformations (PS3.3 C.11.1, C.11.2),
//! padding (C.7.5.1.1.2) and the palette (C.7.6.3.1.5). What is damaged is left out: `render` then
//! finds a range of its own.

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::{DefaultDicomObject, InMemDicomObject};

use super::number;
use crate::film::{Display, Film, Function, Modality, Photometric, Table, Voi};

fn float(object: &DefaultDicomObject, tag: Tag) -> Option<f64> {
    let value = object.get(tag)?.to_multi_float64().ok()?.first().copied()?;
    value.is_finite().then_some(value)
}

pub(super) fn display(object: &DefaultDicomObject, film: &Film) -> Display {
    Display {
        modality: modality(object, film.signed),
        voi: voi(object),
        padding: padding(object, film),
        palette: (film.photometric == Photometric::Palette)
            .then(|| palette(object))
            .flatten(),
    }
}

fn first_item(object: &DefaultDicomObject, tag: Tag) -> Option<&InMemDicomObject> {
    object.get(tag)?.items()?.first()
}

fn modality(object: &DefaultDicomObject, signed: bool) -> Modality {
    let table = first_item(object, tags::MODALITY_LUT_SEQUENCE);
    if let Some(table) = table.and_then(|item| table_of(item, signed)) {
        return Modality::Table(table);
    }
    match float(object, tags::RESCALE_SLOPE).filter(|&slope| slope != 0.0) {
        Some(slope) => {
            Modality::Linear(slope, float(object, tags::RESCALE_INTERCEPT).unwrap_or(0.0))
        }
        None => Modality::Identity,
    }
}

fn voi(object: &DefaultDicomObject) -> Option<Voi> {
    // C.11.2: one of both is applied; the table says more.
    let table = first_item(object, tags::VOILUT_SEQUENCE).and_then(|item| table_of(item, true));
    if let Some(table) = table {
        return Some(Voi::Table(table));
    }
    let function = object
        .get(tags::VOILUT_FUNCTION)
        .and_then(|element| element.to_str().ok());
    let function = match function.as_deref().map(str::trim) {
        Some("SIGMOID") => Function::Sigmoid,
        Some("LINEAR_EXACT") => Function::LinearExact,
        _ => Function::Linear,
    };
    let centre = float(object, tags::WINDOW_CENTER)?;
    let width = float(object, tags::WINDOW_WIDTH)?;
    let fits = if function == Function::Linear {
        width >= 1.0
    } else {
        width > 0.0
    };
    fits.then_some(Voi::Window(centre, width, function))
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

fn palette(object: &DefaultDicomObject) -> Option<(i32, Vec<u8>)> {
    let descriptor = object
        .get(tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR)?
        .to_multi_int::<i32>()
        .ok()?;
    let (&entries, &first, &bits) = (descriptor.first()?, descriptor.get(1)?, descriptor.get(2)?);
    let entries = if entries == 0 {
        1 << 16
    } else {
        usize::try_from(entries).ok()?.min(1 << 16)
    };
    let table = |tag| -> Option<Vec<u8>> {
        let bytes = object.get(tag)?.to_bytes().ok()?;
        let wide = bits > 8 || bytes.len() >= entries * 2;
        Some(if wide {
            bytes.iter().skip(1).step_by(2).copied().collect()
        } else {
            bytes.to_vec()
        })
    };
    let red = table(tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA)?;
    let green = table(tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA)?;
    let blue = table(tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA)?;
    let grey = red
        .iter()
        .zip(&green)
        .zip(&blue)
        .map(|((&r, &g), &b)| crate::render::luminance(r, g, b))
        .collect();
    Some((first, grey))
}
