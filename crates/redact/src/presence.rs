//! The text-presence net: bundle `text-presence` through `crates/onnx`. Used by `find`, which lets it look
//! at every pixel: at native scale, and from afar for letters that fill the first look. It answers per
//! cell of four by four pixels whether something is written there; it does not read.

use std::path::Path;

use cloister_onnx::{Bundle, Kind, Runtime, Session, SessionOptions, TrustedHashes};
use serde::Deserialize;

use crate::components::{Component, Rule, Score, components};
use crate::error::RedactError;
use crate::model::{ALERT, Map};
use crate::render::Grey;

/// Name of the graph inside the bundle.
const GRAPH: &str = "presence.onnx";
/// Pixels of one run: its planes fit in a processor's cache for the most part, and in what the allocator keeps
/// from one run to the next.
const PIXELS_AT_ONCE: usize = 2 << 20;
/// Pixels around a cell beyond which the net sees nothing: rows that two runs share, and how far a change
/// of the film reaches.
pub(crate) const REACH: usize = 192;
/// Share that is left of the doubt about a sure component when it is plain.
const PLAIN: f32 = 0.5;
/// Sides of what is looked at, at least.
const SMALLEST_SIDE: usize = 32;

/// What the bundle says beside what every bundle says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    #[expect(dead_code, reason = "read by people")]
    licence: String,
    #[expect(dead_code, reason = "read by people")]
    training_data: String,
    input: Input,
    thresholds: Thresholds,
}

/// How the net wants its picture: grey, 0 to 255.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    name: String,
    channels: String,
    side_multiple: usize,
    /// Pixels of the film per cell of the map.
    stride: usize,
    /// Every further look is at a film so many times smaller.
    coarse: usize,
    /// Places from afar that are lower or narrower are left to the look before; in pixels of the film.
    coarse_from_px: usize,
}

/// Where text begins.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    /// A cell belongs to a component.
    pixel: f32,
    /// Highest probability of a component that another net confirms or not.
    doubtful: f32,
    /// Highest probability of a component that is blanked without asking anybody.
    component: f32,
    /// Pixels that a box grows on every side.
    grow_px: usize,
}

/// A loaded net.
#[derive(Debug)]
pub(crate) struct Presence {
    session: Session,
    input: Input,
    thresholds: Thresholds,
    is_alert: bool,
}

/// What one view shows, in its pixels.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Text.
    pub(crate) sure: Vec<Component>,
    /// Perhaps.
    pub(crate) doubtful: Vec<Component>,
    /// Perhaps large letters, on the film made smaller. A net this small takes organs for letters from afar:
    /// by itself it is never sure there.
    pub(crate) far: Option<Far>,
}

/// A look from afar.
#[derive(Debug)]
pub(crate) struct Far {
    /// The film, made smaller.
    pub(crate) picture: Grey,
    /// How many times.
    pub(crate) factor: usize,
    /// Places, in pixels of the picture.
    pub(crate) places: Vec<Component>,
}

impl Presence {
    /// Loads the bundle if it is trusted and unaltered.
    pub(crate) fn load(bundle: &Path, library: &Path) -> Result<Self, RedactError> {
        let failed = |_| RedactError::StartFailed;
        let trusted = TrustedHashes::compiled_in().map_err(|_| RedactError::StartFailed)?;
        let bundle = Bundle::load(bundle, &trusted).map_err(failed)?;
        bundle.require(Kind::TextDetector).map_err(failed)?;
        let spec: Spec = bundle.manifest().spec().map_err(failed)?;
        let sane = spec.input.channels == "grey"
            && spec.input.stride > 0
            && spec.input.side_multiple >= spec.input.stride
            && spec.input.side_multiple.is_multiple_of(spec.input.stride)
            && REACH.is_multiple_of(spec.input.side_multiple)
            && spec.input.coarse > 1
            && spec.thresholds.doubtful <= spec.thresholds.component;
        if !sane {
            return Err(RedactError::StartFailed);
        }
        let runtime = Runtime::init(library).map_err(|_| RedactError::StartFailed)?;
        let graph = bundle.read(GRAPH).map_err(failed)?;
        // Films come in many shapes, and a worker's memory has a limit.
        let options = SessionOptions {
            keep_memory: false,
            ..SessionOptions::default()
        };
        let session =
            Session::load(&runtime, &graph, options).map_err(|_| RedactError::StartFailed)?;
        if session.input_names() != [spec.input.name.clone()] {
            return Err(RedactError::StartFailed);
        }
        Ok(Self {
            session,
            input: spec.input,
            thresholds: spec.thresholds,
            is_alert: false,
        })
    }

