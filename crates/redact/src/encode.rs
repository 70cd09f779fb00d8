//! After `blank`: the samples go back into the object. An object without boxes keeps its pixels as
//! they came if its codestream is known to hold nothing but them. With boxes, uncompressed and
//! run-length frames are written in their own form, and of a DCT frame only the blocks under the boxes
//! change; every other frame keeps its bytes. What remains leaves without compression, and every
//! attribute that describes the samples is made to agree.
//! LossyImageCompression stays as it was: what was lost once stays lost.

use dicom_core::value::{PixelFragmentSequence, PrimitiveValue, Value};
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::DefaultDicomObject;
use dicom_transfer_syntax_registry::entries::EXPLICIT_VR_LITTLE_ENDIAN;

use crate::dct::Jpeg;
use crate::decode;
use crate::error::RedactError;
use crate::film::{Family, Film};
use crate::redacted::FoundBox;
use crate::rle;

type Result<T> = std::result::Result<T, RedactError>;

/// Syntaxes that stay although the samples are written anew: implicit and explicit little endian, and
/// deflated. Big endian is retired.
const STAYING: [&str; 3] = [
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
];

/// Encodes the object with these samples. The film then holds the samples as a decoder of the result
/// will see them.
pub(crate) fn encode(
    mut object: DefaultDicomObject,
    film: &mut Film,
    boxes: &[FoundBox],
) -> Result<Vec<u8>> {
    let untouched = boxes.is_empty() && !film.stored.unclean;
    let all = film.stored.unclean;
    match film.stored.family {
        Family::Native => put_native(&mut object, film),
        Family::Rle | Family::Dct | Family::Other if untouched => {}
        Family::Rle => {
            let bytes = film.bytes_per_sample;
            let changed = |frame: usize| -> Result<Option<Vec<u8>>> {
                if !all && !has_box(boxes, frame) {
                    return Ok(None);
                }
                let one = Film {
                    frames: 1,
                    samples: film.frame(frame).to_vec(),
                    ..film.clone_shape()
                };
                let samples = decode::pack(&one);
                let packed = if film.stored.bits_allocated == 1 {
                    rle::encode(&samples, samples.len(), 1, 1)
                } else {
                    rle::encode(&samples, film.width, film.channels, bytes)
                };
                packed.map(Some).ok_or(RedactError::EncodeFailed)
            };
            let frames = (0..film.frames).map(changed).collect::<Result<Vec<_>>>()?;
            put_frames(&mut object, frames)?;
        }
        Family::Dct => {
            let mut frames = Vec::with_capacity(film.frames);
            for frame in 0..film.frames {
                frames.push(if all || has_box(boxes, frame) {
                    Some(blanked(&object, film, frame, boxes)?)
                } else {
                    None
                });
            }
            put_frames(&mut object, frames)?;
        }
        Family::Other | Family::Opaque => put_uncompressed(&mut object, film),
    }
    object.put(DataElement::new(
        tags::BURNED_IN_ANNOTATION,
        VR::CS,
        PrimitiveValue::from("NO"),
    ));
    object.remove_element(tags::PIXEL_DATA_PROVIDER_URL);
    let mut out = Vec::with_capacity(film.samples.len() + (64 << 10));
    object
        .write_all(&mut out)
        .map_err(|_| RedactError::EncodeFailed)?;
    Ok(out)
}

fn has_box(boxes: &[FoundBox], frame: usize) -> bool {
    boxes.iter().any(|found| found.frame as usize == frame)
}

/// A DCT frame with flat blocks under its boxes. The film takes over what it decodes to.
fn blanked(
    object: &DefaultDicomObject,
    film: &mut Film,
    frame: usize,
    boxes: &[FoundBox],
) -> Result<Vec<u8>> {
    let failed = |_| RedactError::EncodeFailed;
    let frames = decode::frames(object, film.frames)?;
    let fragments = frames.get(frame).ok_or(RedactError::EncodeFailed)?;
    let bytes = decode::joined(fragments);
    let mut jpeg = Jpeg::read(&bytes, film.width, film.height).map_err(failed)?;
    for found in boxes.iter().filter(|found| found.frame as usize == frame) {
        let (x, y) = (found.x as usize, found.y as usize);
        let pixel = film.channels * film.bytes_per_sample;
        let at = (y * film.width + x) * pixel;
        let fill: Vec<u16> = film
            .frame(frame)
            .get(at..at + pixel)
            .unwrap_or_default()
            .chunks_exact(film.bytes_per_sample)
            .map(|sample| {
                let byte = |at: usize| sample.get(at).copied().unwrap_or(0);
                // Signed samples: the codestream holds their bits.
                u16::from_le_bytes([byte(0), byte(1)]) & (u16::MAX >> (16 - jpeg.precision))
            })
            .collect();
        let rectangle = (x, y, x + found.w as usize, y + found.h as usize);
        jpeg.blank(rectangle, &fill);
    }
    let written = jpeg.write().map_err(failed)?;
    let again = Jpeg::read(&written, film.width, film.height).map_err(failed)?;
    film.replace_frame(frame, &again.samples());
    Ok(written)
}

