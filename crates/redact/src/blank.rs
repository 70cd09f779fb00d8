//! After `find`, before `encode`: the samples inside the boxes are replaced by the median of the ring
//! around each box, so that the model sees no black bars, or by black. Nothing outside the boxes changes.

use crate::config::Fill;
use crate::film::{Film, Photometric};
use crate::redacted::FoundBox;
use crate::render::luminance;

/// Blanks every box.
pub(crate) fn blank(film: &mut Film, boxes: &[FoundBox], fill: Fill) {
    let solid = (fill == Fill::Solid).then(|| black(film)).flatten();
    for one in boxes {
        let fill = solid
            .clone()
            .unwrap_or_else(|| background(film, one, boxes));
        for_each_pixel(film, one, |pixel| {
            if pixel.len() == fill.len() {
                pixel.copy_from_slice(&fill);
            }
        });
    }
}

fn edges(film: &Film, one: &FoundBox, margin: usize) -> (usize, usize, usize, usize) {
    let (x, y) = (one.x as usize, one.y as usize);
    (
        x.saturating_sub(margin).min(film.width),
        y.saturating_sub(margin).min(film.height),
        (x + one.w as usize + margin).min(film.width),
        (y + one.h as usize + margin).min(film.height),
    )
}

fn for_each_pixel(film: &mut Film, one: &FoundBox, mut change: impl FnMut(&mut [u8])) {
    let (left, top, right, bottom) = edges(film, one, 0);
    let pixel = film.channels * film.bytes_per_sample;
    let frame = one.frame as usize * film.frame_samples() * film.bytes_per_sample;
    for row in top..bottom {
        let from = frame + (row * film.width + left) * pixel;
        let to = frame + (row * film.width + right) * pixel;
        film.samples
            .get_mut(from..to)
            .unwrap_or_default()
            .chunks_exact_mut(pixel)
            .for_each(&mut change);
    }
}

/// The bytes of one background pixel: per channel the median of the ring around the box, other boxes
/// left out (their text must not colour the fill).
fn background(film: &Film, one: &FoundBox, boxes: &[FoundBox]) -> Vec<u8> {
    let margin = (one.h.min(one.w) as usize / 4).clamp(3, 24);
    let (left, top, right, bottom) = edges(film, one, margin);
    let inside = |x: usize, y: usize| {
        boxes.iter().any(|other| {
            let (l, t, r, b) = edges(film, other, 0);
            other.frame == one.frame && (l..r).contains(&x) && (t..b).contains(&y)
        })
    };
    let own = edges(film, one, 0);
    let frame = film.frame(one.frame as usize);
    let (bytes, channels) = (film.bytes_per_sample, film.channels);
    let mut ring: Vec<Vec<[u8; 8]>> = vec![Vec::new(); channels];
    for y in top..bottom {
        for x in left..right {
            let in_own = (own.0..own.2).contains(&x) && (own.1..own.3).contains(&y);
            if in_own || inside(x, y) {
                continue;
            }
            for (channel, values) in ring.iter_mut().enumerate() {
                let at = ((y * film.width + x) * channels + channel) * bytes;
                let mut wide = [0; 8];
                for (to, from) in wide
                    .iter_mut()
                    .zip(frame.get(at..at + bytes).unwrap_or_default())
                {
                    *to = *from;
                }
                values.push(wide);
            }
        }
    }
    let mut fill = Vec::with_capacity(bytes * channels);
    for mut values in ring {
        values.sort_unstable_by_key(|value| order(film, *value));
        let median = values.get(values.len() / 2).copied().unwrap_or_default();
        fill.extend_from_slice(median.get(..bytes).unwrap_or_default());
    }
    fill
}

/// The bytes of one pixel that is displayed black. Floating point values have no end that would be
/// black: they get their background.
fn black(film: &Film) -> Option<Vec<u8>> {
    if film.float {
        return None;
    }
    let bits = u32::from(film.bits_stored).clamp(1, 32);
    let (low, high) = if film.signed {
        (-(1_i64 << (bits - 1)), (1_i64 << (bits - 1)) - 1)
    } else {
        (0, (1_i64 << bits) - 1)
    };
    let samples = match film.photometric {
        Photometric::Monochrome1 => vec![high],
        Photometric::Monochrome2 => vec![low],
        Photometric::Palette => {
            let (first, table) = film.display.palette.as_ref()?;
            let darkest = table
                .iter()
                .enumerate()
                .min_by_key(|(_, [red, green, blue])| luminance(*red, *green, *blue));
            let at = i64::from(*first) + darkest.map_or(0, |(at, _)| at as i64);
            vec![at.clamp(low, high)]
        }
        Photometric::Rgb => vec![low; 3],
        // No light, and neither colour.
        Photometric::YbrFull => vec![low, 1 << (bits - 1), 1 << (bits - 1)],
    };
    let bytes = film.bytes_per_sample;
    let pixel = samples
        .iter()
        .flat_map(|sample| sample.to_le_bytes().into_iter().take(bytes));
    (samples.len() == film.channels).then(|| pixel.collect())
}

