//! Decoded samples of one object in one plain layout, whatever the file's layout was: interleaved,
//! little-endian, one, two, four or eight bytes a sample, unused bits cleared.

use crate::redacted::FoundBox;

/// What the samples mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Photometric {
    /// Low is white.
    Monochrome1,
    /// Low is black.
    Monochrome2,
    /// Index into a colour table.
    Palette,
    /// Red, green, blue.
    Rgb,
    /// Luminance and two colour differences, full range.
    YbrFull,
}

impl Photometric {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Monochrome1 => "MONOCHROME1",
            Self::Monochrome2 => "MONOCHROME2",
            Self::Palette => "PALETTE COLOR",
            Self::Rgb => "RGB",
            Self::YbrFull => "YBR_FULL",
        }
    }
}

/// Decoded samples.
#[derive(Debug, Clone)]
pub(crate) struct Film {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) frames: usize,
    pub(crate) channels: usize,
    /// 1, 2, 4 or 8. One-bit pixels have a byte each.
    pub(crate) bytes_per_sample: usize,
    pub(crate) bits_stored: u16,
    pub(crate) signed: bool,
    /// IEEE 754 of 4 or 8 bytes.
    pub(crate) float: bool,
    pub(crate) photometric: Photometric,
    pub(crate) samples: Vec<u8>,
    pub(crate) display: Display,
    pub(crate) stored: Stored,
}

/// How the samples lie in the file: what `encode` needs to put them back the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) family: Family,
    pub(crate) bits_allocated: u16,
    /// Lowest stored bit.
    pub(crate) shift: u32,
    pub(crate) planar: bool,
    /// Two pixels share their colour.
    pub(crate) pairs: bool,
    /// Uncompressed samples of 8 bits that stood in words.
    pub(crate) words: bool,
    /// Something stood in the unused bits, or in a codestream behind what was decoded: no frame may
    /// stay as it was.
    pub(crate) unclean: bool,
    /// Pixels across and down that can only be blanked together.
    pub(crate) grid: (usize, usize),
}

impl Default for Stored {
    fn default() -> Self {
        Self {
            family: Family::Native,
            bits_allocated: 8,
            shift: 0,
            planar: false,
            pairs: false,
            words: false,
            unclean: false,
            grid: (1, 1),
        }
    }
}

/// What redaction can do with a frame without giving up its transfer syntax.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Uncompressed: samples are put back.
    Native,
    /// Frames with boxes are packed anew.
    Rle,
    /// JPEG with a sequential DCT: blocks under boxes are blanked.
    Dct,
    /// Nothing: a redacted object leaves uncompressed, an untouched one as it came, because its
    /// decoder has read all that is coded.
    Other,
    /// Nothing, and an untouched one leaves uncompressed too: nobody has looked behind the samples.
    Opaque,
}

/// How stored values become grey, as far as the header says (PS3.3 C.11.1, C.11.2, C.7.5.1.1.2).
#[derive(Debug, Clone, Default)]
pub(crate) struct Display {
    pub(crate) modality: Modality,
    pub(crate) voi: Option<Voi>,
    /// Further windows and tables that a viewer may choose.
    pub(crate) others: Vec<Voi>,
    /// Stored values that are no picture: lowest and highest.
    pub(crate) padding: Option<(f64, f64)>,
    /// Red, green and blue of each palette entry, and the stored value of the first.
    pub(crate) palette: Option<(i32, Vec<[u8; 3]>)>,
}

/// From stored values to those of the modality.
#[derive(Debug, Clone, Default)]
pub(crate) enum Modality {
    /// As they are.
    #[default]
    Identity,
    /// Slope and intercept.
    Linear(f64, f64),
    /// A table.
    Table(Table),
}

/// From values of the modality to grey.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Voi {
    /// Centre, width and how it runs.
    Window(f64, f64, Function),
    /// A table.
    Table(Table),
}

/// VOI LUT Function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    /// C.11.2.1.2.1.
    Linear,
    /// C.11.2.1.3.2.
    LinearExact,
    /// C.11.2.1.3.1.
    Sigmoid,
}

/// A look-up table: values below the first and above the last take theirs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Table {
    /// Value that the first entry is for.
    pub(crate) first: f64,
    pub(crate) entries: Vec<u16>,
    /// Bits of an entry.
    pub(crate) bits: u32,
}

impl Table {
    /// The entry for a value.
    pub(crate) fn at(&self, value: f64) -> f64 {
        // `as` saturates: below the first is 0.
        let at = (value - self.first) as usize;
        let last = self.entries.len().saturating_sub(1);
        f64::from(self.entries.get(at.min(last)).copied().unwrap_or(0))
    }
}

impl Film {
    /// Samples of one frame.
    pub(crate) const fn frame_samples(&self) -> usize {
        self.width * self.height * self.channels
    }

