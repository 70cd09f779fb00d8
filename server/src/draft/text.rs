//! The text input of a `report` bundle: safety prefix, query, view, age band, sex; and back from
//! tokens to sections. The same steps as `cloister_training.tokenizer`.

use cloister_proto::v1;
use tokenizers::Tokenizer;

use super::EngineError;
use super::spec::{DecodeSpec, TextSpec};

/// View, age band and sex as the tokens name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Context {
    /// View.
    pub view: v1::View,
    /// Age band.
    pub age: v1::AgeBand,
    /// Sex.
    pub sex: v1::Sex,
}

impl Context {
    fn ids(self, spec: &TextSpec) -> [u32; 3] {
        let view = match self.view {
            v1::View::Unspecified => spec.view.unknown,
            v1::View::Pa => spec.view.pa,
            v1::View::Ap => spec.view.ap,
            v1::View::Lateral => spec.view.lateral,
        };
        let age = match self.age {
            v1::AgeBand::Unspecified => spec.age.unknown,
            v1::AgeBand::Under18 => spec.age.under_18,
            v1::AgeBand::AgeBand1839 => spec.age.from_18,
            v1::AgeBand::AgeBand4064 => spec.age.from_40,
            v1::AgeBand::AgeBand6589 => spec.age.from_65,
            v1::AgeBand::AgeBand90AndOver => spec.age.from_90,
        };
        let sex = match self.sex {
            v1::Sex::Unspecified => spec.sex.unknown,
            v1::Sex::Female => spec.sex.female,
            v1::Sex::Male => spec.sex.male,
            v1::Sex::Other => spec.sex.other,
        };
        [view, age, sex]
    }
}

/// Turns requests into ids and ids into sections.
#[derive(Debug, Clone)]
pub struct TextLayout {
    tokenizer: Tokenizer,
    prefix: Vec<u32>,
    spec: TextSpec,
    decode: DecodeSpec,
}

/// Ids of one request, filled up to one length, and which of them count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextIds {
    /// Token ids.
    pub ids: Vec<i64>,
    /// 1 where an id counts.
    pub mask: Vec<i64>,
}

impl TextLayout {
    /// Takes the bundle's `tokenizer.json` and `prefix.txt`.
    ///
    /// # Errors
    /// [`EngineError::Bundle`].
    pub fn new(
        tokenizer: &[u8],
        prefix: &str,
        spec: TextSpec,
        decode: DecodeSpec,
    ) -> Result<Self, EngineError> {
        let tokenizer = Tokenizer::from_bytes(tokenizer)
            .map_err(|_| EngineError::Bundle("a usable tokenizer.json"))?;
        let mut layout = Self {
            tokenizer,
            prefix: Vec::new(),
            spec,
            decode,
        };
        layout.prefix = layout.encode(prefix)?;
        Ok(layout)
    }

    /// Ids of a request. Every request has the same length, so that one row's arithmetic never
    /// depends on its batch mates.
    ///
    /// # Errors
    /// [`EngineError::Graph`] when the tokenizer fails.
    pub fn ids(&self, query: &str, context: Context) -> Result<TextIds, EngineError> {
        let mut ids = self.prefix.clone();
        ids.push(self.spec.query_token);
        ids.extend(
            self.encode(query)?
                .into_iter()
                .take(self.spec.max_query_tokens),
        );
        ids.extend(context.ids(&self.spec));
        let length = self.prefix.len() + 1 + self.spec.max_query_tokens + 3;
        let mask = (0..length)
            .map(|place| i64::from(place < ids.len()))
            .collect();
        ids.resize(length, self.decode.pad);
        Ok(TextIds {
            ids: ids.into_iter().map(i64::from).collect(),
            mask,
        })
    }

    /// Findings and Impression, each token with the section it belongs to left in place.
    pub(crate) fn sections(&self, tokens: &[u32]) -> Sections {
        let mut sections = Sections::default();
        let mut current = None;
        for (index, &token) in tokens.iter().enumerate() {
            if token == self.decode.eos {
                break;
            } else if token == self.decode.findings {
                current = Some(false);
            } else if token == self.decode.impression {
                current = Some(true);
            } else if token >= self.decode.first_text_token {
                match current {
                    Some(false) => sections.findings.push(index),
                    Some(true) => sections.impression.push(index),
                    None => {}
                }
            }
        }
        sections
    }

    /// Text of some tokens.
    pub(crate) fn decode(&self, tokens: &[u32]) -> Result<String, EngineError> {
        self.tokenizer
            .decode(tokens, true)
            .map_err(|_| EngineError::Graph("the tokenizer".to_owned()))
    }

    /// A special token's name in a text stays text.
    fn encode(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let plain = text
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .to_lowercase();
        if plain.is_empty() {
            return Ok(Vec::new());
        }
        let safe = plain.replace('<', "(").replace('>', ")");
        let encoding = self
            .tokenizer
            .encode(safe, false)
            .map_err(|_| EngineError::Graph("the tokenizer".to_owned()))?;
        Ok(encoding.get_ids().to_vec())
    }
}

/// Places of the tokens of each section.
#[derive(Debug, Default)]
pub(crate) struct Sections {
    pub(crate) findings: Vec<usize>,
    pub(crate) impression: Vec<usize>,
}
