//! First step in the worker: the object's bytes become a parsed object and a [`Film`]. What comes
//! next (`render`, `find`) never sees the file again. Attributes that contradict the data are errors.

use std::borrow::Cow;

use dicom_core::Tag;
use dicom_core::header::HasLength;
use dicom_core::value::Value;
use dicom_dictionary_std::tags;
use dicom_encoding::adapters::{PixelDataObject, RawPixelData};
use dicom_encoding::transfer_syntax::{Codec, TransferSyntaxIndex};
use dicom_object::{DefaultDicomObject, OpenFileOptions};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use crate::codestream::{self, Facts};
use crate::error::{RedactError, Undecodable};
use crate::film::{Display, Film, Photometric};

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

/// Image attributes as the header gives them.
struct Layout {
    width: usize,
    height: usize,
    frames: usize,
    channels: usize,
    bits_allocated: u16,
    bits_stored: u16,
    high_bit: u16,
    signed: bool,
    planar: bool,
    photometric: String,
}

fn number(object: &DefaultDicomObject, tag: Tag) -> Option<i64> {
    object.get(tag)?.to_int::<i64>().ok()
}

fn float(object: &DefaultDicomObject, tag: Tag) -> Option<f64> {
    let value = object.get(tag)?.to_multi_float64().ok()?.first().copied()?;
    value.is_finite().then_some(value)
}

impl Layout {
    fn of(object: &DefaultDicomObject) -> Result<Self> {
        let attributes = || bad(Undecodable::BadAttributes);
        let small = |tag| {
            number(object, tag)
                .and_then(|v| u16::try_from(v).ok())
                .ok_or_else(attributes)
        };
        let bits_allocated = small(tags::BITS_ALLOCATED)?;
        let bits_stored = small(tags::BITS_STORED)?;
        let high_bit = small(tags::HIGH_BIT).unwrap_or(bits_stored.saturating_sub(1));
        let frames = match object.get(tags::NUMBER_OF_FRAMES) {
            None => 1,
            Some(element) if element.is_empty() => 1,
            Some(_) => number(object, tags::NUMBER_OF_FRAMES)
                .and_then(|v| usize::try_from(v).ok())
                .filter(|&v| v > 0)
                .ok_or_else(attributes)?,
        };
        let photometric = object
            .get(tags::PHOTOMETRIC_INTERPRETATION)
            .and_then(|e| e.to_str().ok())
            .ok_or_else(attributes)?;
        let layout = Self {
            width: small(tags::COLUMNS)?.into(),
            height: small(tags::ROWS)?.into(),
            frames,
            channels: small(tags::SAMPLES_PER_PIXEL).unwrap_or(1).into(),
            bits_allocated,
            bits_stored,
            high_bit,
            signed: number(object, tags::PIXEL_REPRESENTATION) == Some(1),
            planar: number(object, tags::PLANAR_CONFIGURATION) == Some(1),
            photometric: photometric.trim_matches([' ', '\0']).to_owned(),
        };
        if !matches!(bits_allocated, 8 | 16) || !matches!(layout.channels, 1 | 3) {
            return Err(bad(Undecodable::UnsupportedLayout));
        }
        let fits = bits_stored >= 1 && bits_stored <= bits_allocated;
        if !fits || high_bit + 1 < bits_stored || high_bit >= bits_allocated || layout.pixels() == 0
        {
            return Err(attributes());
        }
        let total = layout
            .frame_bytes()
            .checked_mul(frames)
            .ok_or(RedactError::TooLarge)?;
        if total > MAX_SAMPLE_BYTES || layout.pixels() > MAX_FRAME_PIXELS {
            return Err(RedactError::TooLarge);
        }
        Ok(layout)
    }

    const fn pixels(&self) -> usize {
        self.width * self.height
    }

    const fn bytes_per_sample(&self) -> usize {
        if self.bits_allocated == 8 { 1 } else { 2 }
    }

    const fn frame_bytes(&self) -> usize {
        self.pixels() * self.channels * self.bytes_per_sample()
    }
}

