//! After `decode`, before `find`: stored values become the 8-bit grey that a person (and the detector)
//! would see. Text can hide outside the window that the header asks for, so `find` also gets a second
//! view over the full range when the window cuts something off.

use crate::film::{Film, Function, Modality, Photometric, Voi};

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
    fn apply(self, values: &[f32], invert: bool) -> Vec<u8> {
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

/// From nothing to the highest value that the stored bits can hold.
fn whole(film: &Film) -> Range {
    Range {
        low: 0.0,
        high: 2.0_f64.powi(film.bits_stored.into()) - 1.0,
    }
}

fn eight_bits(film: &Film, frame: usize, channel: usize) -> Vec<u8> {
    whole(film).apply(&film.values(frame, channel), false)
}

fn palette(film: &Film, frame: usize) -> Vec<u8> {
    let values = film.values(frame, 0);
    match &film.display.palette {
        Some((first, table)) => values
            .iter()
            .map(|&value| {
                let at = usize::try_from(value as i32 - first)
                    .unwrap_or(0)
                    .min(table.len().saturating_sub(1));
                table.get(at).copied().unwrap_or(0)
            })
            .collect(),
        None => whole(film).apply(&values, false),
    }
}

fn monochrome(film: &Film, frame: usize, all: bool) -> Vec<Vec<u8>> {
    let values = film.values(frame, 0);
    let padding = film.display.padding;
    let is_padding =
        |value: f32| padding.is_some_and(|(low, high)| (low..=high).contains(&f64::from(value)));
    let mut invert = film.photometric == Photometric::Monochrome1;
    let mut sample: Vec<f32> = values
        .iter()
        .step_by((values.len() >> 17).max(1))
        .copied()
        .filter(|&value| value > f32::MIN && !is_padding(value))
        .collect();
    sample.sort_unstable_by(f32::total_cmp);
    let at = |share: f64| {
        let index = (share * sample.len().saturating_sub(1) as f64) as usize;
        f64::from(sample.get(index).copied().unwrap_or(0.0))
    };
    let (low, high) = (at(0.005), at(0.995));
    let least = if film.float { 1e-30 } else { 1.0 };
    let robust = Range {
        low,
        high: high.max(low + least),
    };
    let straight = window(film).filter(|&(a, b)| {
        let inside = sample
            .iter()
            .filter(|&&v| f64::from(v) > a.min(b) && f64::from(v) < a.max(b))
            .count();
        // A window that shows nothing of the film is a mistake of the writer.
        inside * 20 >= sample.len() || (a - b).abs() >= (robust.high - robust.low) * 0.5
    });
    let mut chosen = robust;
    if let Some((a, b)) = straight {
        chosen = Range {
            low: a.min(b),
            high: a.max(b).max(a.min(b) + least),
        };
        invert ^= b < a;
    }
    let curve = Curve::of(film).filter(|curve| {
        let shown = |share: f64| curve.grey(at(share));
        // The same goes for a table or curve.
        shown(0.995).abs_diff(shown(0.005)) >= 16 || sample.is_empty()
    });
    let meant = match &curve {
        Some(curve) => curve.apply(&values, invert),
        None => chosen.apply(&values, invert),
    };
    let (mut padded, mut differs) = (meant.clone(), false);
    for (grey, _) in padded
        .iter_mut()
        .zip(&values)
        .filter(|(_, value)| is_padding(**value))
    {
        // Padding is no picture: it is dark whichever way the picture runs.
        differs |= *grey != 0;
        *grey = 0;
    }
    let mut out = vec![padded];
    if all {
        // Padding and bent curves can hide what is written in them.
        if differs {
            out.push(meant);
        }
        if curve.is_some() {
            out.push(robust.apply(&values, invert));
        }
        let plain = if curve.is_some() { robust } else { chosen };
        if hides_something(&values, plain) {
            let numbers = values.iter().copied().filter(|&value| value > f32::MIN);
            let low = numbers.clone().min_by(f32::total_cmp).unwrap_or(0.0);
            let high = numbers.max_by(f32::total_cmp).unwrap_or(0.0);
            let range = Range {
                low: f64::from(low),
                high: f64::from(high).max(f64::from(low) + least),
            };
            out.push(range.apply(&values, invert));
        }
    }
    out
}

/// The stored values that a straight window shows darkest and brightest; none for what is not
/// straight. The first is the higher one where the picture is inverted.
fn window(film: &Film) -> Option<(f64, f64)> {
    let Some(Voi::Window(centre, width, function)) = &film.display.voi else {
        return None;
    };
    let (slope, intercept) = match film.display.modality {
        Modality::Identity => (1.0, 0.0),
        Modality::Linear(slope, intercept) => (slope, intercept),
        Modality::Table(_) => return None,
    };
    let (from, to) = match function {
        Function::Linear => (
            centre - 0.5 - (width - 1.0) / 2.0,
            centre - 0.5 + (width - 1.0) / 2.0,
        ),
        Function::LinearExact => (centre - width / 2.0, centre + width / 2.0),
        Function::Sigmoid => return None,
    };
    Some(((from - intercept) / slope, (to - intercept) / slope))
}

/// A way from stored values to grey that is no straight line.
struct Curve<'f> {
    film: &'f Film,
}

