//! First step in the worker: the object's bytes become a parsed object and a [`Film`]. What comes
//! next (`render`, `find`) never sees the file again. Attributes that contradict the data are errors.

mod layout;

mod native;

mod fragments;

mod display;

use std::borrow::Cow;

use dicom_core::value::{PrimitiveValue, Value};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use dicom_encoding::adapters::{PixelDataObject, PixelDataReader, RawPixelData};
use dicom_encoding::transfer_syntax::{Codec, TransferSyntaxIndex};
use dicom_object::{DefaultDicomObject, OpenFileOptions};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use self::layout::Layout;
use crate::codestream::{self, Facts};
use crate::dct::{Jpeg, JpegError};
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

fn compressed(
    frames: &[&[Vec<u8>]],
    uid: &str,
    kind: Kind,
    layout: &Layout,
    reader: &(dyn PixelDataReader + Send + Sync),
) -> Result<Film> {
    let family = match kind {
        Kind::Jpeg | Kind::JpegLs | Kind::Jpeg2000 => Family::Other,
        Kind::Rle | Kind::Opaque => Family::Opaque,
    };
    let mut film = empty(layout, family)?;
    let mut high_bit = layout.high_bit;
    let mut planar = false;
    let mut sequential = 0;
    let mut exact_depth = true;
    for fragments in frames {
        let frame = fragments::joined(fragments);
        let facts = facts_of(kind, &frame)?;
        if let Some(facts) = &facts {
            let same = facts.width == layout.width && facts.height == layout.height;
            if !same
                || facts.components != layout.channels
                || facts.precision > layout.bits_allocated
            {
                return Err(bad(Undecodable::SizeMismatch));
            }
            high_bit = layout.bits_stored - 1;
            planar = facts.planar;
        }
        let dct = match kind {
            Kind::Jpeg => match Jpeg::read(&frame, layout.width, layout.height) {
                Ok(jpeg) => Some(jpeg),
                Err(JpegError::NotSequential) => None,
                Err(JpegError::Damaged) => return Err(bad(Undecodable::Codec)),
            },
            _ => None,
        };
        let decoded = if let Some(jpeg) = &dct {
            sequential += 1;
            film.photometric = colours(jpeg, film.photometric);
            let (across, down) = film.stored.grid;
            let grid = jpeg.grid();
            film.stored.grid = (across.max(grid.0), down.max(grid.1));
            jpeg.samples()
        } else {
            by_registry(reader, uid, kind, layout, &frame)?
        };
        let decoded = widen(decoded, layout)?;
        let precision = facts.map_or(0, |facts| facts.precision);
        if precision > layout.bits_stored && !within_stored(&decoded, layout, precision) {
            // A DCT overshoots; all its bits are looked at. Elsewhere nobody can tell what it is.
            if dct.is_none() || layout.signed {
                return Err(bad(Undecodable::BadAttributes));
            }
            film.bits_stored = film.bits_stored.max(precision);
            exact_depth = false;
        }
        film.samples.extend_from_slice(&decoded);
    }
    if sequential == frames.len() {
        film.stored.family = Family::Dct;
    } else if sequential > 0 {
        return Err(bad(Undecodable::Codec));
    } else if kind == Kind::Jpeg {
        film.photometric = after_codec(&layout.photometric, film.photometric);
    }
    if planar {
        native::interleave(&mut film);
    }
    if exact_depth {
        native::clear_unused_bits(&mut film, high_bit);
    }
    Ok(film)
}

/// What three components are: what the frame says comes before what the header says.
fn colours(jpeg: &Jpeg<'_>, header: Photometric) -> Photometric {
    match (jpeg.channels(), jpeg.is_ybr()) {
        (3, Some(true)) => Photometric::YbrFull,
        (3, Some(false)) => Photometric::Rgb,
        _ => header,
    }
}

/// What the registry's JPEG decoder has already turned into RGB.
fn after_codec(photometric: &str, header: Photometric) -> Photometric {
    if photometric.starts_with("YBR_") {
        Photometric::Rgb
    } else {
        header
    }
}

