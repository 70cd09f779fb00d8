//! The three graphs of a `report` bundle. Vision and prefix run once per film and request, always
//! alone; only steps are batched.

use cloister_onnx::ort::value::Tensor;
use cloister_onnx::ort::{self, inputs};
use cloister_onnx::{Bundle, Runtime, Session, SessionOptions};

use super::EngineError;
use super::preprocess::Input;
use super::spec::ReportSpec;
use super::text::TextIds;

/// Vision, prefix and step.
#[derive(Debug)]
pub struct Graphs {
    vision: Session,
    prefix: Session,
    pub(crate) step: Session,
    pub(crate) layers: usize,
    max_films: usize,
    labels: usize,
}

/// Keys or values of one layer for one row: heads, places, width of a head.
#[derive(Debug, Clone)]
pub(crate) struct Plane {
    pub(crate) shape: [usize; 3],
    pub(crate) data: Vec<f32>,
}

/// What a request is before decoding.
#[derive(Debug, Clone)]
pub struct Encoded {
    pub(crate) keys: Vec<Plane>,
    pub(crate) values: Vec<Plane>,
    pub(crate) mask: Vec<i64>,
    /// One logit per label: the maximum over the films.
    pub label_logits: Vec<f32>,
}

impl Graphs {
    /// Loads the three graphs.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn load(
        runtime: &Runtime,
        bundle: &Bundle,
        options: SessionOptions,
        spec: &ReportSpec,
    ) -> Result<Self, EngineError> {
        let open = |name: &str, what: &'static str| {
            let model = bundle.read(name).map_err(|_| EngineError::Bundle(what))?;
            Session::load(runtime, &model, options)
                .map_err(|error| EngineError::Graph(error.to_string()))
        };
        let step = open(&spec.graphs.step, "the step graph")?;
        let layers = step
            .input_names()
            .iter()
            .filter(|name| name.starts_with("past_k_"))
            .count();
        if layers == 0 || layers != spec.graphs.decoder_layers {
            return Err(EngineError::Bundle("one past_k per decoder layer"));
        }
        Ok(Self {
            vision: open(&spec.graphs.vision, "the vision graph")?,
            prefix: open(&spec.graphs.prefix, "the prefix graph")?,
            step,
            layers,
            max_films: spec.max_films,
            labels: spec.labels.len(),
        })
    }

    /// Where the graphs really run.
    pub fn running(&self) -> &'static str {
        self.step.running().name()
    }

    /// Space for bound inputs and outputs of a step.
    pub(crate) fn binding(&self) -> Result<ort::session::IoBinding, EngineError> {
        self.step.inner().create_binding().map_err(graph)
    }

    /// Runs vision per film and the prefix once.
    ///
    /// # Errors
    /// [`EngineError::Graph`].
    pub fn encode(&mut self, films: &[Input], text: &TextIds) -> Result<Encoded, EngineError> {
        let mut image_tokens: Vec<f32> = Vec::new();
        let mut token_shape = [0, 0];
        let mut label_logits: Vec<f32> = Vec::new();
        for film in films.iter().take(self.max_films) {
            let shape = [1, 1, film.height, film.width];
            let pixels = Tensor::from_array((shape, film.pixels.clone())).map_err(graph)?;
            let outputs = self
                .vision
                .inner_mut()
                .run(inputs!["pixels" => pixels])
                .map_err(graph)?;
            let (shape, tokens) = floats(&outputs, "tokens")?;
            if let [_, places, width] = *shape {
                token_shape = [places, width];
            }
            image_tokens.extend_from_slice(tokens);
            let (_, logits) = floats(&outputs, "logits")?;
            // `max` passes over NaN: a broken graph would look like a film without findings.
            if logits.len() != self.labels || !logits.iter().all(|logit| logit.is_finite()) {
                return Err(EngineError::Graph(
                    "label logits are missing or not finite".to_owned(),
                ));
            }
            label_logits.resize(logits.len(), f32::NEG_INFINITY);
            for (highest, &logit) in label_logits.iter_mut().zip(logits) {
                *highest = highest.max(logit);
            }
        }
        let per_film = usize::try_from(token_shape[0] * token_shape[1]).unwrap_or(0);
        image_tokens.resize(per_film * self.max_films, 0.0);
        let film_mask: Vec<i64> = (0..self.max_films)
            .map(|film| i64::from(film < films.len()))
            .collect();
        let films_shape = [1, self.max_films as i64, token_shape[0], token_shape[1]];
        let text_shape = [1, text.ids.len()];
        let outputs = self
            .prefix
            .inner_mut()
            .run(inputs![
                "image_tokens" => Tensor::from_array((films_shape, image_tokens)).map_err(graph)?,
                "film_mask" => Tensor::from_array(([1, self.max_films], film_mask)).map_err(graph)?,
                "text_ids" => Tensor::from_array((text_shape, text.ids.clone())).map_err(graph)?,
                "text_mask" => Tensor::from_array((text_shape, text.mask.clone())).map_err(graph)?,
            ])
            .map_err(graph)?;
        let planes = |kind: &str| {
            (0..self.layers)
                .map(|layer| plane(&outputs, &format!("{kind}_{layer}")))
                .collect::<Result<Vec<_>, _>>()
        };
        let mask = outputs
            .get("cross_mask")
            .ok_or_else(|| missing("cross_mask"))?;
        let mask = mask.try_extract_tensor::<i64>().map_err(graph)?.1.to_vec();
        Ok(Encoded {
            keys: planes("k")?,
            values: planes("v")?,
            mask,
            label_logits,
        })
    }
}

fn plane(outputs: &ort::session::SessionOutputs<'_>, name: &str) -> Result<Plane, EngineError> {
    let (shape, data) = floats(outputs, name)?;
    let size = |at: usize| shape.get(at).and_then(|&size| usize::try_from(size).ok());
    match (size(1), size(2), size(3)) {
        (Some(heads), Some(places), Some(width)) if heads * places * width == data.len() => {
            Ok(Plane {
                shape: [heads, places, width],
                data: data.to_vec(),
            })
        }
        _ => Err(missing(name)),
    }
}

pub(crate) fn floats<'o>(
    outputs: &'o ort::session::SessionOutputs<'_>,
    name: &str,
) -> Result<(&'o [i64], &'o [f32]), EngineError> {
    let value = outputs.get(name).ok_or_else(|| missing(name))?;
    let (shape, data) = value.try_extract_tensor::<f32>().map_err(graph)?;
    Ok((shape, data))
}

pub(crate) fn missing(name: &str) -> EngineError {
    EngineError::Graph(format!("no usable output {name}"))
}

pub(crate) fn graph(error: ort::Error) -> EngineError {
    EngineError::Graph(error.to_string())
}
