//! Leaves of the pixel data what an image needs: no unused bits, no bytes after the last frame, no
//! metadata inside compressed frames, no offset tables but true ones. Comes after the attributes
//! are cleaned; pictures of text are redaction's part.

use std::borrow::Cow;

use dicom_core::{
    DataElement, PrimitiveValue, Tag, VR,
    value::{PixelFragmentSequence, Value},
};
use dicom_dictionary_std::tags;
use dicom_object::{InMemDicomObject, mem::InMemElement};

use crate::codestream::{self, Unfollowed};

/// How frames are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Jpeg,
    Jpeg2000,
    /// With segments of part 2.
    Jpeg2000Extended,
    JpegXl,
    Native,
    /// Encapsulated Uncompressed (PS3.5 section A.4.11).
    Raw,
    Rle,
}

impl Family {
    /// `None` for what cannot be looked through: video, and image frames deflated one by one.
    fn of(syntax: &str) -> Option<Self> {
        let tail = syntax.trim_end_matches(['\0', ' ']);
        Some(match tail.strip_prefix("1.2.840.10008.1.2")? {
            "" | ".1" | ".1.99" | ".2" => Self::Native,
            ".1.98" => Self::Raw,
            ".4.50" | ".4.51" | ".4.57" | ".4.70" | ".4.80" | ".4.81" => Self::Jpeg,
            ".4.90" | ".4.91" | ".4.201" | ".4.202" | ".4.203" => Self::Jpeg2000,
            ".4.92" | ".4.93" => Self::Jpeg2000Extended,
            ".4.110" | ".4.111" | ".4.112" => Self::JpegXl,
            ".5" => Self::Rle,
            _ => return None,
        })
    }
}

/// What the attributes say about the pixels (PS3.3 section C.7.6.3).
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Rows × Columns.
    pixels: usize,
    frames: usize,
    samples: usize,
    allocated: usize,
    /// Bits of a sample that mean something.
    mask: u64,
    /// Signed, and the lowest bits: the sign fills the rest.
    sign: Option<u32>,
    /// Bytes of a frame that is not compressed.
    frame_bytes: usize,
}

impl Shape {
    fn of(object: &InMemDicomObject) -> Option<Self> {
        let number = |tag: Tag| object.get(tag).and_then(|e| e.to_int::<u32>().ok());
        let rows = usize::try_from(number(tags::ROWS)?).ok()?;
        let columns = usize::try_from(number(tags::COLUMNS)?).ok()?;
        let samples = usize::try_from(number(tags::SAMPLES_PER_PIXEL).unwrap_or(1)).ok()?;
        let frames = usize::try_from(number(tags::NUMBER_OF_FRAMES).unwrap_or(1).max(1)).ok()?;
        let allocated = number(tags::BITS_ALLOCATED)?;
        let stored = number(tags::BITS_STORED).unwrap_or(allocated);
        let high = number(tags::HIGH_BIT).unwrap_or_else(|| stored.saturating_sub(1));
        let lowest = high.checked_add(1)?.checked_sub(stored)?;
        let fits = matches!(allocated, 1 | 8 | 16 | 32 | 64) && stored > 0 && high < allocated;
        if !fits || !(1..=4).contains(&samples) {
            return None;
        }
        let mask = (u64::MAX >> (64 - stored)) << lowest;
        let signed = number(tags::PIXEL_REPRESENTATION) == Some(1);
        let photometric = object
            .get(tags::PHOTOMETRIC_INTERPRETATION)
            .and_then(|element| element.to_str().ok())
            .unwrap_or_default();
        let pixels = rows.checked_mul(columns)?;
        let values = match photometric.trim_matches(['\0', ' ']) {
            // Two pixels share their colour (C.7.6.3.1.2).
            "YBR_FULL_422" | "YBR_PARTIAL_422" => pixels.checked_mul(2)?,
            "YBR_PARTIAL_420" => pixels.checked_add(pixels / 2)?,
            _ => pixels.checked_mul(samples)?,
        };
        let bits = values.checked_mul(usize::try_from(allocated).ok()?)?;
        Some(Self {
            pixels,
            frames,
            samples,
            allocated: usize::try_from(allocated).ok()?,
            mask,
            sign: (signed && lowest == 0 && stored < allocated).then_some(stored),
            frame_bytes: bits.div_ceil(8),
        })
    }

    /// Bytes of all frames. One-bit pixels run on from frame to frame.
    fn bytes(self) -> Option<usize> {
        if self.allocated == 1 {
            let bits = self
                .pixels
                .checked_mul(self.samples)?
                .checked_mul(self.frames)?;
            return Some(bits.div_ceil(8));
        }
        self.frame_bytes.checked_mul(self.frames)
    }

    /// A sample without what stands in its unused bits.
    fn sample(self, value: u64) -> u64 {
        match self.sign {
            Some(stored) => {
                let shift = 64 - stored;
                #[expect(clippy::cast_possible_wrap, reason = "the sign is what is shifted in")]
                let signed = ((value << shift) as i64) >> shift;
                signed as u64
            }
            None => value & self.mask,
        }
    }

