//! Greedy decoding of a batch whose rows come and go. One K and one V per layer, bound once and
//! never stacked: a stack would be copied at every step.
//!
//! A row's result depends on neither its batch mates nor on `n`: every row has the same capacity,
//! masks hide what is not its own, and a token of [`Guess`] counts only where the model itself
//! would have written it.

use cloister_onnx::ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use cloister_onnx::ort::session::{IoBinding, SessionOutputs};
use cloister_onnx::ort::value::Tensor;

use super::EngineError;
use super::graphs::{Encoded, Graphs, Plane, floats, graph, missing};
use super::guess::Guess;
use super::spec::DecodeSpec;

/// How a batch is decoded.
#[derive(Debug, Clone, Copy)]
pub struct DecodeOptions {
    /// Tokens per call: 1, or more when rows have guesses to verify.
    pub tokens_per_step: usize,
}

/// A written token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Id.
    pub id: u32,
    /// Natural logarithm of its probability.
    pub log_probability: f32,
}

/// A finished row.
#[derive(Debug, Clone, Default)]
pub struct Decoded {
    /// Tokens, the end token included.
    pub tokens: Vec<Scored>,
    /// Whether the end token was written.
    pub finished: bool,
}

/// A request while it is decoded.
#[derive(Debug)]
pub struct Row {
    /// The caller's number for it.
    pub key: u64,
    decoded: Decoded,
    /// The last two tokens; filler and `bos` before the first.
    tail: [u32; 2],
    /// Places of the cache that hold this row's tokens.
    length: usize,
    guess: Guess,
    encoded: Encoded,
}

impl Row {
    /// A row that starts.
    pub fn new(key: u64, encoded: Encoded, guess: Guess, spec: &DecodeSpec) -> Self {
        Self {
            key,
            decoded: Decoded::default(),
            tail: [spec.pad, spec.bos],
            length: 0,
            guess,
            encoded,
        }
    }

    /// What it has written.
    pub fn into_decoded(self) -> Decoded {
        self.decoded
    }

    /// The labels' logits that came with its films.
    pub fn label_logits(&self) -> &[f32] {
        &self.encoded.label_logits
    }

    fn is_done(&self, spec: &DecodeSpec) -> bool {
        self.decoded.finished || self.decoded.tokens.len() >= spec.max_tokens
    }

    /// The last token and `count - 1` guesses for what follows it, filled up with `pad`.
    fn next_ids(&self, count: usize, pad: u32) -> impl Iterator<Item = i64> {
        let written = self.decoded.tokens.len();
        let guessed = self
            .guess
            .after(written, self.tail, count.saturating_sub(1));
        std::iter::once(self.tail[1])
            .chain(guessed)
            .chain(std::iter::repeat(pad))
            .take(count)
            .map(i64::from)
    }
}

/// The rows that are being decoded, and their caches.
#[derive(Debug)]
pub struct Batch {
    rows: Vec<Row>,
    binding: IoBinding,
    past: Vec<[Tensor<f32>; 2]>,
    spec: DecodeSpec,
    capacity: usize,
    layers: usize,
    head: [usize; 2],
}

impl Batch {
    /// An empty batch.
    ///
    /// # Errors
    /// [`EngineError::Graph`].
    pub fn new(graphs: &Graphs, spec: DecodeSpec) -> Result<Self, EngineError> {
        Ok(Self {
            rows: Vec::new(),
            binding: graphs.binding()?,
            past: Vec::new(),
            spec,
            // A draft's last token is never fed back, so its cache needs one place less than this.
            capacity: spec.max_tokens,
            layers: graphs.layers,
            head: [0, 0],
        })
    }

    /// Asks for outputs of whatever shape the next step has. Bound once, ONNX Runtime would offer the
    /// last step's buffers again, and refuse the step that follows a row's leaving.
    fn bind_outputs(&mut self) -> Result<(), EngineError> {
        let device = MemoryInfo::new(
            AllocationDevice::CPU,
            0,
            AllocatorType::Device,
            MemoryType::CPUOutput,
        )
        .map_err(graph)?;
        for name in ["top_ids", "top_logprobs"] {
            self.binding
                .bind_output_to_device(name, &device)
                .map_err(graph)?;
        }
        for layer in 0..self.layers {
            for kind in ["k", "v"] {
                self.binding
                    .bind_output_to_device(format!("new_{kind}_{layer}"), &device)
                    .map_err(graph)?;
            }
        }
        Ok(())
    }