/// Puts changed frames among those that stay.
fn put_frames(object: &mut DefaultDicomObject, changed: Vec<Option<Vec<u8>>>) -> Result<()> {
    let kept = decode::frames(object, changed.len())?;
    let (mut table, mut fragments, mut at) = (Vec::new(), Vec::new(), 0_u64);
    let mut fits = true;
    for (frame, kept) in changed.into_iter().zip(kept) {
        let mut parts = frame.map_or_else(|| kept.to_vec(), |frame| vec![frame]);
        fits &= u32::try_from(at).is_ok();
        table.push(at as u32);
        for part in &mut parts {
            if part.len() % 2 == 1 {
                part.push(0);
            }
            at += part.len() as u64 + 8;
        }
        fragments.append(&mut parts);
    }
    if !fits {
        table.clear();
    }
    remove_tables(object);
    object.put(DataElement::new(
        tags::PIXEL_DATA,
        VR::OB,
        PixelFragmentSequence::new(table, fragments),
    ));
    Ok(())
}

fn remove_tables(object: &mut DefaultDicomObject) {
    for tag in [
        tags::EXTENDED_OFFSET_TABLE,
        tags::EXTENDED_OFFSET_TABLE_LENGTHS,
        tags::ENCAPSULATED_PIXEL_DATA_VALUE_TOTAL_LENGTH,
    ] {
        object.remove_element(tag);
    }
}

/// Samples in the form in which they came.
fn put_native(object: &mut DefaultDicomObject, film: &Film) {
    let uid = object.meta().transfer_syntax().trim_end_matches('\0');
    if !STAYING.contains(&uid) {
        object
            .meta_mut()
            .set_transfer_syntax(&EXPLICIT_VR_LITTLE_ENDIAN);
    }
    let samples = decode::pack(film);
    if film.float {
        let (tag, vr, value) = if film.bytes_per_sample == 4 {
            let values = samples.as_chunks::<4>().0.iter();
            let values = values.map(|bytes| f32::from_le_bytes(*bytes)).collect();
            (tags::FLOAT_PIXEL_DATA, VR::OF, PrimitiveValue::F32(values))
        } else {
            let values = samples.as_chunks::<8>().0.iter();
            let values = values.map(|bytes| f64::from_le_bytes(*bytes)).collect();
            (
                tags::DOUBLE_FLOAT_PIXEL_DATA,
                VR::OD,
                PrimitiveValue::F64(values),
            )
        };
        object.put(DataElement::new(tag, vr, value));
        return;
    }
    let vr = if film.bytes_per_sample == 1 && !film.stored.words {
        VR::OB
    } else {
        VR::OW
    };
    put_samples(object, vr, samples);
}

fn put_samples(object: &mut DefaultDicomObject, vr: VR, mut samples: Vec<u8>) {
    if samples.len() % 2 == 1 {
        samples.push(0);
    }
    object.put(DataElement::new(
        tags::PIXEL_DATA,
        vr,
        Value::Primitive(PrimitiveValue::U8(samples.into())),
    ));
}

/// Samples without compression (Explicit VR Little Endian), described anew.
fn put_uncompressed(object: &mut DefaultDicomObject, film: &Film) {
    let number = |tag: Tag, value: u16| DataElement::new(tag, VR::US, PrimitiveValue::from(value));
    let text =
        |tag: Tag, vr: VR, value: &str| DataElement::new(tag, vr, PrimitiveValue::from(value));
    object.put(number(tags::SAMPLES_PER_PIXEL, film.channels as u16));
    object.put(text(
        tags::PHOTOMETRIC_INTERPRETATION,
        VR::CS,
        film.photometric.name(),
    ));
    if film.channels > 1 {
        object.put(number(tags::PLANAR_CONFIGURATION, 0));
    } else {
        object.remove_element(tags::PLANAR_CONFIGURATION);
    }
    object.put(number(tags::BITS_ALLOCATED, film.stored.bits_allocated));
    object.put(number(tags::BITS_STORED, film.bits_stored));
    object.put(number(tags::HIGH_BIT, film.bits_stored - 1));
    object.put(number(tags::PIXEL_REPRESENTATION, film.signed.into()));
    if film.frames > 1 {
        object.put(text(
            tags::NUMBER_OF_FRAMES,
            VR::IS,
            &film.frames.to_string(),
        ));
    }
    remove_tables(object);
    let vr = if film.bytes_per_sample == 1 {
        VR::OB
    } else {
        VR::OW
    };
    object
        .meta_mut()
        .set_transfer_syntax(&EXPLICIT_VR_LITTLE_ENDIAN);
    put_samples(object, vr, decode::pack(film));
}