    fn all_used(self) -> bool {
        self.mask.count_ones() as usize >= self.allocated
    }
}

/// Tidies the pixel data at the top level of an object that is otherwise clean.
///
/// # Errors
/// [`Unfollowed`] for pixels that cannot be looked through; the object must not leave.
pub(crate) fn tidy(object: &mut InMemDicomObject, syntax: &str) -> Result<(), Unfollowed> {
    let offsets = object.take(tags::EXTENDED_OFFSET_TABLE).is_some()
        | object.take(tags::EXTENDED_OFFSET_TABLE_LENGTHS).is_some();
    let total = object
        .take(tags::ENCAPSULATED_PIXEL_DATA_VALUE_TOTAL_LENGTH)
        .is_some();
    for tag in [tags::FLOAT_PIXEL_DATA, tags::DOUBLE_FLOAT_PIXEL_DATA] {
        if let Some(element) = object.take(tag) {
            let shape = Shape::of(object).ok_or(Unfollowed)?;
            object.put(cut_float(element, shape)?);
        }
    }
    let Some(element) = object.take(tags::PIXEL_DATA) else {
        return Ok(());
    };
    let family = Family::of(syntax).ok_or(Unfollowed)?;
    let shape = Shape::of(object).ok_or(Unfollowed)?;
    // A number that is none counts as one frame here, and says so from now on.
    if let Some(frames) = object.get(tags::NUMBER_OF_FRAMES)
        && frames.to_int::<u32>().is_err()
    {
        let frames = shape.frames.to_string();
        object.put(DataElement::new(
            tags::NUMBER_OF_FRAMES,
            VR::IS,
            frames.as_str(),
        ));
    }
    let vr = element.vr();
    match element.into_value() {
        Value::Primitive(mut value) if family == Family::Native => {
            cut_native(&mut value, shape)?;
            object.put(DataElement::new(tags::PIXEL_DATA, vr, value));
        }
        Value::PixelSequence(sequence) if family != Family::Native => {
            let had_table = !sequence.offset_table().is_empty();
            let starts = sequence.offset_table().to_vec();
            let fragments = sequence.into_fragments().into_vec();
            let frames = frames(&starts, fragments, family, shape)?;
            put_frames(object, frames, had_table, offsets, total);
        }
        _ => return Err(Unfollowed),
    }
    Ok(())
}

/// Samples in floating point, without what comes after the last.
fn cut_float(element: InMemElement, shape: Shape) -> Result<InMemElement, Unfollowed> {
    let (tag, vr) = (element.header().tag, element.vr());
    let values = shape
        .pixels
        .checked_mul(shape.samples)
        .and_then(|values| values.checked_mul(shape.frames))
        .ok_or(Unfollowed)?;
    let Value::Primitive(mut value) = element.into_value() else {
        return Err(Unfollowed);
    };
    match &mut value {
        PrimitiveValue::F32(all) => all.truncate(values),
        PrimitiveValue::F64(all) => all.truncate(values),
        PrimitiveValue::Empty => {}
        _ => return Err(Unfollowed),
    }
    Ok(DataElement::new(tag, vr, value))
}

fn cut_native(value: &mut PrimitiveValue, shape: Shape) -> Result<(), Unfollowed> {
    let bytes = shape.bytes().ok_or(Unfollowed)?;
    match value {
        PrimitiveValue::U8(all) => {
            all.truncate(bytes);
            clear_bytes(all, shape);
        }
        PrimitiveValue::U16(all) => {
            all.truncate(bytes.div_ceil(2));
            if bytes % 2 == 1
                && all.len() * 2 > bytes
                && let Some(last) = all.last_mut()
            {
                *last &= 0xFF;
            }
            match shape.allocated {
                _ if shape.all_used() => {}
                16 => all
                    .iter_mut()
                    .for_each(|word| *word = shape.sample(u64::from(*word)) as u16),
                8 => all.iter_mut().for_each(|word| {
                    let [low, high] = word.to_le_bytes();
                    let clear = |byte: u8| shape.sample(u64::from(byte)) as u8;
                    *word = u16::from_le_bytes([clear(low), clear(high)]);
                }),
                // Words of a wider sample; big endian turns them around.
                _ => return Err(Unfollowed),
            }
        }
        PrimitiveValue::Empty => {}
        _ => return Err(Unfollowed),
    }
    Ok(())
}

/// Clears unused bits in little endian bytes.
fn clear_bytes(bytes: &mut [u8], shape: Shape) {
    if shape.all_used() || shape.allocated == 1 {
        return;
    }
    let width = shape.allocated / 8;
    for sample in bytes.chunks_mut(width) {
        let mut wide = [0_u8; 8];
        for (to, from) in wide.iter_mut().zip(sample.iter()) {
            *to = *from;
        }
        let clear = shape.sample(u64::from_le_bytes(wide)).to_le_bytes();
        for (to, from) in sample.iter_mut().zip(clear) {
            *to = from;
        }
    }
}

