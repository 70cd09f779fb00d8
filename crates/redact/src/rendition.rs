//! Last step: the 8-bit grey PNG that travels with the report.

use png::{BitDepth, ColorType, Compression, Encoder};

use crate::config::Outside;
use crate::error::RedactError;
use crate::film::Film;
use crate::outside::{Area, without_outside};
use crate::redacted::FoundBox;
use crate::render::{Grey, render};

/// Longest side of a rendition.
const LONG_SIDE: usize = 1000;

/// PNG of the first frame as it is meant to be seen, without what is outside the patient by policy.
pub(crate) fn rendition(
    film: &Film,
    found: &[FoundBox],
    policy: Outside,
) -> Result<Vec<u8>, RedactError> {
    let full = render(film, 0);
    let original = (full.width, full.height);
    let small = if full.width.max(full.height) > LONG_SIDE {
        scale_to(&full, LONG_SIDE)
    } else {
        full
    };
    let kept: Vec<Area> = found
        .iter()
        .filter(|one| one.frame == 0 && !one.is_redacted())
        .map(|one| {
            let scaled = |at: u32, new: usize, old: usize| at as usize * new / old.max(1);
            (
                scaled(one.x, small.width, original.0),
                scaled(one.y, small.height, original.1),
                scaled(one.x + one.w, small.width, original.0) + 1,
                scaled(one.y + one.h, small.height, original.1) + 1,
            )
        })
        .collect();
    let small = without_outside(small, &kept, policy);
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out, small.width as u32, small.height as u32);
    encoder.set_color(ColorType::Grayscale);
    encoder.set_depth(BitDepth::Eight);
    // It travels once; a smaller file would cost more than the look for text.
    encoder.set_compression(Compression::Fast);
    let mut writer = encoder
        .write_header()
        .map_err(|_| RedactError::EncodeFailed)?;
    writer
        .write_image_data(&small.pixels)
        .map_err(|_| RedactError::EncodeFailed)?;
    writer.finish().map_err(|_| RedactError::EncodeFailed)?;
    Ok(out)
}

/// Scales down so that the long side is `long`, by the mean of the pixels under each new one.
pub(crate) fn scale_to(view: &Grey, long: usize) -> Grey {
    let side = view.width.max(view.height).max(1);
    let width = (view.width * long / side).max(1);
    let height = (view.height * long / side).max(1);
    let span = |at: usize, new: usize, old: usize| {
        let from = at * old / new;
        from..((at + 1) * old)
            .div_ceil(new)
            .clamp(from + 1, old.max(from + 1))
    };
    let mut pixels = Vec::with_capacity(width * height);
    let mut sums = vec![0_u32; view.width];
    for y in 0..height {
        sums.fill(0);
        let rows = span(y, height, view.height);
        let count = rows.len() as u32;
        for row in rows {
            let line = view
                .pixels
                .get(row * view.width..(row + 1) * view.width)
                .unwrap_or_default();
            for (sum, &pixel) in sums.iter_mut().zip(line) {
                *sum += u32::from(pixel);
            }
        }
        for x in 0..width {
            let columns = span(x, width, view.width);
            let area = count * columns.len() as u32;
            let sum: u32 = sums.get(columns).unwrap_or_default().iter().sum();
            pixels.push(((sum + area / 2) / area.max(1)).min(255) as u8);
        }
    }
    Grey {
        width,
        height,
        pixels,
    }
}