    /// Rows being decoded.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no row is being decoded.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Takes rows in, and lets go those that `keep` no longer wants.
    ///
    /// # Errors
    /// [`EngineError::Graph`].
    pub fn change(
        &mut self,
        added: Vec<Row>,
        keep: impl Fn(u64) -> bool,
    ) -> Result<Vec<Row>, EngineError> {
        let kept: Vec<bool> = self
            .rows
            .iter()
            .map(|row| keep(row.key) && !row.is_done(&self.spec))
            .collect();
        if added.is_empty() && kept.iter().all(|&kept| kept) {
            return Ok(Vec::new());
        }
        if let Some(plane) = added.first().and_then(|row| row.encoded.keys.first()) {
            self.head = [plane.shape[0], plane.shape[2]];
        }
        let row_len = self.head[0] * self.capacity * self.head[1];
        let rows = kept.iter().filter(|&&kept| kept).count() + added.len();
        let mut past = Vec::with_capacity(self.layers);
        for layer in 0..self.layers {
            let mut pair = Vec::with_capacity(2);
            for kind in 0..2 {
                let mut data = Vec::with_capacity(rows * row_len);
                if let Some(tensor) = self.past.get(layer).and_then(|pair| pair.get(kind)) {
                    let (_, old) = tensor.extract_tensor();
                    for (row, _) in old
                        .chunks_exact(row_len.max(1))
                        .zip(&kept)
                        .filter(|&(_, &kept)| kept)
                    {
                        data.extend_from_slice(row);
                    }
                }
                data.resize(rows * row_len, 0.0);
                let shape = [rows, self.head[0], self.capacity, self.head[1]];
                pair.push(Tensor::from_array((shape, data)).map_err(graph)?);
            }
            let pair: [Tensor<f32>; 2] = pair.try_into().map_err(|_| missing("past"))?;
            past.push(pair);
        }
        self.past = past;
        let mut released = Vec::new();
        for (row, kept) in std::mem::take(&mut self.rows).into_iter().zip(kept) {
            if kept {
                self.rows.push(row);
            } else {
                released.push(row);
            }
        }
        self.rows.extend(added);
        if !self.rows.is_empty() {
            self.bind_cross()?;
        }
        Ok(released)
    }

    /// One call of the step graph for all rows.
    ///
    /// # Errors
    /// [`EngineError::Graph`].
    pub fn step(&mut self, graphs: &mut Graphs, options: DecodeOptions) -> Result<(), EngineError> {
        let (count, rows) = (options.tokens_per_step.max(1), self.rows.len());
        let ids: Vec<i64> = self
            .rows
            .iter()
            .flat_map(|row| row.next_ids(count, self.spec.pad))
            .collect();
        let lengths: Vec<i64> = self.rows.iter().map(|row| row.length as i64).collect();
        let fed = ids.clone();
        let ids = Tensor::from_array(([rows, count], ids)).map_err(graph)?;
        let positions = Tensor::from_array(([rows], lengths.clone())).map_err(graph)?;
        let lengths = Tensor::from_array(([rows], lengths)).map_err(graph)?;
        self.binding.bind_input("ids", &ids).map_err(graph)?;
        self.binding
            .bind_input("positions", &positions)
            .map_err(graph)?;
        self.binding
            .bind_input("past_length", &lengths)
            .map_err(graph)?;
        for (layer, [keys, values]) in self.past.iter().enumerate() {
            // Bound again at every step: a device keeps what it was given, not what changed since.
            self.binding
                .bind_input(format!("past_k_{layer}"), keys)
                .map_err(graph)?;
            self.binding
                .bind_input(format!("past_v_{layer}"), values)
                .map_err(graph)?;
        }
        self.bind_outputs()?;
        let outputs = graphs
            .step
            .inner_mut()
            .run_binding(&self.binding)
            .map_err(graph)?;
        let accepted = accept(&mut self.rows, &outputs, &fed, &self.spec)?;
        for (layer, pair) in self.past.iter_mut().enumerate() {
            for (kind, tensor) in ["k", "v"].into_iter().zip(pair) {
                let (_, new) = floats(&outputs, &format!("new_{kind}_{layer}"))?;
                append(
                    tensor.extract_tensor_mut().1,
                    new,
                    &accepted,
                    count,
                    self.capacity,
                    self.head,
                )?;
            }
        }
        for (row, &(before, taken)) in self.rows.iter_mut().zip(&accepted) {
            row.length = (before + taken).min(self.capacity);
        }
        Ok(())
    }

