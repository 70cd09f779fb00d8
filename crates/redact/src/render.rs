//! After `decode`, before `find`: stored values become the 8-bit grey that a person (and the detector)
//! would see. Text can hide outside the window that the header asks for, in colours of one luminance, in
//! entries of a palette, in a second window: `find` also gets views of those places (`views`).

use crate::film::{Film, Function, Modality, Photometric, Voi};
use crate::views::{added, clipped};

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
        let flip = if invert { 255 } else { 0 };
        // `as` saturates: below the window is 0, above is 255.
        let grey = |&value: &f32| ((f64::from(value) - self.low) * scale + 0.5) as u8 ^ flip;
        values.iter().map(grey).collect()
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

/// The views of one frame at a time, rendered once for everybody who looks at it.
pub(crate) struct Views<'f> {
    film: &'f Film,
    held: Option<(usize, Vec<Grey>)>,
}

impl<'f> Views<'f> {
    pub(crate) const fn of(film: &'f Film) -> Self {
        Self { film, held: None }
    }

    pub(crate) const fn film(&self) -> &'f Film {
        self.film
    }

    /// Every view of a frame, the meant one first.
    pub(crate) fn frame(&mut self, frame: usize) -> &[Grey] {
        if self.held.as_ref().is_none_or(|(held, _)| *held != frame) {
            // The views before go first: both together are twice the memory.
            self.held = None;
            self.held = Some((frame, render_all(self.film, frame)));
        }
        self.held.as_ref().map_or(&[], |(_, views)| views)
    }
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
        Photometric::Palette => palette(film, frame, all),
        Photometric::Rgb => {
            let [red, green, blue] = [0, 1, 2].map(|channel| eight_bits(film, frame, channel));
            let pixels = red.iter().zip(&green).zip(&blue);
            colours(film, pixels.map(|((&r, &g), &b)| [r, g, b]), all)
        }
        Photometric::YbrFull => {
            let [first, blue, red] = [0, 1, 2].map(|channel| eight_bits(film, frame, channel));
            let mut views = vec![first];
            if all {
                differences(film, [blue, red], &mut views);
            }
            views
        }
    }
}

/// Luminance, and colour differences where they show something that luminance may not.
fn colours(film: &Film, pixels: impl Iterator<Item = [u8; 3]>, all: bool) -> Vec<Vec<u8>> {
    let (mut first, mut blue, mut red) = (Vec::new(), Vec::new(), Vec::new());
    for [r, g, b] in pixels {
        let grey = luminance(r, g, b);
        first.push(grey);
        if all {
            let difference = |colour: u8| ((i16::from(colour) - i16::from(grey)) / 2 + 128) as u8;
            blue.push(difference(b));
            red.push(difference(r));
        }
    }
    let mut views = vec![first];
    if all {
        differences(film, [blue, red], &mut views);
    }
    views
}

/// Contrast below this in a colour difference is the noise of its compression.
const LEAST_COLOUR: u8 = 12;

