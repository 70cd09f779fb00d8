//! Compressed frames, one by one: what the codestream says of itself is compared with the header before
//! a codec sees it, and what the codec gives is compared with both.

use std::borrow::Cow;

use dicom_encoding::adapters::{PixelDataObject, PixelDataReader, RawPixelData};

use super::layout::Layout;
use super::{Result, bad, empty, joined, native};
use crate::codestream::{self, Facts};
use crate::dct::{Jpeg, JpegError, is_all_read};
use crate::error::Undecodable;
use crate::film::{Family, Film, Photometric};

/// Decodes every frame of a codec other than RLE.
pub(super) fn compressed(
    frames: &[&[Vec<u8>]],
    uid: &str,
    kind: Kind,
    layout: &Layout,
    reader: &(dyn PixelDataReader + Send + Sync),
) -> Result<Film> {
    // Only where it is known that nothing is coded but what was decoded may a frame stay as it came:
    // CharLS refuses bytes that it has not read, OpenJPEG and progressive JPEG's decoder do not.
    let family = match kind {
        Kind::JpegLs => Family::Other,
        Kind::Jpeg | Kind::Jpeg2000 | Kind::Rle | Kind::Opaque => Family::Opaque,
    };
    let mut film = empty(layout, family)?;
    let mut high_bit = layout.high_bit;
    // In uncompressed frames that are merely encapsulated the header is right (PS3.5 A.4.11).
    let raw = matches!(uid, "1.2.840.10008.1.2.1.98" | "1.2.840.10008.1.2.8.1");
    let header = film.photometric;
    let mut agreed = None;
    let (mut sequential, mut all_read) = (0, 0);
    let mut exact_depth = true;
    for fragments in frames {
        let frame = joined(fragments);
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
        }
        let lossless = facts.is_some_and(|facts| facts.lossless);
        let planar = facts.map_or(raw && layout.planar, |facts| facts.planar);
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
            film.stored.unclean |= jpeg.unclean;
            let (across, down) = film.stored.grid;
            let grid = jpeg.grid();
            film.stored.grid = (across.max(grid.0), down.max(grid.1));
            jpeg.samples()
        } else {
            by_registry(reader, uid, kind, layout, &frame)?
        };
        let photometric = match &dct {
            Some(jpeg) => colours(jpeg, header),
            None if kind == Kind::Jpeg && !lossless => after_codec(&layout.photometric, header),
            None => header,
        };
        // What one frame is, all are: the header describes them together.
        if *agreed.get_or_insert((photometric, planar)) != (photometric, planar) {
            return Err(bad(Undecodable::BadAttributes));
        }
        all_read += usize::from(lossless && is_all_read(&frame, layout.width, layout.height));
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
    } else if all_read == frames.len() {
        film.stored.family = Family::Other;
    }
    if let Some((photometric, planar)) = agreed {
        film.photometric = photometric;
        if planar && layout.channels > 1 {
            native::interleave(&mut film);
        }
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

/// What the registry's JPEG decoder has already turned into RGB; it does not with lossless frames.
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

/// What a transfer syntax' frames are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Jpeg,
    JpegLs,
    Jpeg2000,
    Rle,
    /// Codestreams that nothing here has looked into.
    Opaque,
}

impl Kind {
    pub(super) fn of(uid: &str) -> Self {
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
