//! The detector: bundle `text-ppocr` through `crates/onnx`. Used by `find` only.

use std::path::Path;

use cloister_onnx::{Bundle, Kind, Runtime, Session, SessionOptions, TrustedHashes};
use serde::Deserialize;

use crate::components::{Rule, Score};
use crate::error::RedactError;
use crate::recognise::{Recogniser, Recognition};

/// What a `text-detector` bundle says beside what every bundle says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    #[expect(dead_code, reason = "read by people")]
    licence: String,
    #[expect(dead_code, reason = "read by people")]
    training_data: String,
    input: Input,
    thresholds: Thresholds,
    /// Absent: nothing is read, and so nothing stays.
    recognition: Option<Recognition>,
}

/// How the net wants its picture.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    name: String,
    channels: String,
    mean: [f32; 3],
    std: [f32; 3],
    side_multiple: usize,
    tile_px: usize,
    tile_overlap_px: usize,
}

/// Where text begins.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    pixel: f32,
    component: f32,
}

/// What is left of both thresholds on a film that is known to show the patient's identifiers.
pub(crate) const ALERT: f32 = 0.6;

/// A loaded detector.
#[derive(Debug)]
pub(crate) struct Detector {
    session: Session,
    input: Input,
    thresholds: Thresholds,
    is_alert: bool,
}

/// Text probability per pixel.
#[derive(Debug)]
pub(crate) struct Map {
    pub(crate) width: usize,
    pub(crate) probability: Vec<f32>,
}

impl Detector {
    /// Loads the bundle if it is trusted and unaltered, and the net that reads if it holds one.
    pub(crate) fn load(
        bundle: &Path,
        library: &Path,
    ) -> Result<(Self, Option<Recogniser>), RedactError> {
        let failed = |_| RedactError::StartFailed;
        let trusted = TrustedHashes::compiled_in().map_err(|_| RedactError::StartFailed)?;
        let bundle = Bundle::load(bundle, &trusted).map_err(failed)?;
        bundle.require(Kind::TextDetector).map_err(failed)?;
        let spec: Spec = bundle.manifest().spec().map_err(failed)?;
        let sane = spec.input.side_multiple > 0
            && spec.input.tile_px >= 2 * spec.input.tile_overlap_px.max(spec.input.side_multiple)
            && spec.input.tile_px.is_multiple_of(spec.input.side_multiple)
            && spec.input.channels == "bgr";
        if !sane {
            return Err(RedactError::StartFailed);
        }
        let runtime = Runtime::init(library).map_err(|_| RedactError::StartFailed)?;
        let graph = bundle.read("det.onnx").map_err(failed)?;
        // Tiles come in many shapes, and a worker's memory has a limit.
        let options = SessionOptions {
            keep_memory: false,
            ..SessionOptions::default()
        };
        let session =
            Session::load(&runtime, &graph, options).map_err(|_| RedactError::StartFailed)?;
        if session.input_names() != [spec.input.name.clone()] {
            return Err(RedactError::StartFailed);
        }
        drop(graph);
        let recogniser = spec
            .recognition
            .map(|how| Recogniser::load(&bundle, how, &runtime))
            .transpose()?;
        let detector = Self {
            session,
            input: spec.input,
            thresholds: spec.thresholds,
            is_alert: false,
        };
        Ok((detector, recogniser))
    }

    pub(crate) const fn tile(&self) -> usize {
        self.input.tile_px
    }

    pub(crate) const fn overlap(&self) -> usize {
        self.input.tile_overlap_px
    }

    /// What makes a component. Text begins earlier while the detector is alert.
    pub(crate) const fn rule(&self) -> Rule {
        let scale = if self.is_alert { ALERT } else { 1.0 };
        Rule {
            pixel: self.thresholds.pixel * scale,
            component: self.thresholds.component * scale,
            score: Score::Mean,
            // Letters that the net separates by a thin gap stay one line.
            reach: 2,
            // A letter of eight pixels has about twenty in its core.
            smallest: 10,
        }
    }

    /// Makes the detector alert, or not any more.
    pub(crate) const fn alert(&mut self, is_alert: bool) {
        self.is_alert = is_alert;
    }

    /// Looks at one tile. Sides that are no multiple of the net's step are padded by repeating the
    /// last row and column; the map has the padded width.
    pub(crate) fn look(
        &mut self,
        pixels: &[u8],
        width: usize,
        height: usize,
    ) -> Result<Map, RedactError> {
        let step = self.input.side_multiple;
        let (padded_width, padded_height) =
            (width.next_multiple_of(step), height.next_multiple_of(step));
        let mut plane = Vec::with_capacity(padded_width * padded_height);
        for row in 0..padded_height {
            let start = row.min(height.saturating_sub(1)) * width;
            let line = pixels
                .get(start..start + width)
                .ok_or(RedactError::DetectorFailed)?;
            plane.extend_from_slice(line);
            plane.extend(std::iter::repeat_n(
                line.last().copied().unwrap_or(0),
                padded_width - width,
            ));
        }
        let mut data = Vec::with_capacity(plane.len() * 3);
        for (mean, std) in self.input.mean.iter().zip(&self.input.std) {
            let table: Vec<f32> = (0..=255_u8)
                .map(|v| (f32::from(v) / 255.0 - mean) / std)
                .collect();
            data.extend(
                plane
                    .iter()
                    .map(|&v| table.get(usize::from(v)).copied().unwrap_or(0.0)),
            );
        }
        let out = self
            .session
            .run_single(&[1, 3, padded_height, padded_width], data)
            .map_err(|_| RedactError::DetectorFailed)?;
        let right_size = out.data.len() == padded_width * padded_height;
        // A NaN compares false with every threshold: it would pass for "no text".
        if !right_size || out.data.iter().any(|p| !p.is_finite()) {
            return Err(RedactError::DetectorFailed);
        }
        Ok(Map {
            width: padded_width,
            probability: out.data,
        })
    }
}
