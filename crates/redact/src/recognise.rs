//! Used by `reading`: what does one line of text say? The recognition net of the bundle, greedy CTC.

use cloister_onnx::{Bundle, Runtime, Session, SessionOptions};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::error::RedactError;
use crate::render::Grey;

/// Name of the graph inside the bundle.
const GRAPH: &str = "rec.onnx";

/// How the net wants its line.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recognition {
    input: String,
    mean: f32,
    std: f32,
    height_px: usize,
    /// Narrower lines are padded to this.
    min_width_px: usize,
    /// Longer ones are squeezed into this.
    max_width_px: usize,
    /// Metadata key of the graph: one character a line, the blank before and the space after them.
    alphabet: String,
}

/// What a line says. Whoever holds it holds what was burned into a film: it is wiped on drop and
/// cannot be printed.
#[derive(Clone, Default)]
pub(crate) struct Line {
    pub(crate) text: Zeroizing<String>,
    /// Mean probability of its characters, 0 for no text.
    pub(crate) confidence: f32,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Line")
    }
}

/// A loaded recognition net.
#[derive(Debug)]
pub(crate) struct Recogniser {
    session: Session,
    how: Recognition,
    alphabet: Vec<String>,
}

impl Recogniser {
    /// Loads the net of a bundle that is already known to be trusted and unaltered.
    pub(crate) fn load(
        bundle: &Bundle,
        how: Recognition,
        runtime: &Runtime,
    ) -> Result<Self, RedactError> {
        let sane = how.height_px > 0
            && (1..=how.max_width_px).contains(&how.min_width_px)
            && how.max_width_px <= 4096
            && how.std > 0.0;
        if !sane {
            return Err(RedactError::StartFailed);
        }
        let graph = bundle.read(GRAPH).map_err(|_| RedactError::StartFailed)?;
        // Lines come in many widths, and a worker's memory has a limit.
        let options = SessionOptions {
            keep_memory: false,
            ..SessionOptions::default()
        };
        let session =
            Session::load(runtime, &graph, options).map_err(|_| RedactError::StartFailed)?;
        drop(graph);
        let characters = session
            .inner()
            .metadata()
            .ok()
            .and_then(|metadata| metadata.custom(&how.alphabet))
            .ok_or(RedactError::StartFailed)?;
        let alphabet: Vec<String> = std::iter::once(String::new())
            .chain(characters.lines().map(str::to_owned))
            .chain([" ".to_owned()])
            .collect();
        if session.input_names() != [how.input.clone()] || alphabet.len() < 3 {
            return Err(RedactError::StartFailed);
        }
        Ok(Self {
            session,
            how,
            alphabet,
        })
    }

    /// Reads a line that runs from left to right.
    pub(crate) fn read(&mut self, line: &Grey) -> Result<Line, RedactError> {
        if line.width == 0 || line.height == 0 {
            return Ok(Line::default());
        }
        let height = self.how.height_px;
        let natural = (line.width * height).div_ceil(line.height);
        let width = natural.clamp(1, self.how.max_width_px);
        let padded = width.max(self.how.min_width_px);
        let small = resized(line, width, height);
        let mut plane = vec![0.0; padded * height];
        for (to, from) in plane
            .chunks_exact_mut(padded)
            .zip(small.pixels.chunks_exact(width))
        {
            for (value, &grey) in to.iter_mut().zip(from) {
                *value = (f32::from(grey) / 255.0 - self.how.mean) / self.how.std;
            }
        }
        // Grey: the three channels are one.
        let data = [plane.as_slice(), &plane, &plane].concat();
        let out = self
            .session
            .run_single(&[1, 3, height, padded], data)
            .map_err(|_| RedactError::DetectorFailed)?;
        let classes = self.alphabet.len();
        let right_shape = out.shape.len() == 3
            && out.shape.last() == Some(&classes)
            && out.data.len().is_multiple_of(classes);
        if !right_shape || out.data.iter().any(|p| !p.is_finite()) {
            return Err(RedactError::DetectorFailed);
        }
        Ok(decoded(&out.data, &self.alphabet))
    }
}

