//! Fourth step: the model. Before it: `screen`. After it: `check`.
//!
//! `Engine` is what a model has to do; `onnx` runs a `report` bundle, `scripted` answers from a
//! file, for tests. Neither sees anything but clean pixels, a screened query and the context.

pub(crate) mod spec;

pub(crate) mod preprocess;

pub(crate) mod text;

pub(crate) mod graphs;

pub(crate) mod guess;

pub(crate) mod decode;

pub(crate) mod onnx;
pub(crate) mod scripted;
pub(crate) mod sentences;

use std::sync::Arc;

use cloister_proto::v1;
use futures_util::future::BoxFuture;
use image::GrayImage;

use crate::error::Fault;
use crate::screen::Screened;

/// A model could not draft.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// Too many requests wait.
    #[error("too many requests are waiting")]
    Overloaded,
    /// The engine has stopped.
    #[error("the engine has stopped")]
    Stopped,
    /// The bundle does not have what its kind needs.
    #[error("the bundle lacks {0}")]
    Bundle(&'static str),
    /// A graph failed; the text names operators and shapes, never values.
    #[error("a graph failed: {0}")]
    Graph(String),
}

/// A label of a bundle.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// Name, as the card explains it.
    pub name: String,
    /// At or above it the label counts as present.
    pub threshold: f32,
    /// Category of a present label, if it is critical.
    pub acr_category: v1::AcrCategory,
}

/// What every engine says about its model.
#[derive(Debug, Clone)]
pub(crate) struct ModelFacts {
    pub(crate) identity: v1::ModelIdentity,
    pub(crate) evaluated: bool,
    pub(crate) max_films: usize,
    pub(crate) labels: Vec<Label>,
    pub(crate) confidence_threshold: f32,
    /// The safety prefix, for the check that the draft does not repeat it.
    pub(crate) prefix: String,
}

/// What a model gets.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) films: Vec<GrayImage>,
    pub(crate) query: String,
    pub(crate) patient: v1::PatientContext,
    pub(crate) imaging: v1::ImagingContext,
    pub(crate) urgency: v1::Urgency,
}

/// What a model wrote, raw.
#[derive(Debug, Clone, Default)]
pub(crate) struct RawDraft {
    pub(crate) findings: String,
    pub(crate) impression: String,
    pub(crate) sentences: Vec<v1::SentenceScore>,
    pub(crate) tokens: Vec<v1::TokenScore>,
    /// One probability per label of [`ModelFacts::labels`]: the maximum over the films.
    pub(crate) probabilities: Vec<f32>,
    /// Whether the end token was written.
    pub(crate) finished: bool,
}

/// A model.
pub(crate) trait Engine: Send + Sync {
    /// What the model is.
    fn facts(&self) -> &ModelFacts;
    /// Drafts a report. Dropping the future ends the work within one step.
    fn draft(&self, input: Input) -> BoxFuture<'_, Result<RawDraft, EngineError>>;
    /// Whether drafts can still be asked for.
    fn is_alive(&self) -> bool;
}

/// A drafted request. Only this step makes one.
#[derive(Debug)]
pub(crate) struct Drafted {
    pub(super) screened: Screened,
    /// Nothing when the study has more films than the model takes.
    pub(super) draft: Option<RawDraft>,
}

/// Has reports drafted.
pub(crate) struct Drafter {
    pub(crate) engine: Arc<dyn Engine>,
}

impl std::fmt::Debug for Drafter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Drafter")
    }
}

impl Drafter {
    pub(crate) async fn draft(&self, screened: Screened) -> Result<Drafted, Fault> {
        let cleaned = &screened.cleaned;
        if cleaned.films.len() > self.engine.facts().max_films {
            // A draft from some of the films would look like one from all of them.
            return Ok(Drafted {
                screened,
                draft: None,
            });
        }
        let pngs: Vec<Vec<u8>> = cleaned.films.iter().map(|film| film.png.clone()).collect();
        let films = tokio::task::spawn_blocking(move || {
            pngs.iter()
                .map(|png| preprocess::decode(png))
                .collect::<Option<Vec<_>>>()
        });
        let films = films
            .await
            .map_err(|_| Fault::Internal)?
            .ok_or(Fault::BadField("rendition"))?;
        let input = Input {
            films,
            query: cleaned.query.clone(),
            patient: cleaned.patient,
            imaging: cleaned.imaging,
            urgency: cleaned.urgency,
        };
        let draft = self
            .engine
            .draft(input)
            .await
            .map_err(|error| match error {
                EngineError::Overloaded => Fault::Overloaded,
                EngineError::Stopped => Fault::Stopping,
                error => {
                    tracing::error!(%error, "The model failed.");
                    Fault::Model
                }
            })?;
        Ok(Drafted {
            screened,
            draft: Some(draft),
        })
    }
}