impl<'f> Curve<'f> {
    fn of(film: &'f Film) -> Option<Self> {
        let bent = matches!(
            (&film.display.modality, &film.display.voi),
            (Modality::Table(_), _)
                | (
                    _,
                    Some(Voi::Table(_) | Voi::Window(_, _, Function::Sigmoid))
                )
        );
        bent.then_some(Self { film })
    }

    fn grey(&self, stored: f64) -> u8 {
        let display = &self.film.display;
        let (value, most) = match &display.modality {
            Modality::Identity => (stored, None),
            Modality::Linear(slope, intercept) => (stored * slope + intercept, None),
            Modality::Table(table) => (table.at(stored), Some(table.bits)),
        };
        let share = match &display.voi {
            Some(Voi::Table(table)) => table.at(value) / (2.0_f64.powi(table.bits as i32) - 1.0),
            Some(Voi::Window(centre, width, Function::Sigmoid)) => {
                1.0 / (1.0 + (-4.0 * (value - centre) / width).exp())
            }
            Some(Voi::Window(centre, width, Function::Linear)) => {
                (value - (centre - 0.5)) / (width - 1.0).max(1e-9) + 0.5
            }
            Some(Voi::Window(centre, width, Function::LinearExact)) => {
                (value - centre) / width + 0.5
            }
            None => value / (2.0_f64.powi(most.unwrap_or(16) as i32) - 1.0),
        };
        (share * 255.0 + 0.5) as u8
    }

    fn apply(&self, values: &[f32], invert: bool) -> Vec<u8> {
        let grey = |value: f32| {
            let grey = self.grey(value.into());
            if invert { 255 - grey } else { grey }
        };
        if self.film.bytes_per_sample > 2 {
            return values.iter().map(|&value| grey(value)).collect();
        }
        // Fewer values than pixels.
        let table: Vec<u8> = (-0x8000_i32..0x1_0000)
            .map(|value| grey(value as f32))
            .collect();
        values
            .iter()
            .map(|&value| {
                let at = (value as i32 + 0x8000) as usize;
                table.get(at).copied().unwrap_or(0)
            })
            .collect()
    }
}

/// Whether a view flattens differences on one side: text written in one clipped value over another.
fn hides_something(values: &[f32], view: Range) -> bool {
    let side = |clipped: &dyn Fn(f64) -> bool| {
        let (mut count, mut low, mut high) = (0_usize, f64::MAX, f64::MIN);
        let values_here = values.iter().filter(|&&value| value > f32::MIN);
        for value in values_here
            .map(|&value| f64::from(value))
            .filter(|value| clipped(*value))
        {
            count += 1;
            low = low.min(value);
            high = high.max(value);
        }
        count * 200 > values.len() && high - low > (view.high - view.low) * 0.04
    };
    side(&|value| value <= view.low) || side(&|value| value >= view.high)
}

