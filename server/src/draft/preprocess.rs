//! A rendition becomes `pixels`: decode, crop, resize, equalise, normalise. The same steps in the
//! same order as `cloister_training.data.read`, which trained the model.

use std::io::Cursor;

use image::imageops::{self, FilterType};
use image::{GrayImage, ImageFormat, ImageReader, Limits};

use super::spec::{Equalise, InputSpec};

/// Longest side of a rendition; the gateway and `clean` make at most 1,000.
const MAX_SIDE: u32 = 1024;

/// Normalised pixels of one film, row by row.
#[derive(Debug, Clone)]
pub struct Input {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Values.
    pub pixels: Vec<f32>,
}

/// Decodes a rendition. Nothing when it is no PNG or larger than a rendition may be.
pub(crate) fn decode(png: &[u8]) -> Option<GrayImage> {
    let mut reader = ImageReader::with_format(Cursor::new(png), ImageFormat::Png);
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(64 << 20);
    reader.limits(limits);
    let image = reader.decode().ok()?.into_luma8();
    (image.width() > 0 && image.height() > 0).then_some(image)
}

/// Crops, resizes, equalises and normalises.
pub fn normalise(film: &GrayImage, spec: &InputSpec) -> Input {
    let (width, height) = film.dimensions();
    let cut = |side: u32| (f64::from(side) * spec.crop_per_side) as u32;
    let (dx, dy) = (cut(width), cut(height));
    let cropped = imageops::crop_imm(
        film,
        dx,
        dy,
        (width - 2 * dx).max(1),
        (height - 2 * dy).max(1),
    )
    .to_image();
    // Triangle with support scaled to the reduction: what Pillow calls BILINEAR.
    let resized = imageops::resize(&cropped, spec.width, spec.height, FilterType::Triangle);
    let table = match spec.equalise {
        Equalise::Histogram256 => ranks(resized.as_raw()),
        Equalise::Nothing => linear(),
    };
    let pixels = resized
        .as_raw()
        .iter()
        .map(|&grey| (table[usize::from(grey)] - spec.mean) / spec.std)
        .collect();
    Input {
        height: spec.height as usize,
        width: spec.width as usize,
        pixels,
    }
}

fn linear() -> [f32; 256] {
    std::array::from_fn(|grey| grey as f32 / 255.0)
}

/// Each grey becomes the share of pixels below it plus half of those equal to it.
fn ranks(greys: &[u8]) -> [f32; 256] {
    let mut counts = [0_u64; 256];
    for &grey in greys {
        counts[usize::from(grey)] += 1;
    }
    let mut below = 0_u64;
    counts.map(|count| {
        let rank = (below as f64 + count as f64 / 2.0) / greys.len().max(1) as f64;
        below += count;
        rank as f32
    })
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, Luma};

    use super::{decode, normalise};
    use crate::draft::spec::{Equalise, InputSpec, Resize};

    #[test]
    fn equalised_intensities_are_ranks() {
        let film = GrayImage::from_fn(16, 16, |x, _| Luma([if x < 8 { 10 } else { 200 }]));
        let spec = InputSpec {
            height: 16,
            width: 16,
            crop_per_side: 0.0,
            resize: Resize::Triangle,
            equalise: Equalise::Histogram256,
            mean: 0.5,
            std: 0.5,
        };
        let input = normalise(&film, &spec);
        assert!((input.pixels[0] + 0.5).abs() < 1e-6 && (input.pixels[15] - 0.5).abs() < 1e-6);
    }

    #[test]
    fn what_is_no_png_is_no_film() {
        assert!(
            decode(b"").is_none()
                && decode(b"\x89PNG\r\n\x1a\n").is_none()
                && decode(&[0; 64]).is_none()
        );
    }
}
