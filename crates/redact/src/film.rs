//! Decoded samples of one object in one plain layout, whatever the file's layout was: interleaved,
//! little-endian, one or two bytes a sample, unused bits cleared.

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
    /// 1 or 2.
    pub(crate) bytes_per_sample: usize,
    pub(crate) bits_stored: u16,
    pub(crate) signed: bool,
    pub(crate) photometric: Photometric,
    pub(crate) samples: Vec<u8>,
    pub(crate) display: Display,
}

/// How stored values become grey, as far as the header says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Display {
    /// Rescale slope and intercept.
    pub(crate) rescale: Option<(f64, f64)>,
    /// Window centre and width, after rescale.
    pub(crate) window: Option<(f64, f64)>,
    /// Luminance of each palette entry, and the stored value of the first.
    pub(crate) palette: Option<(i32, Vec<u8>)>,
}

impl Film {
    /// Samples of one frame.
    pub(crate) const fn frame_samples(&self) -> usize {
        self.width * self.height * self.channels
    }

    /// Bytes of one frame; empty when there is no such frame.
    pub(crate) fn frame(&self, frame: usize) -> &[u8] {
        let bytes = self.frame_samples() * self.bytes_per_sample;
        self.samples
            .get(frame * bytes..(frame + 1) * bytes)
            .unwrap_or_default()
    }

    /// Stored values of one channel of a frame, in reading order.
    pub(crate) fn values(&self, frame: usize, channel: usize) -> Vec<i32> {
        let step = self.channels * self.bytes_per_sample;
        let from = channel * self.bytes_per_sample;
        self.frame(frame)
            .chunks_exact(step)
            .map(
                |pixel| match (self.bytes_per_sample, pixel.get(from), pixel.get(from + 1)) {
                    (1, Some(&low), _) if self.signed => i32::from(low.cast_signed()),
                    (1, Some(&low), _) => i32::from(low),
                    (_, Some(&low), Some(&high)) if self.signed => {
                        i32::from(i16::from_le_bytes([low, high]))
                    }
                    (_, Some(&low), Some(&high)) => i32::from(u16::from_le_bytes([low, high])),
                    _ => 0,
                },
            )
            .collect()
    }
}