#[cfg(test)]
mod tests {
    use super::{render, render_all};
    use crate::film::{Display, Film, Function, Modality, Photometric, Stored, Table, Voi};

    fn film(samples: &[u16], window: Option<(f64, f64)>, photometric: Photometric) -> Film {
        Film {
            width: samples.len(),
            height: 1,
            frames: 1,
            channels: 1,
            bytes_per_sample: 2,
            bits_stored: 12,
            signed: false,
            float: false,
            photometric,
            samples: samples
                .iter()
                .flat_map(|sample| sample.to_le_bytes())
                .collect(),
            display: Display {
                voi: window.map(|(centre, width)| Voi::Window(centre, width, Function::Linear)),
                ..Display::default()
            },
            stored: Stored::default(),
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

    fn ramp(display: Display, photometric: Photometric) -> Film {
        let samples: Vec<u16> = (0..1000).collect();
        Film {
            display,
            ..film(&samples, None, photometric)
        }
    }

    fn table(entries: Vec<u16>, bits: u32) -> Table {
        Table {
            first: 0.0,
            entries,
            bits,
        }
    }

    #[test]
    fn a_sigmoid_is_half_grey_at_its_centre_and_bends_at_its_ends() {
        let display = Display {
            voi: Some(Voi::Window(400.0, 200.0, Function::Sigmoid)),
            ..Display::default()
        };
        let film = ramp(display, Photometric::Monochrome2);
        let grey = render(&film, 0).pixels;
        // PS3.3 C.11.2.1.3.1: 255 / (1 + exp(-4 (x - c) / w)).
        assert_eq!([grey[400], grey[350], grey[450]], [128, 69, 186]);
        assert!(grey.is_sorted() && grey[0] == 0 && grey[999] == 255);
        // What it bends flat is looked at straight too.
        assert!(render_all(&film, 0).len() >= 2);
    }

    #[test]
    fn a_voi_table_is_followed_and_one_that_shows_nothing_is_not() {
        let shown = |entries: Vec<u16>| {
            let display = Display {
                voi: Some(Voi::Table(table(entries, 10))),
                ..Display::default()
            };
            render(&ramp(display, Photometric::Monochrome2), 0).pixels
        };
        let falling = shown((0..1000).map(|at| 1023 - at).collect());
        assert!(falling.is_sorted_by(|a, b| a >= b) && falling[0] == 255);
        let flat = shown(vec![512; 1000]);
        assert!(flat.is_sorted() && flat[0] == 0 && flat[999] == 255);
    }

    #[test]
    fn a_modality_table_comes_before_the_window() {
        let display = Display {
            modality: Modality::Table(table((0..1000).map(|at| at * 4).collect(), 12)),
            voi: Some(Voi::Window(2000.0, 400.0, Function::Linear)),
            ..Display::default()
        };
        let grey = render(&ramp(display, Photometric::Monochrome2), 0).pixels;
        assert_eq!((grey[440], grey[560]), (0, 255));
        assert!((120..136).contains(&grey[500]));
    }

    #[test]
    fn padding_is_dark_and_counts_for_no_range_but_is_looked_at() {
        let mut samples: Vec<u16> = (0..1000).collect();
        samples[..400].fill(4000);
        let mut film = film(&samples, None, Photometric::Monochrome2);
        film.display.padding = Some((4000.0, 4000.0));
        let grey = render(&film, 0).pixels;
        assert_eq!((grey[0], grey[399], grey[999]), (0, 0, 255));
        assert!(grey[700] > 100, "the range is that of the picture");
        let views = render_all(&film, 0);
        assert!(views.iter().any(|view| view.pixels[0] == 255));
    }
}