/// Decodes every frame of the object.
pub(crate) fn decode(object: &DefaultDicomObject) -> Result<Film> {
    let uid = object.meta().transfer_syntax().to_owned();
    let syntax = TransferSyntaxRegistry
        .get(&uid)
        .ok_or(RedactError::UnknownTransferSyntax)?;
    if object.get(tags::FLOAT_PIXEL_DATA).is_some()
        || object.get(tags::DOUBLE_FLOAT_PIXEL_DATA).is_some()
    {
        return Err(bad(Undecodable::UnsupportedLayout));
    }
    let element = object
        .get(tags::PIXEL_DATA)
        .ok_or(bad(Undecodable::NoPixels))?;
    let layout = Layout::of(object)?;
    let mut high_bit = layout.high_bit;
    let mut planar = layout.channels > 1 && layout.planar;
    let mut photometric = layout.photometric.as_str();
    let samples = match (element.value(), syntax.codec()) {
        (Value::Primitive(value), Codec::None | Codec::Dataset(_)) => {
            if value.calculate_byte_len() == 0 {
                return Err(bad(Undecodable::NoPixels));
            }
            // PS3.5 annex D: words are read in their byte order, so 8-bit samples in them are too.
            native(&value.to_bytes(), &layout)?
        }
        (Value::PixelSequence(sequence), Codec::EncapsulatedPixelData(Some(reader), _)) => {
            let frames = split(sequence.fragments(), sequence.offset_table(), layout.frames)?;
            let mut samples = Vec::with_capacity(layout.frame_bytes() * layout.frames);
            planar = false;
            for frame in frames {
                let facts = facts_of(&uid, &frame)?;
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
                let one = OneFrame {
                    uid: &uid,
                    layout: &layout,
                    bytes: &frame,
                };
                let mut decoded = Vec::new();
                reader
                    .decode_frame(&one, 0, &mut decoded)
                    .map_err(|_| bad(Undecodable::Codec))?;
                let decoded = widen(decoded, &layout)?;
                let precision = facts.map_or(0, |facts| facts.precision);
                if precision > layout.bits_stored && !within_stored(&decoded, &layout, precision) {
                    return Err(bad(Undecodable::BadAttributes));
                }
                samples.extend_from_slice(&decoded);
            }
            photometric = after_codec(&uid, photometric);
            samples
        }
        (_, Codec::EncapsulatedPixelData(None, _)) => {
            return Err(RedactError::UnknownTransferSyntax);
        }
        _ => return Err(bad(Undecodable::Malformed)),
    };
    let photometric = match (photometric, layout.channels) {
        ("MONOCHROME1", 1) => Photometric::Monochrome1,
        ("MONOCHROME2", 1) => Photometric::Monochrome2,
        ("PALETTE COLOR", 1) => Photometric::Palette,
        ("RGB", 3) => Photometric::Rgb,
        ("YBR_FULL", 3) => Photometric::YbrFull,
        _ => return Err(bad(Undecodable::UnsupportedLayout)),
    };
    let mut film = Film {
        width: layout.width,
        height: layout.height,
        frames: layout.frames,
        channels: layout.channels,
        bytes_per_sample: layout.bytes_per_sample(),
        bits_stored: layout.bits_stored,
        signed: layout.signed,
        photometric,
        samples,
        display: display(object, photometric),
    };
    if planar {
        interleave(&mut film);
    }
    clear_unused_bits(&mut film, high_bit);
    Ok(film)
}

/// What the codec has already turned into RGB.
fn after_codec<'p>(uid: &str, photometric: &'p str) -> &'p str {
    let jpeg = codestream_kind(uid) == Kind::Jpeg;
    match photometric {
        "YBR_RCT" | "YBR_ICT" => "RGB",
        "YBR_FULL" | "YBR_FULL_422" | "YBR_PARTIAL_420" | "YBR_PARTIAL_422" if jpeg => "RGB",
        "YBR_FULL_422" => "YBR_FULL",
        other => other,
    }
}

#[derive(PartialEq, Eq)]
enum Kind {
    Jpeg,
    JpegLs,
    Jpeg2000,
    Other,
}

fn codestream_kind(uid: &str) -> Kind {
    match uid.strip_prefix("1.2.840.10008.1.2.4.") {
        Some("50" | "51" | "57" | "70") => Kind::Jpeg,
        Some("80" | "81") => Kind::JpegLs,
        Some("90" | "91" | "92" | "93" | "201" | "202" | "203") => Kind::Jpeg2000,
        _ => Kind::Other,
    }
}

fn facts_of(uid: &str, frame: &[u8]) -> Result<Option<Facts>> {
    let facts = match codestream_kind(uid) {
        Kind::Jpeg | Kind::JpegLs => codestream::jpeg(frame),
        Kind::Jpeg2000 => codestream::jpeg2000(frame),
        Kind::Other => return Ok(None),
    };
    facts.map(Some).ok_or(bad(Undecodable::Codec))
}

