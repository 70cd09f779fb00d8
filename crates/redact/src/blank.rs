//! After `find`, before `encode`: the samples inside the boxes are replaced by the median of the ring
//! around each box, so that the model sees no black bars. Nothing outside the boxes changes.

use crate::film::Film;
use crate::redacted::FoundBox;

/// Blanks every box.
pub(crate) fn blank(film: &mut Film, boxes: &[FoundBox]) {
    for one in boxes {
        let fill = background(film, one, boxes);
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
    use crate::film::{Display, Film, Photometric, Stored};
    use crate::redacted::FoundBox;

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
            blank(&mut after, &[FoundBox { frame, x, y, w, h, score: 1.0 }]);
            for (at, (a, b)) in before.samples.chunks(3).zip(after.samples.chunks(3)).enumerate() {
                let (f, px, py) = (at as u32 / 200, at as u32 % 20, at as u32 % 200 / 20);
                let inside = f == frame && (x..x + w).contains(&px) && (y..y + h).contains(&py);
                assert!(inside || a == b);
            }
        }
    }
}
