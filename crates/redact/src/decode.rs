//! First step in the worker: the object's bytes become a parsed object and a [`Film`]. What comes
//! next (`render`, `find`) never sees the file again. Attributes that contradict the data are errors.

mod layout;

mod native;

mod fragments;

mod compressed;

mod display;

use dicom_core::value::{PrimitiveValue, Value};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use dicom_encoding::transfer_syntax::{Codec, TransferSyntaxIndex};
use dicom_object::{DefaultDicomObject, OpenFileOptions};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use self::compressed::{Kind, compressed};
use self::layout::Layout;
use crate::error::{RedactError, Undecodable};
use crate::film::{Display, Family, Film, Photometric, Stored};
use crate::rle;

pub(crate) use self::fragments::{frames, joined};
pub(crate) use self::native::pack;

/// Decoded samples an object may have, in bytes: 15 films of 4096 × 4096 at 16 bits.
pub(crate) const MAX_SAMPLE_BYTES: usize = 512 << 20;
/// Pixels of one frame: no detector or person is larger.
pub(crate) const MAX_FRAME_PIXELS: usize = 64 << 20;

type Result<T> = std::result::Result<T, RedactError>;

const fn bad(why: Undecodable) -> RedactError {
    RedactError::Undecodable(why)
}

/// Parses an encoded DICOM file.
pub(crate) fn parse(bytes: &[u8]) -> Result<DefaultDicomObject> {
    OpenFileOptions::new()
        .from_reader(bytes)
        .map_err(|_| bad(Undecodable::Malformed))
}

fn number(object: &DefaultDicomObject, tag: Tag) -> Option<i64> {
    object.get(tag)?.to_int::<i64>().ok()
}

/// Decodes every frame of the object.
pub(crate) fn decode(object: &DefaultDicomObject) -> Result<Film> {
    let uid = object.meta().transfer_syntax().trim_end_matches('\0');
    let syntax = TransferSyntaxRegistry
        .get(uid)
        .ok_or(RedactError::UnknownTransferSyntax)?;
    let present: Vec<Tag> = [
        tags::PIXEL_DATA,
        tags::FLOAT_PIXEL_DATA,
        tags::DOUBLE_FLOAT_PIXEL_DATA,
    ]
    .into_iter()
    .filter(|tag| object.get(*tag).is_some())
    .collect();
    let tag = match present.as_slice() {
        [] => return Err(bad(Undecodable::NoPixels)),
        [one] => *one,
        _ => return Err(bad(Undecodable::BadAttributes)),
    };
    let element = object.get(tag).ok_or(bad(Undecodable::NoPixels))?;
    let layout = Layout::of(object, tag != tags::PIXEL_DATA)?;
    let mut film = match (element.value(), syntax.codec()) {
        (Value::Primitive(value), Codec::None | Codec::Dataset(_)) => {
            if value.calculate_byte_len() == 0 {
                return Err(bad(Undecodable::NoPixels));
            }
            let mut film = uncompressed(value, &layout)?;
            film.stored.words = element.vr() != VR::OB;
            film
        }
        (Value::PixelSequence(sequence), Codec::EncapsulatedPixelData(reader, _)) => {
            let frames = fragments::split(sequence, layout.frames)?;
            match Kind::of(uid) {
                Kind::Rle => run_lengths(&frames, &layout)?,
                kind => {
                    let reader = reader
                        .as_deref()
                        .ok_or(RedactError::UnknownTransferSyntax)?;
                    compressed(&frames, uid, kind, &layout, reader)?
                }
            }
        }
        _ => return Err(bad(Undecodable::Malformed)),
    };
    film.display = display::display(object, &film);
    Ok(film)
}