fn native(bytes: &[u8], layout: &Layout) -> Result<Vec<u8>> {
    let wanted = layout.frame_bytes() * layout.frames;
    if layout.photometric == "YBR_FULL_422" {
        return Err(bad(Undecodable::UnsupportedLayout));
    }
    bytes
        .get(..wanted)
        .map(<[u8]>::to_vec)
        .ok_or(bad(Undecodable::SizeMismatch))
}

/// Puts fragments together to frames: one frame, one fragment each, or by the offset table.
fn split<'f>(
    fragments: &'f [Vec<u8>],
    offsets: &[u32],
    frames: usize,
) -> Result<Vec<Cow<'f, [u8]>>> {
    if frames == 1 && !fragments.is_empty() {
        return Ok(vec![match fragments {
            [one] => Cow::Borrowed(one.as_slice()),
            more => Cow::Owned(more.concat()),
        }]);
    }
    if fragments.len() == frames {
        return Ok(fragments
            .iter()
            .map(|fragment| Cow::Borrowed(fragment.as_slice()))
            .collect());
    }
    if offsets.len() != frames {
        return Err(bad(Undecodable::SizeMismatch));
    }
    let mut out: Vec<Cow<'f, [u8]>> = Vec::with_capacity(frames);
    let mut position = 0_usize;
    for fragment in fragments {
        let starts = offsets
            .get(out.len())
            .is_some_and(|&offset| offset as usize == position);
        if starts {
            out.push(Cow::Borrowed(fragment.as_slice()));
        } else {
            out.last_mut()
                .ok_or(bad(Undecodable::SizeMismatch))?
                .to_mut()
                .extend_from_slice(fragment);
        }
        // PS3.5 A.4: offsets count the item tag and its length, 8 bytes.
        position = position.saturating_add(fragment.len() + 8);
    }
    if out.len() == frames {
        Ok(out)
    } else {
        Err(bad(Undecodable::SizeMismatch))
    }
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
    } else {
        let pairs = samples.as_chunks::<2>().0;
        pairs.iter().all(|pair| fits(u16::from_le_bytes(*pair)))
    }
}

fn interleave(film: &mut Film) {
    let (bytes, channels) = (film.bytes_per_sample, film.channels);
    let plane = film.width * film.height * bytes;
    let mut out = Vec::with_capacity(film.samples.len());
    for frame in film.samples.chunks_exact(plane * channels) {
        for at in (0..plane).step_by(bytes) {
            for channel in 0..channels {
                out.extend_from_slice(
                    frame
                        .get(channel * plane + at..channel * plane + at + bytes)
                        .unwrap_or_default(),
                );
            }
        }
    }
    film.samples = out;
}

/// Bits outside the stored ones can hold an old-style overlay with a name in it: they are cleared,
/// and the sample moves down to bit 0.
fn clear_unused_bits(film: &mut Film, high_bit: u16) {
    let stored = u32::from(film.bits_stored);
    let shift = u32::from(high_bit + 1) - stored;
    let unused = if film.bytes_per_sample == 1 { 8 } else { 16 } - stored;
    if unused == 0 {
        return;
    }
    let signed = film.signed;
    if film.bytes_per_sample == 1 {
        for sample in &mut film.samples {
            let raised = (*sample >> shift) << unused;
            *sample = if signed {
                (raised.cast_signed() >> unused).cast_unsigned()
            } else {
                raised >> unused
            };
        }
    } else {
        for pair in film.samples.as_chunks_mut::<2>().0 {
            let raised = (u16::from_le_bytes(*pair) >> shift) << unused;
            let value = if signed {
                (raised.cast_signed() >> unused).cast_unsigned()
            } else {
                raised >> unused
            };
            *pair = value.to_le_bytes();
        }
    }
}

fn display(object: &DefaultDicomObject, photometric: Photometric) -> Display {
    let slope = float(object, tags::RESCALE_SLOPE).filter(|&slope| slope != 0.0);
    let window = float(object, tags::WINDOW_CENTER).zip(float(object, tags::WINDOW_WIDTH));
    Display {
        rescale: slope.map(|slope| (slope, float(object, tags::RESCALE_INTERCEPT).unwrap_or(0.0))),
        window: window.filter(|&(_, width)| width >= 1.0),
        palette: (photometric == Photometric::Palette)
            .then(|| palette(object))
            .flatten(),
    }
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
        Some(self.layout.bits_allocated)
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
