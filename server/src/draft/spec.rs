//! The keys that a `report` bundle has in its `bundle.toml` beside the common ones. Unknown keys
//! are refused: a misspelt threshold must not become a default.

use cloister_onnx::{Bundle, Kind};
use cloister_proto::v1;
use serde::Deserialize;

use super::guess::TOKENS_PER_STEP;
use super::{EngineError, Label};

/// `report` keys.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportSpec {
    /// Films that the prefix graph takes.
    pub max_films: usize,
    /// Pixels.
    pub input: InputSpec,
    /// Graphs and their sizes.
    pub graphs: GraphsSpec,
    /// In the order of the vision graph's logits.
    pub labels: Vec<LabelSpec>,
    /// Tokens and bounds of decoding.
    pub decode: DecodeSpec,
    /// Layout of the text input.
    pub text: TextSpec,
    /// Abstention.
    pub confidence: ConfidenceSpec,
    /// Table of likely next tokens.
    pub ngrams: Option<NgramsSpec>,
    /// How the label logits became probabilities; already part of the vision graph.
    pub calibration: Option<CalibrationSpec>,
    /// For readers of the card.
    #[serde(default)]
    pub licence: String,
    /// For readers of the card.
    #[serde(default)]
    pub training_data: String,
}

/// How a film becomes `pixels`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// Share cut off at each side.
    #[serde(default)]
    pub crop_per_side: f64,
    /// How the film is brought to that size.
    #[serde(default)]
    pub resize: Resize,
    /// What is done to intensities.
    #[serde(default)]
    pub equalise: Equalise,
    /// Subtracted from intensities in 0..1.
    pub mean: f32,
    /// Then divided by.
    pub std: f32,
}

/// Filter of the reduction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// Triangle with support scaled to the reduction.
    #[default]
    Triangle,
}

/// What is done to intensities before normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Equalise {
    /// Nothing.
    #[default]
    #[serde(rename = "none")]
    Nothing,
    /// Each becomes its rank, over 256 bins.
    #[serde(rename = "histogram-256")]
    Histogram256,
}

/// Files of the graphs, and their sizes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphsSpec {
    /// File of the vision graph.
    pub vision: String,
    /// File of the prefix graph.
    pub prefix: String,
    /// File of the step graph.
    pub step: String,
    /// How the weights are stored.
    #[serde(default)]
    pub weights: Weights,
    /// Tokens per film.
    pub film_tokens: usize,
    /// Width of a film token.
    pub film_width: usize,
    /// Width of the pooled features.
    pub pooled_width: usize,
    /// Decoder layers, each with one K and one V.
    pub decoder_layers: usize,
    /// Heads.
    pub heads: usize,
    /// Width of a head.
    pub head_width: usize,
    /// Tokens of the vocabulary.
    pub vocabulary: usize,
    /// Likeliest tokens that a step answers with.
    pub top: usize,
    /// Places that the position tables cover.
    pub max_positions: usize,
}

/// How a graph stores its weights. Whatever it is, ONNX Runtime unpacks them when it loads the
/// graph, and all arithmetic is f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weights {
    /// Single precision.
    F32,
    /// Half precision; what bundles without the key have.
    #[default]
    F16,
    /// 8 bit with one scale per output channel.
    Int8,
}

/// Table of likely next tokens, for `guess`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NgramsSpec {
    /// File of the table.
    pub file: String,
    /// Tokens of a row: two that are known and the one that mostly follows.
    pub order: usize,
}

/// How the label logits became probabilities.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationSpec {
    /// How slope and shifts were chosen.
    pub method: CalibrationMethod,
    /// Of all logits.
    pub slope: f32,
    /// One per label, added afterwards.
    pub shift: Vec<f32>,
}

/// How a calibration was fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CalibrationMethod {
    /// Logistic regression on logits of models that had not seen the patient.
    PlattCrossFitted,
}

/// One label.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelSpec {
    /// Name.
    pub name: String,
    /// At or above it the label counts as present.
    pub threshold: f32,
    /// 1, 2 or 3.
    pub acr_category: Option<u8>,
}

/// Tokens and bounds of decoding.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecodeSpec {
    /// Most tokens of a draft.
    pub max_tokens: usize,
    /// First input token.
    pub bos: u32,
    /// End token.
    pub eos: u32,
    /// Filler.
    pub pad: u32,
    /// Starts the Findings.
    pub findings: u32,
    /// Starts the Impression.
    pub impression: u32,
    /// Ids below it are marks, not text.
    pub first_text_token: u32,
}