/// Takes uncompressed samples out of the object: the film has them, and `encode` writes them anew.
pub(crate) fn forget_samples(object: &mut DefaultDicomObject, film: &Film) {
    if film.stored.family == Family::Native {
        for tag in [
            tags::PIXEL_DATA,
            tags::FLOAT_PIXEL_DATA,
            tags::DOUBLE_FLOAT_PIXEL_DATA,
        ] {
            object.remove_element(tag);
        }
    }
}

/// A film without samples, as the header describes it.
fn empty(layout: &Layout, family: Family) -> Result<Film> {
    let photometric = match (layout.photometric.as_str(), layout.channels) {
        ("MONOCHROME1", 1) => Photometric::Monochrome1,
        ("MONOCHROME2", 1) => Photometric::Monochrome2,
        ("PALETTE COLOR", 1) => Photometric::Palette,
        ("RGB" | "YBR_RCT" | "YBR_ICT", 3) => Photometric::Rgb,
        ("YBR_FULL" | "YBR_FULL_422", 3) => Photometric::YbrFull,
        ("YBR_PARTIAL_420" | "YBR_PARTIAL_422", 3) if family != Family::Native => {
            Photometric::YbrFull
        }
        _ => return Err(bad(Undecodable::UnsupportedLayout)),
    };
    Ok(Film {
        width: layout.width,
        height: layout.height,
        frames: layout.frames,
        channels: layout.channels,
        bytes_per_sample: layout.bytes_per_sample(),
        bits_stored: layout.bits_stored,
        signed: layout.signed,
        float: layout.float,
        photometric,
        samples: Vec::new(),
        display: Display::default(),
        stored: Stored {
            family,
            bits_allocated: layout.bits_allocated,
            ..Stored::default()
        },
    })
}

fn uncompressed(value: &PrimitiveValue, layout: &Layout) -> Result<Film> {
    let mut film = empty(layout, Family::Native)?;
    let words = value.to_bytes();
    film.samples = match value {
        // Big endian words of a wider sample: the upper ones come first (PS3.5 annex D). The parser
        // has turned the bytes of each word only.
        PrimitiveValue::U16(_) if layout.big_endian && layout.bits_allocated == 32 => {
            let turned: Vec<u8> = words
                .as_chunks::<4>()
                .0
                .iter()
                .flat_map(|&[a, b, c, d]| [c, d, a, b])
                .collect();
            native::unpack(&turned, layout)?
        }
        _ => native::unpack(&words, layout)?,
    };
    film.stored.pairs = layout.pairs();
    if film.stored.pairs {
        film.stored.grid = (2, 1);
    } else if layout.channels > 1 && layout.planar {
        film.stored.planar = true;
        native::interleave(&mut film);
    }
    film.stored.shift = u32::from(layout.high_bit + 1 - layout.bits_stored);
    native::clear_unused_bits(&mut film, layout.high_bit);
    Ok(film)
}

fn run_lengths(frames: &[&[Vec<u8>]], layout: &Layout) -> Result<Film> {
    let mut film = empty(layout, Family::Rle)?;
    for fragments in frames {
        let frame = fragments::joined(fragments);
        let decoded = if layout.bits_allocated == 1 {
            let packed = rle::decode(&frame, layout.pixels().div_ceil(8), 1, 1);
            packed.map(|packed| native::bits(&packed, layout.pixels()))
        } else {
            let bytes = layout.bytes_per_sample();
            rle::decode(&frame, layout.pixels(), layout.channels, bytes)
        };
        film.samples.extend(decoded.ok_or(bad(Undecodable::Codec))?);
    }
    film.stored.shift = u32::from(layout.high_bit + 1 - layout.bits_stored);
    film.stored.unclean = native::clear_unused_bits(&mut film, layout.high_bit);
    Ok(film)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod tidied;

#[cfg(test)]
mod reference;

#[cfg(test)]
mod layouts;

#[cfg(test)]
mod kept;

#[cfg(test)]
mod lossless;

#[cfg(test)]
mod jpeg2000;

#[cfg(test)]
mod hidden;

#[cfg(test)]
mod colours;
