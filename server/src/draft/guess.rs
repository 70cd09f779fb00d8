//! Guesses for tokens that the model has not written yet, so that one call can verify several.
//! Before it: the bundle's table. After it: `decode`, which keeps a guess only where the model
//! itself would have written it: a wrong one costs time, never a token.

use std::sync::Arc;

use cloister_onnx::Bundle;
use serde::Deserialize;

use super::EngineError;
use super::spec::{NGRAM_ORDER, ReportSpec};

/// Tokens per call where a table guesses: the one that is due and three guesses. A call with four
/// costs the reference model 1.4 times one with a single token, and brings three.
pub const TOKENS_PER_STEP: usize = 4;

/// Most rows of a table.
const MAX_ROWS: usize = 20_000;

/// Where guesses come from.
#[derive(Debug, Clone, Default)]
pub enum Guess {
    /// Nothing is guessed.
    #[default]
    Nothing,
    /// A whole draft, place by place.
    Draft(Vec<u32>),
    /// What mostly follows the last two tokens.
    Table(Arc<Ngrams>),
}

impl Guess {
    /// The table of a bundle that has one.
    ///
    /// # Errors
    /// [`EngineError::Bundle`] when the table cannot be used: a damaged one stops the start.
    pub fn of(bundle: &Bundle, spec: &ReportSpec) -> Result<Self, EngineError> {
        let Some(ngrams) = &spec.ngrams else {
            return Ok(Self::Nothing);
        };
        let table = bundle
            .read(&ngrams.file)
            .map_err(|_| EngineError::Bundle("the n-gram table"))?;
        Ngrams::parse(&table, spec)
            .map(|table| Self::Table(Arc::new(table)))
            .ok_or(EngineError::Bundle("a usable n-gram table"))
    }

    /// Tokens per call that are worth it.
    pub const fn tokens_per_step(&self) -> usize {
        match self {
            Self::Nothing => 1,
            Self::Draft(_) | Self::Table(_) => TOKENS_PER_STEP,
        }
    }

    /// At most `count` guesses for what follows, after `written` tokens of which the last two are
    /// `tail`.
    pub(crate) fn after(&self, written: usize, tail: [u32; 2], count: usize) -> Vec<u32> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Draft(tokens) => tokens.iter().skip(written).take(count).copied().collect(),
            Self::Table(table) => {
                let [mut before, mut last] = tail;
                let chain = std::iter::from_fn(|| {
                    let next = table.next(before, last)?;
                    (before, last) = (last, next);
                    Some(next)
                });
                chain.take(count).collect()
            }
        }
    }
}

/// A table from two tokens to the one that mostly follows them.
#[derive(Debug)]
pub struct Ngrams {
    /// `[a, b, c]`, sorted by `(a, b)`, each pair once.
    rows: Vec<[u32; 3]>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    order: usize,
    next: Vec<[u32; 3]>,
}

impl Ngrams {
    /// Reads and checks a table. Nothing when it is not one for this bundle.
    pub fn parse(json: &[u8], spec: &ReportSpec) -> Option<Self> {
        let File {
            order,
            next: mut rows,
        } = serde_json::from_slice(json).ok()?;
        let known = |row: &[u32; 3]| {
            row.iter()
                .all(|&id| usize::try_from(id).is_ok_and(|id| id < spec.graphs.vocabulary))
        };
        let ascending =
            |pair: &[[u32; 3]]| matches!(pair, [[a, b, _], [c, d, _]] if (a, b) < (c, d));
        if order != NGRAM_ORDER
            || rows.len() > MAX_ROWS
            || !rows.iter().all(known)
            || !rows.windows(2).all(ascending)
        {
            return None;
        }
        // Before the first token a row's tail is filler and `bos`. Every draft opens alike.
        let opening = spec.decode;
        if let Err(at) = search(&rows, opening.pad, opening.bos) {
            rows.insert(at, [opening.pad, opening.bos, opening.findings]);
        }
        Some(Self { rows })
    }

    fn next(&self, before: u32, last: u32) -> Option<u32> {
        let at = search(&self.rows, before, last).ok()?;
        self.rows.get(at).map(|&[_, _, next]| next)
    }
}

fn search(rows: &[[u32; 3]], before: u32, last: u32) -> Result<usize, usize> {
    rows.binary_search_by_key(&(before, last), |&[a, b, _]| (a, b))
}