    /// Makes the net alert, or not any more: text begins earlier then.
    pub(crate) const fn alert(&mut self, is_alert: bool) {
        self.is_alert = is_alert;
    }

    /// The next place to the left and above from which a part is seen as within the whole.
    pub(crate) const fn aligned(&self, left: usize, top: usize) -> (usize, usize) {
        let step = self.input.side_multiple;
        (left / step * step, top / step * step)
    }

    /// Looks at one view, near and from afar.
    pub(crate) fn look(&mut self, view: &Grey) -> Result<Seen, RedactError> {
        let mut seen = self.look_near(view)?;
        let factor = self.input.coarse;
        if view.width.min(view.height) >= SMALLEST_SIDE * factor {
            let picture = shrunk(view, factor);
            let places = self.places(&picture)?.into_iter();
            let least = self.input.coarse_from_px / factor;
            let is_large =
                |one: &Component| (one.right - one.left).min(one.bottom - one.top) >= least;
            seen.far = Some(Far {
                places: places.filter(is_large).collect(),
                picture,
                factor,
            });
        }
        Ok(seen)
    }

    /// Only at native scale.
    pub(crate) fn look_near(&mut self, view: &Grey) -> Result<Seen, RedactError> {
        let sure = self.thresholds.component * self.scale();
        let (sure, doubtful) = self
            .places(view)?
            .into_iter()
            .partition(|one| one.score >= sure);
        Ok(Seen {
            sure,
            doubtful,
            far: None,
        })
    }

    /// Whether nobody could take a place for anything but text. The last look asks for more than the first: a
    /// film whose grey has shifted by a step is no reason to hold it back.
    pub(crate) fn is_plain(&self, place: &Component) -> bool {
        place.score >= 1.0 - (1.0 - self.thresholds.component) * PLAIN
    }

    const fn scale(&self) -> f32 {
        if self.is_alert { ALERT } else { 1.0 }
    }

    /// Components of a picture's map, in its pixels.
    fn places(&mut self, picture: &Grey) -> Result<Vec<Component>, RedactError> {
        let map = self.map(picture)?;
        let rule = Rule {
            pixel: self.thresholds.pixel * self.scale(),
            component: self.thresholds.doubtful * self.scale(),
            score: Score::Highest,
            reach: 1,
            smallest: 1,
        };
        let cell = self.input.stride;
        let (columns, rows) = (picture.width.div_ceil(cell), picture.height.div_ceil(cell));
        let grow = self.thresholds.grow_px;
        let grown = |core: Component| Component {
            left: (core.left * cell).saturating_sub(grow),
            top: (core.top * cell).saturating_sub(grow),
            right: (core.right * cell + grow).min(picture.width),
            bottom: (core.bottom * cell + grow).min(picture.height),
            thickness: core.thickness * cell,
            score: core.score,
        };
        let found = components(&map, columns, rows, rule).into_iter().map(grown);
        Ok(found
            .filter(|one| one.left < one.right && one.top < one.bottom)
            .collect())
    }

    /// The probability per cell that something is written there, in bands that share rows.
    fn map(&mut self, grey: &Grey) -> Result<Map, RedactError> {
        let step = self.input.side_multiple;
        let columns = grey.width.next_multiple_of(step) / self.input.stride;
        let rows = grey.height.next_multiple_of(step) / self.input.stride;
        let mut probability = vec![0.0_f32; columns * rows];
        let band = band_of(grey.height, grey.width.next_multiple_of(step), step);
        let mut top = 0;
        loop {
            let bottom = (top + band).min(grey.height);
            let part = self.run(grey, top, bottom)?;
            // Where bands overlap, what either saw.
            let from = top / self.input.stride * columns;
            for (known, new) in probability.iter_mut().skip(from).zip(part) {
                *known = known.max(new);
            }
            if bottom == grey.height {
                break;
            }
            top = bottom - REACH;
        }
        Ok(Map {
            width: columns,
            probability,
        })
    }

