//! Runs a `report` bundle. One thread owns the graphs; requests come by a bounded queue, stat
//! before urgent before routine, and join the batch between two steps.

mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cloister_onnx::{Bundle, Runtime, SessionOptions};
use cloister_proto::v1;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};

use super::decode::Decoded;
use super::graphs::Graphs;
use super::guess::Guess;
use super::preprocess::{self, normalise};
use super::sentences;
use super::spec::ReportSpec;
use super::text::{Context, TextIds, TextLayout};
use super::{Engine, EngineError, Input, ModelFacts, RawDraft};
use crate::metric::Metric;

/// How much the engine takes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EngineLimits {
    /// Rows decoded together.
    pub(crate) max_batch: usize,
    /// Requests that may wait.
    pub(crate) queue: usize,
}

/// What the worker gets.
pub(super) struct Job {
    pub(super) films: Vec<preprocess::Input>,
    pub(super) text: TextIds,
    pub(super) urgency: v1::Urgency,
    /// Closed when nobody waits any more: the row then leaves before the next step.
    pub(super) answer: oneshot::Sender<Result<Answer, EngineError>>,
}

/// What the worker gives.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) decoded: Decoded,
    pub(super) label_logits: Vec<f32>,
}

/// The engine.
pub(crate) struct OnnxEngine {
    facts: ModelFacts,
    spec: Arc<ReportSpec>,
    layout: Arc<TextLayout>,
    jobs: mpsc::Sender<Job>,
    alive: Arc<AtomicBool>,
}

impl OnnxEngine {
    /// Loads the graphs and starts the thread that runs them.
    pub(crate) fn start(
        runtime: &Runtime,
        bundle: &Bundle,
        options: SessionOptions,
        limits: EngineLimits,
    ) -> Result<Self, EngineError> {
        let spec = ReportSpec::of(bundle)?;
        let read = |name: &str, what| bundle.read(name).map_err(|_| EngineError::Bundle(what));
        let prefix = read(&spec.text.prefix, "the safety prefix")?;
        let prefix_text = String::from_utf8(prefix.clone())
            .map_err(|_| EngineError::Bundle("a prefix in UTF-8"))?;
        let tokenizer = read(&spec.text.tokenizer, "the tokenizer")?;
        let layout = TextLayout::new(&tokenizer, &prefix_text, spec.text.clone(), spec.decode)?;
        let guess = Guess::of(bundle, &spec)?;
        let graphs = Graphs::load(runtime, bundle, options, &spec)?;
        let running = graphs.running();
        metrics::gauge!(Metric::ExecutionProviderInfo.name(), "provider" => running).set(1.0);
        let facts = ModelFacts {
            identity: v1::ModelIdentity {
                name: bundle.manifest().name.clone(),
                version: bundle.manifest().version.clone(),
                bundle_sha256: bundle.sha256().to_vec(),
                prefix_sha256: Sha256::digest(&prefix).to_vec(),
                policy_sha256: Vec::new(),
                execution_provider: running.to_owned(),
            },
            evaluated: bundle.manifest().evaluated,
            max_films: spec.max_films,
            labels: spec.labels()?,
            confidence_threshold: spec.confidence.threshold,
            prefix: prefix_text,
        };
        let (jobs, queue) = mpsc::channel(limits.queue.max(1));
        let alive = Arc::new(AtomicBool::new(true));
        worker::spawn(
            graphs,
            spec.decode,
            guess,
            limits.max_batch.max(1),
            queue,
            Arc::clone(&alive),
        )?;
        Ok(Self {
            facts,
            spec: Arc::new(spec),
            layout: Arc::new(layout),
            jobs,
            alive,
        })
    }

    async fn answer(&self, input: Input) -> Result<RawDraft, EngineError> {
        let (spec, layout) = (Arc::clone(&self.spec), Arc::clone(&self.layout));
        let context = Context {
            view: input.imaging.view(),
            age: input.patient.age_band(),
            sex: input.patient.sex(),
        };
        let urgency = input.urgency;
        let prepared = tokio::task::spawn_blocking(move || {
            let films: Vec<_> = input
                .films
                .iter()
                .map(|film| normalise(film, &spec.input))
                .collect();
            layout.ids(&input.query, context).map(|text| (films, text))
        });
        let (films, text) = prepared.await.map_err(|_| EngineError::Stopped)??;
        let (answer, answered) = oneshot::channel();
        self.jobs
            .try_send(Job {
                films,
                text,
                urgency,
                answer,
            })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => EngineError::Overloaded,
                mpsc::error::TrySendError::Closed(_) => EngineError::Stopped,
            })?;
        metrics::gauge!(Metric::QueueSize.name()).increment(1.0);
        let answer = answered.await.map_err(|_| EngineError::Stopped)??;
        raw_draft(&self.layout, &answer)
    }
}

/// Tokens to sections and sentences, logits to probabilities.
fn raw_draft(layout: &TextLayout, answer: &Answer) -> Result<RawDraft, EngineError> {
    let written = &answer.decoded.tokens;
    let ids: Vec<u32> = written.iter().map(|token| token.id).collect();
    let sections = layout.sections(&ids);
    let section = |name: &str, places: &[usize]| {
        let tokens: Vec<_> = places
            .iter()
            .filter_map(|&place| written.get(place))
            .collect();
        let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
        let scores: Vec<f32> = tokens.iter().map(|token| token.log_probability).collect();
        sentences::of_section(layout, name, &ids, &scores)
    };
    let (findings, mut sentences) = section("findings", &sections.findings)?;
    let (impression, more) = section("impression", &sections.impression)?;
    sentences.extend(more);
    Ok(RawDraft {
        findings,
        impression,
        sentences,
        tokens: written
            .iter()
            .map(|token| v1::TokenScore {
                id: token.id,
                log_probability: token.log_probability,
            })
            .collect(),
        probabilities: answer
            .label_logits
            .iter()
            .map(|&logit| 1.0 / (1.0 + (-logit).exp()))
            .collect(),
        finished: answer.decoded.finished,
    })
}

impl Engine for OnnxEngine {
    fn facts(&self) -> &ModelFacts {
        &self.facts
    }

    fn draft(&self, input: Input) -> BoxFuture<'_, Result<RawDraft, EngineError>> {
        self.answer(input).boxed()
    }

    fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }
}