    /// Cross-attention of all rows: only bound again when rows come or go.
    fn bind_cross(&mut self) -> Result<(), EngineError> {
        let rows = self.rows.len();
        let places = self
            .rows
            .iter()
            .map(|row| row.encoded.mask.len())
            .max()
            .unwrap_or(0);
        let mut mask = Vec::with_capacity(rows * places);
        for row in &self.rows {
            mask.extend_from_slice(&row.encoded.mask);
            mask.resize(mask.len() + places - row.encoded.mask.len(), 0);
        }
        let mask = Tensor::from_array(([rows, places], mask)).map_err(graph)?;
        self.binding
            .bind_input("cross_mask", &mask)
            .map_err(graph)?;
        for layer in 0..self.layers {
            for kind in ["k", "v"] {
                let mut data = Vec::new();
                let mut shape = [0, 0, 0];
                for row in &self.rows {
                    let planes = if kind == "k" {
                        &row.encoded.keys
                    } else {
                        &row.encoded.values
                    };
                    let plane = planes.get(layer).ok_or_else(|| missing("prefix planes"))?;
                    shape = plane.shape;
                    pad_into(&mut data, plane, places);
                }
                let shape = [rows, shape[0], places, shape[2]];
                let tensor = Tensor::from_array((shape, data)).map_err(graph)?;
                self.binding
                    .bind_input(format!("{kind}_{layer}"), &tensor)
                    .map_err(graph)?;
            }
        }
        Ok(())
    }
}

/// Takes the tokens that the model itself would have written, per row: cache length before, and
/// how many input tokens became part of it. `fed` are the input tokens of all rows.
fn accept(
    rows: &mut [Row],
    outputs: &SessionOutputs<'_>,
    fed: &[i64],
    spec: &DecodeSpec,
) -> Result<Vec<(usize, usize)>, EngineError> {
    let top = outputs.get("top_ids").ok_or_else(|| missing("top_ids"))?;
    let (shape, ids) = top.try_extract_tensor::<i64>().map_err(graph)?;
    let width = shape
        .get(2)
        .and_then(|&width| usize::try_from(width).ok())
        .unwrap_or(0);
    let (_, log_probabilities) = floats(outputs, "top_logprobs")?;
    let mut accepted = Vec::with_capacity(rows.len());
    let count = fed.len() / rows.len().max(1);
    for (index, (row, fed)) in rows.iter_mut().zip(fed.chunks(count.max(1))).enumerate() {
        let mut taken = 0;
        for place in 0..count {
            let at = (index * count + place) * width;
            let (Some(&id), Some(&log_probability)) = (ids.get(at), log_probabilities.get(at))
            else {
                return Err(missing("top_ids"));
            };
            let id = u32::try_from(id).map_err(|_| missing("top_ids"))?;
            taken += 1;
            row.decoded.tokens.push(Scored {
                id,
                log_probability,
            });
            row.tail = [row.tail[1], id];
            row.decoded.finished = id == spec.eos;
            // What was guessed for the next place is the model's own choice, or it ends here.
            let guessed = fed
                .get(place + 1)
                .is_some_and(|&next| next == i64::from(id));
            if row.is_done(spec) || !guessed {
                break;
            }
        }
        accepted.push((row.length, taken));
    }
    Ok(accepted)
}

/// Copies the new keys or values of accepted tokens behind each row's cache.
fn append(
    past: &mut [f32],
    new: &[f32],
    accepted: &[(usize, usize)],
    count: usize,
    capacity: usize,
    [heads, width]: [usize; 2],
) -> Result<(), EngineError> {
    for (row, &(length, taken)) in accepted.iter().enumerate() {
        let taken = taken.min(capacity.saturating_sub(length));
        for head in 0..heads {
            let from = (row * heads + head) * count * width;
            let to = ((row * heads + head) * capacity + length) * width;
            let source = new
                .get(from..from + taken * width)
                .ok_or_else(|| missing("new_k"))?;
            past.get_mut(to..to + taken * width)
                .ok_or_else(|| missing("past_k"))?
                .copy_from_slice(source);
        }
    }
    Ok(())
}

/// Appends a plane with its places filled up to `places`.
fn pad_into(data: &mut Vec<f32>, plane: &Plane, places: usize) {
    let [_, own, width] = plane.shape;
    for head in plane.data.chunks_exact((own * width).max(1)) {
        data.extend_from_slice(head);
        data.resize(data.len() + (places - own) * width, 0.0);
    }
}

/// Decodes requests together until all are done, in the order they came.
///
/// # Errors
/// [`EngineError::Graph`].
pub fn run(
    graphs: &mut Graphs,
    spec: DecodeSpec,
    requests: Vec<(Encoded, Guess)>,
    options: DecodeOptions,
) -> Result<Vec<Decoded>, EngineError> {
    let mut batch = Batch::new(graphs, spec)?;
    let count = requests.len();
    let rows = (0..)
        .zip(requests)
        .map(|(key, (encoded, guess))| Row::new(key, encoded, guess, &spec))
        .collect();
    let mut done: Vec<Row> = batch.change(rows, |_| true)?;
    while !batch.is_empty() {
        batch.step(graphs, options)?;
        done.extend(batch.change(Vec::new(), |_| true)?);
    }
    done.sort_by_key(|row| row.key);
    debug_assert_eq!(done.len(), count);
    Ok(done.into_iter().map(Row::into_decoded).collect())
}