fn differences(film: &Film, planes: [Vec<u8>; 2], views: &mut Vec<Vec<u8>>) {
    for plane in planes {
        let low = plane.iter().min().copied().unwrap_or(0);
        let size = plane.iter().max().copied().unwrap_or(0).saturating_sub(low);
        if let Some(mut view) = added(&[], plane, film.width, LEAST_COLOUR, true) {
            for pixel in &mut view {
                let above = u16::from(pixel.saturating_sub(low));
                *pixel = (above * 255 / u16::from(size.max(1))) as u8;
            }
            views.push(view);
        }
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

fn palette(film: &Film, frame: usize, all: bool) -> Vec<Vec<u8>> {
    let values = film.values(frame, 0);
    let Some((first, table)) = &film.display.palette else {
        return vec![whole(film).apply(&values, false)];
    };
    let pixels = values.iter().map(|&value| {
        let at = usize::try_from(value as i32 - first)
            .unwrap_or(0)
            .min(table.len().saturating_sub(1));
        table.get(at).copied().unwrap_or_default()
    });
    let mut views = colours(film, pixels, all);
    if all {
        // A table can give two entries one colour.
        let low = values.iter().copied().min_by(f32::total_cmp);
        let high = values.iter().copied().max_by(f32::total_cmp);
        let (low, high) = (low.unwrap_or(0.0).into(), high.unwrap_or(0.0).into());
        let raw = Range { low, high }.apply(&values, false);
        views.extend(added(&views, raw, film.width, LEAST_CONTRAST, false));
    }
    views
}

/// Contrast that a further view of grey values must have.
const LEAST_CONTRAST: u8 = 10;

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
        .filter(|&value| value.abs() < f32::MAX && !is_padding(value))
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
    let straight = window(film, film.display.voi.as_ref()).filter(|&(a, b)| {
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
    let curve = Curve::of(film, film.display.voi.as_ref()).filter(|curve| {
        let shown = |share: f64| curve.grey(at(share));
        // The same goes for a table or curve.
        shown(0.995).abs_diff(shown(0.005)) >= 16 || sample.is_empty()
    });
    let meant = match &curve {
        Some(curve) => curve.apply(&values, invert),
        None => chosen.apply(&values, invert),
    };
    let mut out = vec![meant];
    if padding.is_some() {
        let (mut padded, mut differs) = (out.clone(), false);
        for (grey, _) in padded
            .iter_mut()
            .flatten()
            .zip(&values)
            .filter(|(_, value)| is_padding(**value))
        {
            // Padding is no picture: it is dark whichever way the picture runs.
            differs |= *grey != 0;
            *grey = 0;
        }
        // Padding can hide what is written in it.
        padded.extend(out.pop().filter(|_| all && differs));
        out = padded;
    }
    if all {
        // So can bent curves.
        if curve.is_some() {
            out.push(robust.apply(&values, invert));
        }
        let plain = if curve.is_some() { robust } else { chosen };
        let span = plain.high - plain.low;
        out.extend(clipped(&values, film.width, plain.high, span, 1.0));
        out.extend(clipped(&values, film.width, plain.low, span, -1.0));
        // A few bright plates can press the rest together.
        let (low, high) = (at(0.05), at(0.95));
        let middle = Range {
            low: low - (high - low),
            high: (high + (high - low)).max(low + least),
        };
        let further = film.display.others.iter().map(|voi| {
            let straight = window(film, Some(voi)).map(|(a, b)| Range {
                low: a.min(b),
                high: a.max(b).max(a.min(b) + least),
            });
            match (Curve::of(film, Some(voi)), straight) {
                (Some(curve), _) => curve.apply(&values, invert),
                (None, range) => range.unwrap_or(plain).apply(&values, invert),
            }
        });
        let squeezed = (middle.high - middle.low) * 2.0 < span;
        let middle = squeezed.then(|| middle.apply(&values, invert));
        for view in middle.into_iter().chain(further) {
            out.extend(added(&out, view, film.width, LEAST_CONTRAST, false));
        }
    }
    out
}

/// The stored values that a straight window shows darkest and brightest; none for what is not
/// straight. The first is the higher one where the picture is inverted.
fn window(film: &Film, voi: Option<&Voi>) -> Option<(f64, f64)> {
    let Some(Voi::Window(centre, width, function)) = voi else {
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
    voi: Option<&'f Voi>,
}

impl<'f> Curve<'f> {
    fn of(film: &'f Film, voi: Option<&'f Voi>) -> Option<Self> {
        let bent = matches!(
            (&film.display.modality, voi),
            (Modality::Table(_), _)
                | (
                    _,
                    Some(Voi::Table(_) | Voi::Window(_, _, Function::Sigmoid))
                )
        );
        bent.then_some(Self { film, voi })
    }

    fn grey(&self, stored: f64) -> u8 {
        let display = &self.film.display;
        let (value, most) = match &display.modality {
            Modality::Identity => (stored, None),
            Modality::Linear(slope, intercept) => (stored * slope + intercept, None),
            Modality::Table(table) => (table.at(stored), Some(table.bits)),
        };
        let share = match self.voi {
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
        let mut samples: Vec<u16> = (0..1000).collect();
        samples[900..]
            .iter_mut()
            .step_by(4)
            .for_each(|sample| *sample = 3000);
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
                &film(
                    &samples[..900],
                    Some((500.0, 1000.0)),
                    Photometric::Monochrome2
                ),
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

    /// A square whose columns are striped with these two values.
    fn striped(one: &[u16], other: &[u16], photometric: Photometric) -> Film {
        let samples: Vec<u16> = (0..64 * 64)
            .flat_map(|at| if at % 64 % 6 < 3 { one } else { other }.to_vec())
            .collect();
        Film {
            width: 64,
            height: 64,
            channels: one.len(),
            bits_stored: 8,
            ..film(&samples, None, photometric)
        }
    }

    fn most_contrast(film: &Film) -> u8 {
        let views = render_all(film, 0);
        let spans = views
            .iter()
            .map(|view| view.pixels[1].abs_diff(view.pixels[4]));
        spans.max().unwrap()
    }

    #[test]
    fn colours_of_one_luminance_are_told_apart() {
        let film = striped(&[100, 100, 100], &[200, 68, 0], Photometric::Rgb);
        let grey = render(&film, 0).pixels;
        assert!(grey[1].abs_diff(grey[4]) < 3);
        assert!(most_contrast(&film) > 200);
        let film = striped(&[100, 128, 128], &[100, 128, 160], Photometric::YbrFull);
        assert!(most_contrast(&film) > 200);
        // A grey film in three channels costs what one in one does.
        let film = striped(&[100, 100, 100], &[200, 200, 200], Photometric::Rgb);
        assert_eq!(render_all(&film, 0).len(), 1);
    }

    #[test]
    fn entries_of_a_palette_are_told_apart_whatever_their_colours() {
        let mut film = striped(&[10], &[200], Photometric::Palette);
        film.display.palette = Some((0, vec![[90, 90, 90]; 256]));
        assert!(most_contrast(&film) > 200);
        let mut table = vec![[100, 100, 100]; 256];
        table[11] = [200, 68, 0];
        let mut film = striped(&[10], &[11], Photometric::Palette);
        film.display.palette = Some((0, table));
        assert!(most_contrast(&film) > 200);
    }

    #[test]
    fn a_second_window_is_looked_through_where_it_shows_more() {
        let mut film = striped(&[1000], &[1010], Photometric::Monochrome2);
        film.bits_stored = 12;
        // The lower half fills the first window.
        let pairs = film.samples.as_chunks_mut::<2>().0.iter_mut();
        for (at, pair) in pairs.enumerate().skip(64 * 32) {
            *pair = ((at % 64 * 60) as u16).to_le_bytes();
        }
        let window = |centre, width| Voi::Window(centre, width, Function::Linear);
        film.display.voi = Some(window(2048.0, 4096.0));
        assert!(most_contrast(&film) < 3);
        film.display.others = vec![window(1005.0, 20.0)];
        assert!(most_contrast(&film) > 100);
        film.display.others = vec![window(2000.0, 4000.0)];
        assert_eq!(render_all(&film, 0).len(), 1);
    }

    #[test]
    fn a_small_plate_on_a_large_film_is_read() {
        let mut samples: Vec<u16> = (0..400 * 400).map(|at| 300 + (at % 400) as u16).collect();
        for y in 50..66 {
            for x in 100..130 {
                samples[y * 400 + x] = if x % 6 < 3 { 2400 } else { 4000 };
            }
        }
        for stray in [4000, 65_535] {
            samples[7] = stray;
            for window in [None, Some((600.0, 800.0))] {
                let mut film = film(&samples, window, Photometric::Monochrome2);
                (film.width, film.height, film.bits_stored) = (400, 400, 16);
                let views = render_all(&film, 0);
                let at = 58 * 400 + 115;
                let seen = views
                    .iter()
                    .any(|view| view.pixels[at].abs_diff(view.pixels[at + 3]) > 200);
                assert!(seen, "{window:?}");
            }
        }
    }
}