/// Greedy CTC: the likeliest class of each step, repeats once, blanks (class 0) not at all.
fn decoded(steps: &[f32], alphabet: &[String]) -> Line {
    let mut text = Zeroizing::new(String::with_capacity(128));
    let (mut sum, mut count, mut last) = (0.0, 0_u32, 0);
    for step in steps.chunks_exact(alphabet.len().max(1)) {
        let best = step
            .iter()
            .enumerate()
            .max_by(|(_, a), (_, b)| a.total_cmp(b));
        let Some((class, probability)) = best else {
            continue;
        };
        if class != 0 && class != last {
            text.push_str(alphabet.get(class).map_or("", String::as_str));
            sum += probability;
            count += 1;
        }
        last = class;
    }
    Line {
        text,
        confidence: if count == 0 { 0.0 } else { sum / count as f32 },
    }
}

/// Scales to any size: the mean of the pixels under each new one when it shrinks, linear between
/// pixel centres when it grows.
pub(crate) fn resized(view: &Grey, width: usize, height: usize) -> Grey {
    let across = weights(view.width, width);
    let down = weights(view.height, height);
    let mut rows = Vec::with_capacity(width * view.height);
    for row in view.pixels.chunks_exact(view.width.max(1)) {
        for (from, shares) in &across {
            let parts = row.get(*from..).unwrap_or_default().iter().zip(shares);
            rows.push(parts.map(|(&v, share)| f32::from(v) * share).sum::<f32>());
        }
    }
    let mut pixels = Vec::with_capacity(width * height);
    for (from, shares) in &down {
        for x in 0..width {
            let sum: f32 = shares
                .iter()
                .enumerate()
                .map(|(at, share)| {
                    rows.get((from + at) * width + x).copied().unwrap_or(0.0) * share
                })
                .sum();
            pixels.push((sum + 0.5) as u8);
        }
    }
    Grey {
        width,
        height,
        pixels,
    }
}

/// For each new pixel the first old one that it is made of, and the shares of it and the next.
fn weights(old: usize, new: usize) -> Vec<(usize, Vec<f32>)> {
    let scale = old as f32 / new.max(1) as f32;
    let reach = scale.max(1.0);
    (0..new)
        .map(|at| {
            let centre = (at as f32 + 0.5) * scale;
            let from = (centre - reach).floor().max(0.0) as usize;
            let to = ((centre + reach).ceil() as usize).clamp(from + 1, old.max(from + 1));
            let mut shares: Vec<f32> = (from..to)
                .map(|place| (1.0 - ((place as f32 + 0.5 - centre) / reach).abs()).max(0.0))
                .collect();
            let sum: f32 = shares.iter().sum::<f32>().max(1e-6);
            for share in &mut shares {
                *share /= sum;
            }
            (from, shares)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{decoded, resized};
    use crate::render::Grey;

    #[test]
    fn repeats_are_one_character_unless_a_blank_stands_between() {
        let alphabet: Vec<String> = ["", "a", "b", " "].map(str::to_owned).to_vec();
        let steps: Vec<f32> = [1, 1, 0, 1, 2, 2, 0, 0, 3]
            .into_iter()
            .flat_map(|class| (0..4).map(move |at| if at == class { 0.75 } else { 0.1 }))
            .collect();
        let line = decoded(&steps, &alphabet);
        assert_eq!((line.text.as_str(), line.confidence), ("aab ", 0.75));
        assert_eq!(decoded(&[], &alphabet).confidence, 0.0);
        assert!(!format!("{line:?}").contains("aab"));
    }

    proptest::proptest! {
        #[test]
        fn resizing_keeps_a_flat_picture_flat(grey in 0u8.., w in 1usize..40, h in 1usize..40, width in 1usize..80, height in 1usize..80) {
            let flat = Grey { width: w, height: h, pixels: vec![grey; w * h] };
            let out = resized(&flat, width, height);
            proptest::prop_assert_eq!(out.pixels, vec![grey; width * height]);
        }
    }
}
