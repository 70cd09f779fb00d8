//! The thread that owns the graphs: continuous batching, one step at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cloister_proto::v1::Urgency;
use tokio::sync::{mpsc, oneshot};

use super::{Answer, Job};
use crate::draft::EngineError;
use crate::draft::decode::{Batch, DecodeOptions, Row};
use crate::draft::graphs::Graphs;
use crate::draft::guess::Guess;
use crate::draft::spec::DecodeSpec;
use crate::metric::Metric;

/// Says that the engine is gone, also when its thread panics.
struct Alive(Arc<AtomicBool>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

type Waiting = HashMap<u64, oneshot::Sender<Result<Answer, EngineError>>>;

/// Starts the thread. It ends when the engine is dropped.
pub(super) fn spawn(
    graphs: Graphs,
    spec: DecodeSpec,
    guess: Guess,
    max_batch: usize,
    queue: mpsc::Receiver<Job>,
    alive: Arc<AtomicBool>,
) -> Result<(), EngineError> {
    let alive = Alive(alive);
    std::thread::Builder::new()
        .name("model".to_owned())
        .spawn(move || {
            let _alive = alive;
            let mut worker = Worker {
                graphs,
                spec,
                guess,
                max_batch,
                queue,
                pending: Vec::new(),
                waiting: Waiting::new(),
                next: 0,
            };
            while worker.turn() {}
        })
        .map(drop)
        .map_err(|_| EngineError::Stopped)
}

struct Worker {
    graphs: Graphs,
    spec: DecodeSpec,
    guess: Guess,
    max_batch: usize,
    queue: mpsc::Receiver<Job>,
    pending: Vec<Job>,
    waiting: Waiting,
    next: u64,
}

impl Worker {
    /// Waits for work and decodes until the batch is empty. False when nobody can ask any more.
    fn turn(&mut self) -> bool {
        if self.pending.is_empty() {
            match self.queue.blocking_recv() {
                Some(job) => self.pending.push(job),
                None => return false,
            }
        }
        if let Err(error) = self.decode() {
            tracing::error!(%error, "A batch failed.");
            for (_, answer) in self.waiting.drain() {
                answer.send(Err(error.clone())).ok();
            }
        }
        true
    }

    fn decode(&mut self) -> Result<(), EngineError> {
        let mut batch = Batch::new(&self.graphs, self.spec)?;
        loop {
            let added = self.admit(self.max_batch.saturating_sub(batch.len()));
            // A row whose caller has gone leaves before the next step.
            let waiting = &self.waiting;
            let wanted = |key: u64| waiting.get(&key).is_some_and(|answer| !answer.is_closed());
            for row in batch.change(added, wanted)? {
                if let Some(answer) = self.waiting.remove(&row.key) {
                    let label_logits = row.label_logits().to_vec();
                    let decoded = row.into_decoded();
                    metrics::counter!(Metric::TokensTotal.name())
                        .increment(decoded.tokens.len() as u64);
                    answer
                        .send(Ok(Answer {
                            decoded,
                            label_logits,
                        }))
                        .ok();
                }
            }
            if batch.is_empty() {
                return Ok(());
            }
            metrics::histogram!(Metric::BatchRows.name()).record(batch.len() as f64);
            metrics::counter!(Metric::StepsTotal.name()).increment(1);
            let tokens_per_step = self.guess.tokens_per_step();
            batch.step(&mut self.graphs, DecodeOptions { tokens_per_step })?;
        }
    }

    /// Takes waiting requests, the most urgent first, and runs their films and text.
    fn admit(&mut self, room: usize) -> Vec<Row> {
        // Bounded: what is not taken over stays in the queue, which turns further requests away.
        while self.pending.len() < self.max_batch {
            let Ok(job) = self.queue.try_recv() else {
                break;
            };
            self.pending.push(job);
        }
        // Stable: the same urgency keeps its order of arrival.
        self.pending.sort_by_key(|job| match job.urgency {
            Urgency::Stat => 0,
            Urgency::Urgent => 1,
            Urgency::Routine | Urgency::Unspecified => 2,
        });
        let take = room.min(self.pending.len());
        let mut rows = Vec::with_capacity(take);
        for job in self.pending.drain(..take) {
            metrics::gauge!(Metric::QueueSize.name()).decrement(1.0);
            if job.answer.is_closed() {
                continue;
            }
            match self.graphs.encode(&job.films, &job.text) {
                Ok(encoded) => {
                    rows.push(Row::new(self.next, encoded, self.guess.clone(), &self.spec));
                    self.waiting.insert(self.next, job.answer);
                    self.next += 1;
                }
                Err(error) => {
                    job.answer.send(Err(error)).ok();
                }
            }
        }
        rows
    }
}
