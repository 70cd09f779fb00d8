//! After `decode`, before `find`: stored values become the 8-bit grey that a person (and the detector)
//! would see. Text can hide outside the window that the header asks for, so `find` also gets a second
//! view over the full range when the window cuts something off.

use crate::film::{Film, Photometric};

/// One frame in 8-bit grey, low is black.
#[derive(Debug, Clone)]
pub(crate) struct Grey {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) pixels: Vec<u8>,
}

/// Rec. 601 luminance.
pub(crate) fn luminance(red: u8, green: u8, blue: u8) -> u8 {
    ((u32::from(red) * 299 + u32::from(green) * 587 + u32::from(blue) * 114 + 500) / 1000) as u8
}

/// Grey from lowest to highest, in stored values.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Range {
    low: f64,
    high: f64,
}

impl Range {
    fn apply(self, values: &[i32], invert: bool) -> Vec<u8> {
        let scale = 255.0 / (self.high - self.low).max(1e-9);
        values
            .iter()
            .map(|&value| {
                // `as` saturates: below the window is 0, above is 255.
                let grey = ((f64::from(value) - self.low) * scale + 0.5) as u8;
                if invert { 255 - grey } else { grey }
            })
            .collect()
    }
}

/// The frame as it is meant to be seen.
pub(crate) fn render(film: &Film, frame: usize) -> Grey {
    grey(
        film,
        views(film, frame, false)
            .into_iter()
            .next()
            .unwrap_or_default(),
    )
}

/// Every view of the frame that the detector has to look at, the meant one first.
pub(crate) fn render_all(film: &Film, frame: usize) -> Vec<Grey> {
    views(film, frame, true)
        .into_iter()
        .map(|pixels| grey(film, pixels))
        .collect()
}

fn grey(film: &Film, pixels: Vec<u8>) -> Grey {
    Grey {
        width: film.width,
        height: film.height,
        pixels,
    }
}

fn views(film: &Film, frame: usize, all: bool) -> Vec<Vec<u8>> {
    match film.photometric {
        Photometric::Monochrome1 | Photometric::Monochrome2 => monochrome(film, frame, all),
        Photometric::Palette => vec![palette(film, frame)],
        Photometric::Rgb => {
            let channels = [0, 1, 2].map(|channel| eight_bits(film, frame, channel));
            let [red, green, blue] = &channels;
            vec![
                red.iter()
                    .zip(green)
                    .zip(blue)
                    .map(|((&r, &g), &b)| luminance(r, g, b))
                    .collect(),
            ]
        }
        Photometric::YbrFull => vec![eight_bits(film, frame, 0)],
    }
}

fn eight_bits(film: &Film, frame: usize, channel: usize) -> Vec<u8> {
    let high = f64::from((1_u32 << film.bits_stored) - 1);
    Range { low: 0.0, high }.apply(&film.values(frame, channel), false)
}

fn palette(film: &Film, frame: usize) -> Vec<u8> {
    let values = film.values(frame, 0);
    match &film.display.palette {
        Some((first, table)) => values
            .iter()
            .map(|&value| {
                let at = usize::try_from(value - first)
                    .unwrap_or(0)
                    .min(table.len().saturating_sub(1));
                table.get(at).copied().unwrap_or(0)
            })
            .collect(),
        None => Range {
            low: 0.0,
            high: f64::from((1_u32 << film.bits_stored) - 1),
        }
        .apply(&values, false),
    }
}