/// Fragments grouped by frame, looked through. A frame that had nothing to lose keeps its
/// fragments; another becomes one fragment.
fn frames(
    starts: &[u32],
    fragments: Vec<Vec<u8>>,
    family: Family,
    shape: Shape,
) -> Result<Vec<Vec<Vec<u8>>>, Unfollowed> {
    let mut groups: Vec<Vec<Vec<u8>>> = Vec::new();
    if fragments.len() == shape.frames {
        groups.extend(fragments.into_iter().map(|fragment| vec![fragment]));
    } else if shape.frames == 1 {
        groups.push(fragments);
    } else {
        // Only a true offset table says which fragments make a frame.
        let mut offset = 0_usize;
        let mut next = starts.iter().copied().peekable();
        for fragment in fragments {
            if next.peek().is_some_and(|start| *start as usize == offset) {
                next.next();
                groups.push(Vec::new());
            }
            offset += fragment.len() + fragment.len() % 2 + 8;
            groups.last_mut().ok_or(Unfollowed)?.push(fragment);
        }
        if next.next().is_some() || groups.len() != shape.frames {
            return Err(Unfollowed);
        }
    }
    groups
        .into_iter()
        .map(|fragments| frame(fragments, family, shape))
        .collect()
}

fn frame(
    mut fragments: Vec<Vec<u8>>,
    family: Family,
    shape: Shape,
) -> Result<Vec<Vec<u8>>, Unfollowed> {
    let joined = match fragments.as_slice() {
        [one] => Cow::Borrowed(one.as_slice()),
        several => Cow::Owned(several.concat()),
    };
    let mut stripped = match family {
        Family::Jpeg => codestream::jpeg(&joined)?,
        Family::Jpeg2000 => codestream::jpeg2000(&joined, false)?,
        Family::Jpeg2000Extended => codestream::jpeg2000(&joined, true)?,
        Family::JpegXl => codestream::jpeg_xl(&joined)?,
        Family::Rle => {
            // Bits are packed eight to a byte (PS3.5 section G.2).
            let planes = shape.samples * shape.allocated.div_ceil(8);
            let plane = if shape.allocated == 1 {
                shape.pixels.div_ceil(8)
            } else {
                shape.pixels
            };
            if joined.first().map(|count| usize::from(*count)) != Some(planes) {
                return Err(Unfollowed);
            }
            codestream::rle(&joined, plane)?
        }
        Family::Raw => {
            let mut bytes = joined.to_vec();
            bytes.truncate(shape.frame_bytes);
            clear_bytes(&mut bytes, shape);
            bytes
        }
        Family::Native => return Err(Unfollowed),
    };
    let same = *stripped == *joined
        || joined.len() == stripped.len() + 1
            && joined.last() == Some(&0)
            && joined.starts_with(&stripped);
    if !same {
        if stripped.len() % 2 == 1 {
            stripped.push(0);
        }
        return Ok(vec![stripped]);
    }
    for fragment in &mut fragments {
        if fragment.len() % 2 == 1 {
            fragment.push(0);
        }
    }
    Ok(fragments)
}

fn put_frames(
    object: &mut InMemDicomObject,
    frames: Vec<Vec<Vec<u8>>>,
    basic: bool,
    extended: bool,
    total: bool,
) {
    let mut starts = Vec::with_capacity(frames.len());
    let mut lengths = Vec::with_capacity(frames.len());
    let mut at = 0_u64;
    for frame in &frames {
        starts.push(at);
        lengths.push(frame.iter().map(|fragment| fragment.len() as u64).sum());
        at += frame.iter().map(|f| f.len() as u64 + 8).sum::<u64>();
    }
    let single = frames.iter().all(|frame| frame.len() == 1);
    let short: Option<Vec<u32>> = starts.iter().map(|at| u32::try_from(*at).ok()).collect();
    // One table or the other (PS3.5 section A.4); the extended one needs one fragment a frame.
    let table = short.filter(|_| basic && !extended).unwrap_or_default();
    if total {
        let value = PrimitiveValue::from(lengths.iter().sum::<u64>());
        object.put(DataElement::new(
            tags::ENCAPSULATED_PIXEL_DATA_VALUE_TOTAL_LENGTH,
            VR::UV,
            value,
        ));
    }
    if extended && single {
        let value = |numbers: Vec<u64>| PrimitiveValue::U64(numbers.into());
        object.put(DataElement::new(
            tags::EXTENDED_OFFSET_TABLE,
            VR::OV,
            value(starts),
        ));
        object.put(DataElement::new(
            tags::EXTENDED_OFFSET_TABLE_LENGTHS,
            VR::OV,
            value(lengths),
        ));
    }
    let fragments: Vec<Vec<u8>> = frames.into_iter().flatten().collect();
    object.put(DataElement::new(
        tags::PIXEL_DATA,
        VR::OB,
        PixelFragmentSequence::new(table, fragments),
    ));
}