/// Layout of `text_ids`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSpec {
    /// File of the tokenizer.
    pub tokenizer: String,
    /// File of the safety prefix.
    pub prefix: String,
    /// Order of the parts; only the one order that `text` writes.
    pub layout: Vec<String>,
    /// Whether texts are lower-cased before encoding.
    pub lowercase: bool,
    /// Stands before the query.
    pub query_token: u32,
    /// Longer queries are cut.
    pub max_query_tokens: usize,
    /// Id per view.
    pub view: ViewIds,
    /// Id per age band.
    pub age: AgeIds,
    /// Id per sex.
    pub sex: SexIds,
}

/// Id per view.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are the values of the enum View")]
pub struct ViewIds {
    pub unknown: u32,
    pub pa: u32,
    pub ap: u32,
    pub lateral: u32,
}

/// Id per age band.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are the values of the enum AgeBand")]
pub struct AgeIds {
    pub unknown: u32,
    pub under_18: u32,
    #[serde(rename = "18_39")]
    pub from_18: u32,
    #[serde(rename = "40_64")]
    pub from_40: u32,
    #[serde(rename = "65_89")]
    pub from_65: u32,
    #[serde(rename = "90_and_over")]
    pub from_90: u32,
}

/// Id per sex.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are the values of the enum Sex")]
pub struct SexIds {
    pub unknown: u32,
    pub female: u32,
    pub male: u32,
    pub other: u32,
}

/// Abstention.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfidenceSpec {
    /// What the threshold was chosen for.
    pub method: ConfidenceMethod,
    /// Below it the model abstains.
    pub threshold: f32,
}

/// How a draft's confidence is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfidenceMethod {
    /// Geometric mean of the probabilities of all tokens.
    GeometricMeanTokenProbability,
}

/// The one order of tables that the server uses.
pub(crate) const NGRAM_ORDER: usize = 3;

/// The one order of parts that the server writes.
const LAYOUT: [&str; 6] = ["prefix", "query_token", "query", "view", "age", "sex"];

impl ReportSpec {
    /// Reads and checks the keys of a `report` bundle.
    ///
    /// # Errors
    /// [`EngineError::Bundle`].
    pub fn of(bundle: &Bundle) -> Result<Self, EngineError> {
        bundle
            .require(Kind::Report)
            .map_err(|_| EngineError::Bundle("kind = \"report\""))?;
        let spec: Self = bundle.manifest().spec().map_err(|error| {
            tracing::error!(%error, "The bundle's keys cannot be used.");
            EngineError::Bundle("usable keys")
        })?;
        let sane = (1..=64).contains(&spec.max_films)
            && (8..=4096).contains(&spec.input.height)
            && (8..=4096).contains(&spec.input.width)
            && (0.0..0.5).contains(&spec.input.crop_per_side)
            && spec.input.std > 0.0
            && !spec.labels.is_empty()
            && (1..=4096).contains(&spec.decode.max_tokens)
            && spec.decode.max_tokens <= spec.graphs.max_positions
            && spec.text.layout == LAYOUT
            && spec.text.lowercase
            && (0.0..=1.0).contains(&spec.confidence.threshold)
            && spec.ngrams.iter().all(|ngrams| {
                // The last call may feed guesses that lie behind the last token of a draft.
                ngrams.order == NGRAM_ORDER
                    && spec.decode.max_tokens + TOKENS_PER_STEP - 1 <= spec.graphs.max_positions
            })
            && spec.calibration.iter().all(|calibration| {
                calibration.slope.is_finite()
                    && calibration.slope > 0.0
                    && calibration.shift.len() == spec.labels.len()
                    && calibration.shift.iter().all(|shift| shift.is_finite())
            });
        if sane {
            Ok(spec)
        } else {
            Err(EngineError::Bundle("values in range"))
        }
    }

    /// The labels.
    ///
    /// # Errors
    /// [`EngineError::Bundle`] when a category is none of 1, 2 and 3.
    pub fn labels(&self) -> Result<Vec<Label>, EngineError> {
        labels(&self.labels)
    }
}

pub(crate) fn labels(specs: &[LabelSpec]) -> Result<Vec<Label>, EngineError> {
    specs
        .iter()
        .map(|label| {
            let acr_category = match label.acr_category {
                None => v1::AcrCategory::Unspecified,
                Some(1) => v1::AcrCategory::AcrCategory1,
                Some(2) => v1::AcrCategory::AcrCategory2,
                Some(3) => v1::AcrCategory::AcrCategory3,
                Some(_) => return Err(EngineError::Bundle("an acr_category of 1, 2 or 3")),
            };
            if !(0.0..=1.0).contains(&label.threshold) {
                return Err(EngineError::Bundle("label thresholds in 0..1"));
            }
            Ok(Label {
                name: label.name.clone(),
                threshold: label.threshold,
                acr_category,
            })
        })
        .collect()
}
