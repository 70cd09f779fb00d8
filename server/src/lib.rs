//! The server: admit → clean → screen → draft → check → assess, behind a Unix socket that only the
//! sidecar reaches. It keeps nothing: what a request was, is gone when its answer is out.
//!
//! `pipeline.rs` lists the steps with their reasons; each step is a file and the only maker of its
//! own output type.

mod admit;

mod clean;

mod screen;

mod draft;

mod check;

mod assess;

mod pipeline;

mod config;
mod error;
mod grpc;
mod http;
pub mod local;
mod metric;
mod peer;
mod run;

pub use config::Config;
pub use run::run;

/// What tests of the engine itself need: a batch, and more than one token per call.
pub mod engine {
    pub use crate::draft::decode::{Batch, DecodeOptions, Decoded, Row, Scored, run};
    pub use crate::draft::graphs::{Encoded, Graphs};
    pub use crate::draft::guess::{Guess, Ngrams, TOKENS_PER_STEP};
    pub use crate::draft::preprocess::{Input, normalise};
    pub use crate::draft::spec::{
        AgeIds, CalibrationMethod, CalibrationSpec, ConfidenceMethod, ConfidenceSpec, DecodeSpec,
        Equalise, GraphsSpec, InputSpec, LabelSpec, NgramsSpec, ReportSpec, Resize, SexIds,
        TextSpec, ViewIds, Weights,
    };
    pub use crate::draft::text::{Context, TextIds, TextLayout};
    pub use crate::draft::{EngineError, Label};
}

#[cfg(test)]
mod tests;