    /// Bytes of one frame.
    pub(crate) const fn frame_bytes(&self) -> usize {
        self.frame_samples() * self.bytes_per_sample
    }

    /// Bytes of one frame; empty when there is no such frame.
    pub(crate) fn frame(&self, frame: usize) -> &[u8] {
        let bytes = self.frame_bytes();
        self.samples
            .get(frame * bytes..(frame + 1) * bytes)
            .unwrap_or_default()
    }

    /// The film without samples.
    pub(crate) fn clone_shape(&self) -> Self {
        Self {
            samples: Vec::new(),
            display: Display::default(),
            ..*self
        }
    }

    /// Takes over a frame as its codec gives it: narrow samples are widened, signs extended.
    pub(crate) fn replace_frame(&mut self, frame: usize, decoded: &[u8]) {
        let narrow = decoded.len() * 2 == self.frame_bytes() && self.bytes_per_sample == 2;
        let bits = u32::from(self.bits_stored);
        let (signed, wide) = (self.signed, self.bytes_per_sample == 2 && !narrow);
        let bytes = self.frame_bytes();
        let Some(to) = self.samples.get_mut(frame * bytes..(frame + 1) * bytes) else {
            return;
        };
        if !narrow && to.len() == decoded.len() {
            to.copy_from_slice(decoded);
        } else if narrow {
            for (pair, &low) in to.as_chunks_mut::<2>().0.iter_mut().zip(decoded) {
                *pair = [low, 0];
            }
        }
        if signed && wide && bits < 16 {
            for pair in to.as_chunks_mut::<2>().0 {
                let raised = u16::from_le_bytes(*pair) << (16 - bits);
                *pair = (raised.cast_signed() >> (16 - bits)).to_le_bytes();
            }
        }
    }

    /// Stored values of one channel of a frame, in reading order; exact up to 24 bits. What is no
    /// number (parametric maps) stands below everything else.
    pub(crate) fn values(&self, frame: usize, channel: usize) -> Vec<f32> {
        let step = self.channels * self.bytes_per_sample;
        let from = channel * self.bytes_per_sample;
        // What nearly every film is: one look at the layout instead of one per sample.
        if step == 2 && !self.float {
            let (samples, _) = self.frame(frame).as_chunks::<2>();
            let value = |pair: &[u8; 2]| u16::from_le_bytes(*pair);
            return if self.signed {
                samples
                    .iter()
                    .map(|pair| f32::from(value(pair).cast_signed()))
                    .collect()
            } else {
                samples.iter().map(|pair| f32::from(value(pair))).collect()
            };
        }
        self.frame(frame)
            .chunks_exact(step)
            .map(|pixel| self.value(pixel.get(from..).unwrap_or_default()))
            .collect()
    }

    fn value(&self, bytes: &[u8]) -> f32 {
        let value = match (self.bytes_per_sample, self.signed, bytes) {
            (1, true, [low, ..]) => f32::from(low.cast_signed()),
            (1, false, [low, ..]) => f32::from(*low),
            (2, true, [a, b, ..]) => f32::from(i16::from_le_bytes([*a, *b])),
            (2, false, [a, b, ..]) => f32::from(u16::from_le_bytes([*a, *b])),
            (4, signed, [a, b, c, d, ..]) => {
                let bytes = [*a, *b, *c, *d];
                if self.float {
                    f32::from_le_bytes(bytes)
                } else if signed {
                    i32::from_le_bytes(bytes) as f32
                } else {
                    u32::from_le_bytes(bytes) as f32
                }
            }
            (8, _, bytes) => bytes
                .first_chunk()
                .map_or(0.0, |eight| f64::from_le_bytes(*eight) as f32),
            _ => 0.0,
        };
        if value.is_nan() {
            f32::MIN
        } else {
            value.clamp(f32::MIN, f32::MAX)
        }
    }

    /// Boxes grown to what can be blanked together, and cut at the edges of the film.
    pub(crate) fn snapped(&self, boxes: Vec<FoundBox>) -> Vec<FoundBox> {
        let along = |from: u32, size: u32, step: usize, most: usize| {
            let step = step.max(1);
            let (from, end) = (from as usize, from as usize + size as usize);
            let start = (from / step * step).min(most);
            let end = (end.div_ceil(step) * step).min(most);
            (start as u32, (end - start.min(end)) as u32)
        };
        let (across, down) = self.stored.grid;
        boxes
            .into_iter()
            .map(|found| {
                let (x, w) = along(found.x, found.w, across, self.width);
                let (y, h) = along(found.y, found.h, down, self.height);
                FoundBox {
                    x,
                    y,
                    w,
                    h,
                    ..found
                }
            })
            .collect()
    }
}