fn monochrome(film: &Film, frame: usize, all: bool) -> Vec<Vec<u8>> {
    let values = film.values(frame, 0);
    let mut invert = film.photometric == Photometric::Monochrome1;
    let mut sample: Vec<i32> = values
        .iter()
        .step_by((values.len() >> 17).max(1))
        .copied()
        .collect();
    sample.sort_unstable();
    let at = |share: f64| {
        let index = (share * sample.len().saturating_sub(1) as f64) as usize;
        f64::from(sample.get(index).copied().unwrap_or(0))
    };
    let robust = Range {
        low: at(0.005),
        high: at(0.995).max(at(0.005) + 1.0),
    };
    let window = film.display.window.map(|(centre, width)| {
        // PS3.3 C.11.2.1.2.1, linear, taken back through the rescale to stored values.
        let (slope, intercept) = film.display.rescale.unwrap_or((1.0, 0.0));
        let (a, b) = (
            centre - 0.5 - (width - 1.0) / 2.0,
            centre - 0.5 + (width - 1.0) / 2.0,
        );
        ((a - intercept) / slope, (b - intercept) / slope)
    });
    let mut chosen = robust;
    if let Some((a, b)) = window {
        let range = Range {
            low: a.min(b),
            high: a.max(b).max(a.min(b) + 1.0),
        };
        let inside = sample
            .iter()
            .filter(|&&v| f64::from(v) > range.low && f64::from(v) < range.high)
            .count();
        // A window that shows nothing of the film is a mistake of the writer.
        if inside * 20 >= sample.len()
            || (range.high - range.low) >= (robust.high - robust.low) * 0.5
        {
            chosen = range;
            invert ^= b < a;
        }
    }
    let mut out = vec![chosen.apply(&values, invert)];
    if all && hides_something(&values, chosen) {
        let low = values.iter().min().copied().unwrap_or(0);
        let high = values.iter().max().copied().unwrap_or(0);
        out.push(
            Range {
                low: f64::from(low),
                high: f64::from(high.max(low + 1)),
            }
            .apply(&values, invert),
        );
    }
    out
}

/// Whether a view flattens differences on one side: text written in one clipped value over another.
fn hides_something(values: &[i32], view: Range) -> bool {
    let side = |clipped: &dyn Fn(f64) -> bool| {
        let (mut count, mut low, mut high) = (0_usize, i32::MAX, i32::MIN);
        for &value in values.iter().filter(|&&value| clipped(f64::from(value))) {
            count += 1;
            low = low.min(value);
            high = high.max(value);
        }
        count * 200 > values.len()
            && f64::from(high.saturating_sub(low)) > (view.high - view.low) * 0.04
    };
    side(&|value| value <= view.low) || side(&|value| value >= view.high)
}

#[cfg(test)]
mod tests {
    use super::{render, render_all};
    use crate::film::{Display, Film, Photometric};

    fn film(samples: &[u16], window: Option<(f64, f64)>, photometric: Photometric) -> Film {
        Film {
            width: samples.len(),
            height: 1,
            frames: 1,
            channels: 1,
            bytes_per_sample: 2,
            bits_stored: 12,
            signed: false,
            photometric,
            samples: samples
                .iter()
                .flat_map(|sample| sample.to_le_bytes())
                .collect(),
            display: Display {
                window,
                ..Display::default()
            },
        }
    }

    #[test]
    fn monochrome1_is_inverted() {
        let samples: Vec<u16> = (0..1000).collect();
        let two = render(&film(&samples, None, Photometric::Monochrome2), 0).pixels;
        let one = render(&film(&samples, None, Photometric::Monochrome1), 0).pixels;
        assert!(two.iter().zip(&one).all(|(a, b)| a + b == 255));
        assert_eq!((two.first(), two.last()), (Some(&0), Some(&255)));
    }

    #[test]
    fn a_window_that_shows_nothing_is_replaced() {
        let samples: Vec<u16> = (0..1000).collect();
        let grey = render(
            &film(&samples, Some((4000.0, 10.0)), Photometric::Monochrome2),
            0,
        )
        .pixels;
        assert_eq!((grey.first(), grey.last()), (Some(&0), Some(&255)));
    }

    #[test]
    fn what_a_window_cuts_off_gets_a_view_of_its_own() {
        let samples: Vec<u16> = (0..1000).collect();
        assert_eq!(
            render_all(
                &film(&samples, Some((200.0, 400.0)), Photometric::Monochrome2),
                0
            )
            .len(),
            2
        );
        assert_eq!(
            render_all(
                &film(&samples, Some((500.0, 1000.0)), Photometric::Monochrome2),
                0
            )
            .len(),
            1
        );
    }
}