    /// One run over rows `top` to `bottom`; sides are filled up by repeating the last row and column.
    fn run(&mut self, grey: &Grey, top: usize, bottom: usize) -> Result<Vec<f32>, RedactError> {
        let step = self.input.side_multiple;
        let (width, height) = (
            grey.width.next_multiple_of(step),
            (bottom - top).next_multiple_of(step),
        );
        let mut plane = Vec::with_capacity(width * height);
        for row in 0..height {
            let start = (top + row).min(bottom.saturating_sub(1)) * grey.width;
            let line = grey
                .pixels
                .get(start..start + grey.width)
                .ok_or(RedactError::DetectorFailed)?;
            plane.extend(line.iter().map(|&pixel| f32::from(pixel)));
            let last = f32::from(line.last().copied().unwrap_or(0));
            plane.extend(std::iter::repeat_n(last, width - grey.width));
        }
        let out = self
            .session
            .run_single(&[1, 1, height, width], plane)
            .map_err(|_| RedactError::DetectorFailed)?;
        let cells = width / self.input.stride * (height / self.input.stride);
        let mut map = out.data;
        // Two maps: written, and written as a marker. A NaN compares false with every threshold: it would
        // pass for "no text".
        if map.len() != 2 * cells || map.iter().any(|p| !p.is_finite()) {
            return Err(RedactError::DetectorFailed);
        }
        map.truncate(cells);
        Ok(map)
    }
}

/// Rows of one run: as few runs as may be, of equal height.
fn band_of(height: usize, width: usize, step: usize) -> usize {
    let most = (PIXELS_AT_ONCE / width.max(1)).max(2 * REACH);
    let runs = height.saturating_sub(REACH).div_ceil(most - REACH).max(1);
    (height.saturating_sub(REACH).div_ceil(runs) + REACH).next_multiple_of(step)
}

/// Means over squares of `factor` pixels; what is left over at the right and lower ends is dropped.
fn shrunk(view: &Grey, factor: usize) -> Grey {
    let (width, height) = (view.width / factor, view.height / factor);
    let area = (factor * factor) as u32;
    let mut pixels = Vec::with_capacity(width * height);
    let mut sums = vec![0_u32; width];
    for rows in view.pixels.chunks_exact(view.width * factor).take(height) {
        sums.fill(0);
        for row in rows.chunks_exact(view.width) {
            for (sum, part) in sums.iter_mut().zip(row.chunks_exact(factor)) {
                *sum += part.iter().map(|&pixel| u32::from(pixel)).sum::<u32>();
            }
        }
        pixels.extend(
            sums.iter()
                .map(|sum| ((2 * sum + area) / (2 * area)).min(255) as u8),
        );
    }
    Grey {
        width,
        height,
        pixels,
    }
}

#[cfg(test)]
mod tests {
    use super::{PIXELS_AT_ONCE, REACH, band_of, shrunk};
    use crate::render::Grey;

    #[test]
    fn bands_cover_a_film_and_are_small_enough() {
        for (height, width) in [
            (1, 32),
            (190, 320),
            (2000, 2016),
            (4280, 3520),
            (9000, 640),
            (3000, 16_000),
        ] {
            let band = band_of(height, width, 32);
            assert!(band.is_multiple_of(32) && (band > REACH || height <= REACH));
            let small_enough = band * width <= PIXELS_AT_ONCE + 32 * width;
            assert!(
                small_enough || band <= 2 * REACH + 32,
                "{height} x {width}: {band}"
            );
            assert!(height <= band || band > REACH, "every run goes further");
        }
    }

    #[test]
    fn a_shrunken_pixel_is_the_mean_of_its_square() {
        let view = Grey {
            width: 7,
            height: 4,
            pixels: (0..28).collect(),
        };
        let small = shrunk(&view, 3);
        assert_eq!((small.width, small.height), (2, 1));
        assert_eq!(small.pixels, [8, 11]);
    }
}
