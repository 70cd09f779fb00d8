//! Image attributes as the header gives them (PS3.3 C.7.6.3), checked against each other. Nothing is
//! allocated before they are.

use dicom_core::Tag;
use dicom_core::header::HasLength;
use dicom_dictionary_std::tags;
use dicom_object::DefaultDicomObject;

use super::{MAX_FRAME_PIXELS, MAX_SAMPLE_BYTES, Result, bad, number};
use crate::error::{RedactError, Undecodable};

/// Image attributes.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) frames: usize,
    pub(super) channels: usize,
    pub(super) bits_allocated: u16,
    pub(super) bits_stored: u16,
    pub(super) high_bit: u16,
    pub(super) signed: bool,
    pub(super) float: bool,
    pub(super) planar: bool,
    pub(super) photometric: String,
    pub(super) big_endian: bool,
}

impl Layout {
    /// `float` where the samples stand in Float or Double Float Pixel Data.
    pub(super) fn of(object: &DefaultDicomObject, float: bool) -> Result<Self> {
        let attributes = || bad(Undecodable::BadAttributes);
        let small = |tag: Tag| {
            number(object, tag)
                .and_then(|v| u16::try_from(v).ok())
                .ok_or_else(attributes)
        };
        let bits_allocated = small(tags::BITS_ALLOCATED)?;
        let bits_stored = if float {
            bits_allocated
        } else {
            small(tags::BITS_STORED)?
        };
        let high_bit = if float {
            bits_stored.saturating_sub(1)
        } else {
            small(tags::HIGH_BIT).unwrap_or(bits_stored.saturating_sub(1))
        };
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
            signed: number(object, tags::PIXEL_REPRESENTATION) == Some(1) && !float,
            float,
            planar: number(object, tags::PLANAR_CONFIGURATION) == Some(1),
            photometric: photometric.trim_matches([' ', '\0']).to_owned(),
            big_endian: object
                .meta()
                .transfer_syntax()
                .starts_with("1.2.840.10008.1.2.2"),
        };
        let known = if float {
            matches!(bits_allocated, 32 | 64) && layout.channels == 1
        } else {
            matches!(bits_allocated, 1 | 8 | 16 | 32) && matches!(layout.channels, 1 | 3)
        };
        // One-bit pixels and shared colours are each known in one form.
        let odd = bits_allocated == 1 && layout.channels > 1
            || layout.pairs() && (bits_allocated != 8 || layout.width % 2 == 1);
        if !known || odd {
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

    pub(super) const fn pixels(&self) -> usize {
        self.width * self.height
    }

    /// Bytes of a sample once decoded.
    pub(super) const fn bytes_per_sample(&self) -> usize {
        match self.bits_allocated {
            16 => 2,
            32 => 4,
            64 => 8,
            _ => 1,
        }
    }

    /// Bytes of a frame once decoded.
    pub(super) const fn frame_bytes(&self) -> usize {
        self.pixels() * self.channels * self.bytes_per_sample()
    }

    /// Whether two pixels share their colour (C.7.6.3.1.2), as far as there is no compression.
    pub(super) fn pairs(&self) -> bool {
        self.channels == 3 && matches!(self.photometric.as_str(), "YBR_FULL_422")
    }
}