fn by_registry(
    reader: &(dyn PixelDataReader + Send + Sync),
    uid: &str,
    kind: Kind,
    layout: &Layout,
    frame: &[u8],
) -> Result<Vec<u8>> {
    let decode = |bytes: &[u8]| {
        let one = OneFrame { uid, layout, bytes };
        let mut decoded = Vec::new();
        reader
            .decode_frame(&one, 0, &mut decoded)
            .map(|()| decoded)
            .map_err(|_| bad(Undecodable::Codec))
    };
    match (kind, decode(frame)) {
        // An old writer fills up to an even length before the end marker; CharLS wants nothing there.
        (Kind::JpegLs, Err(error)) => {
            let end = frame.trim_ascii_end().len();
            let end = frame
                .get(..end)
                .and_then(|f| f.iter().rposition(|byte| *byte == 0xD9));
            match end.and_then(|end| frame.get(..end + 1)) {
                Some([image @ .., 0, 0xFF, 0xD9]) => decode(&[image, &[0xFF, 0xD9]].concat()),
                _ => Err(error),
            }
        }
        (_, decoded) => decoded,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Jpeg,
    JpegLs,
    Jpeg2000,
    Rle,
    /// Codestreams that nothing here has looked into.
    Opaque,
}

impl Kind {
    fn of(uid: &str) -> Self {
        match uid.strip_prefix("1.2.840.10008.1.2.") {
            Some("4.50" | "4.51" | "4.57" | "4.70") => Self::Jpeg,
            Some("4.80" | "4.81") => Self::JpegLs,
            Some("4.90" | "4.91" | "4.92" | "4.93" | "4.201" | "4.202" | "4.203") => Self::Jpeg2000,
            Some("5") => Self::Rle,
            _ => Self::Opaque,
        }
    }
}

fn facts_of(kind: Kind, frame: &[u8]) -> Result<Option<Facts>> {
    let facts = match kind {
        Kind::Jpeg | Kind::JpegLs => codestream::jpeg(frame),
        Kind::Jpeg2000 => codestream::jpeg2000(frame),
        Kind::Rle | Kind::Opaque => return Ok(None),
    };
    facts.map(Some).ok_or(bad(Undecodable::Codec))
}

/// Codecs give one byte for shallow samples even where the header allocates two.
fn widen(decoded: Vec<u8>, layout: &Layout) -> Result<Vec<u8>> {
    let wanted = layout.frame_bytes();
    if decoded.len() == wanted {
        Ok(decoded)
    } else if decoded.len() * 2 == wanted && layout.bytes_per_sample() == 2 {
        Ok(decoded.into_iter().flat_map(|low| [low, 0]).collect())
    } else {
        Err(bad(Undecodable::SizeMismatch))
    }
}

/// Whether samples of a codestream that is deeper than the header says stay within the stored bits.
/// What stands above them is an overlay with text in it, or the header is wrong: nobody can tell.
fn within_stored(samples: &[u8], layout: &Layout, precision: u16) -> bool {
    let unused = 16 - u32::from(layout.bits_stored);
    let depth = u16::MAX >> (16 - u32::from(precision.clamp(1, 16)));
    let fits = |value: u16| {
        let raised = value << unused;
        let extended = (raised.cast_signed() >> unused).cast_unsigned();
        value == raised >> unused
            || layout.signed && (value == extended || value == extended & depth)
    };
    if layout.bytes_per_sample() == 1 {
        samples.iter().all(|sample| {
            let sample = if layout.signed {
                i16::from(sample.cast_signed()).cast_unsigned()
            } else {
                u16::from(*sample)
            };
            fits(sample) || fits(sample & 0xFF)
        })
    } else if layout.bytes_per_sample() > 2 {
        false
    } else {
        let pairs = samples.as_chunks::<2>().0;
        pairs.iter().all(|pair| fits(u16::from_le_bytes(*pair)))
    }
}

/// One compressed frame, given to a codec as if it were the whole object: no codec then has to find
/// frames among fragments, or trusts a frame count.
struct OneFrame<'a> {
    uid: &'a str,
    layout: &'a Layout,
    bytes: &'a [u8],
}

impl PixelDataObject for OneFrame<'_> {
    fn transfer_syntax_uid(&self) -> &str {
        self.uid
    }
    fn rows(&self) -> Option<u16> {
        u16::try_from(self.layout.height).ok()
    }
    fn cols(&self) -> Option<u16> {
        u16::try_from(self.layout.width).ok()
    }
    fn samples_per_pixel(&self) -> Option<u16> {
        u16::try_from(self.layout.channels).ok()
    }
    fn bits_allocated(&self) -> Option<u16> {
        // A codec gives one-bit pixels a byte each.
        Some(self.layout.bits_allocated.max(8))
    }
    fn bits_stored(&self) -> Option<u16> {
        Some(self.layout.bits_stored)
    }
    fn photometric_interpretation(&self) -> Option<&str> {
        Some(&self.layout.photometric)
    }
    fn number_of_frames(&self) -> Option<u32> {
        Some(1)
    }
    fn number_of_fragments(&self) -> Option<u32> {
        Some(1)
    }
    fn fragment(&self, fragment: usize) -> Option<Cow<'_, [u8]>> {
        (fragment == 0).then_some(Cow::Borrowed(self.bytes))
    }
    fn offset_table(&self) -> Option<Cow<'_, [u32]>> {
        Some(Cow::Borrowed(&[0]))
    }
    fn raw_pixel_data(&self) -> Option<RawPixelData> {
        Some(RawPixelData {
            fragments: vec![self.bytes.to_vec()].into(),
            offset_table: vec![0].into(),
        })
    }
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