/// A number that grows with the sample.
fn order(film: &Film, bytes: [u8; 8]) -> i64 {
    let raw = i64::from_le_bytes(bytes);
    let unused = 64 - film.bytes_per_sample as u32 * 8;
    let signed = (raw << unused) >> unused;
    match (film.float, film.signed) {
        // The bits of negative numbers run the other way.
        (true, _) if signed < 0 => i64::MIN + !signed,
        (true, _) | (false, true) => signed,
        (false, false) => raw,
    }
}

#[cfg(test)]
mod tests {
    use super::blank;
    use crate::config::Fill;
    use crate::film::{Display, Film, Photometric, Stored};
    use crate::redacted::FoundBox;

    /// A film of two by two pixels whose first is blanked solid.
    fn solid(film: Film) -> Vec<u8> {
        let mut film = Film {
            width: 2,
            height: 2,
            frames: 1,
            float: false,
            stored: Stored::default(),
            ..film
        };
        film.samples = vec![7; 4 * film.channels * film.bytes_per_sample];
        let first = FoundBox {
            w: 1,
            h: 1,
            ..FoundBox::default()
        };
        let pixel = film.channels * film.bytes_per_sample;
        blank(&mut film, &[first], Fill::Solid);
        assert!(film.samples[pixel..].iter().all(|&byte| byte == 7));
        film.samples[..pixel].to_vec()
    }

    #[test]
    fn solid_is_black_as_displayed() {
        let film = |photometric, bits_stored: u16, signed| Film {
            width: 0,
            height: 0,
            frames: 0,
            channels: if matches!(photometric, Photometric::Rgb | Photometric::YbrFull) {
                3
            } else {
                1
            },
            bytes_per_sample: usize::from(bits_stored.div_ceil(8)),
            bits_stored,
            signed,
            float: false,
            photometric,
            samples: Vec::new(),
            display: Display {
                palette: Some((3, vec![[90; 3], [0, 20, 9], [200; 3]])),
                ..Display::default()
            },
            stored: Stored::default(),
        };
        for (photometric, bits, signed, black) in [
            (Photometric::Monochrome2, 12, false, vec![0, 0]),
            (Photometric::Monochrome2, 12, true, vec![0x00, 0xf8]),
            (Photometric::Monochrome1, 12, false, vec![0xff, 0x0f]),
            (Photometric::Monochrome1, 16, true, vec![0xff, 0x7f]),
            (Photometric::Palette, 8, false, vec![4]),
            (Photometric::Rgb, 8, false, vec![0, 0, 0]),
            (Photometric::YbrFull, 8, false, vec![0, 128, 128]),
        ] {
            assert_eq!(
                solid(film(photometric, bits, signed)),
                black,
                "{photometric:?} {bits}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_outside_the_boxes_changes(
            samples in proptest::collection::vec(0u8.., 20 * 10 * 3 * 2),
            frame in 0u32..3, x in 0u32..25, y in 0u32..15, w in 0u32..30, h in 0u32..30,
        ) {
            let before = Film {
                width: 20, height: 10, frames: 2, channels: 3, bytes_per_sample: 1, bits_stored: 8,
                signed: false, float: false, photometric: Photometric::Rgb, samples, display: Display::default(),
                stored: Stored::default(),
            };
            let mut after = before.clone();
            let fill = if w % 2 == 0 { Fill::Background } else { Fill::Solid };
            blank(&mut after, &[FoundBox { frame, x, y, w, h, score: 1.0, ..FoundBox::default() }], fill);
            for (at, (a, b)) in before.samples.chunks(3).zip(after.samples.chunks(3)).enumerate() {
                let (f, px, py) = (at as u32 / 200, at as u32 % 20, at as u32 % 200 / 20);
                let inside = f == frame && (x..x + w).contains(&px) && (y..y + h).contains(&py);
                assert!(inside || a == b);
            }
        }
    }
}
