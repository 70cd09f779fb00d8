//! Merges failures that a peer can repeat at will: neither a scanner nor a broken modality may fill
//! the trail.
//!
//! At most one record per source, action and reason in 10 s; the first at once, the rest counted.
//! The table is bounded: sources that find it full are counted together, without an address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, mem};

use tokio::sync::Notify;

use crate::error::AuditError;
use crate::event::{Actor, Event};
use crate::log::AuditLog;
use crate::reason::{Action, Reason};

/// Shortest time between two records of one key.
const WINDOW: Duration = Duration::from_secs(10);
/// How often [`Merger::run`] looks for what became due.
const TICK: Duration = Duration::from_secs(1);
/// Sources, actions and reasons known at once.
const CAPACITY: usize = 1024;

type Key = (Option<Actor>, Action, Reason);

/// Counts failures and records them merged. Clones share the table.
#[derive(Clone)]
pub struct Merger(Arc<Inner>);

struct Inner {
    log: AuditLog,
    clock: Box<dyn Fn() -> Instant + Send + Sync>,
    table: Mutex<Table>,
    noted: Notify,
}

impl fmt::Debug for Merger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merger").finish_non_exhaustive()
    }
}

impl Merger {
    /// A merger that records into `log` while [`Merger::run`] runs.
    pub fn new(log: AuditLog) -> Self {
        Self::with_clock(log, Instant::now)
    }

    /// As [`Merger::new`], with another clock.
    pub fn with_clock(log: AuditLog, clock: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        let table = Mutex::new(Table::new(CAPACITY));
        Self(Arc::new(Inner {
            log,
            clock: Box::new(clock),
            table,
            noted: Notify::new(),
        }))
    }

    /// Counts one failure. Never blocks and never fails.
    pub fn note(&self, source: IpAddr, action: Action, reason: Reason) {
        // An IPv4 peer of a dual-stack listener is the same peer.
        self.note_by(Actor::ip(source.to_canonical()), action, reason);
    }

    /// As [`Merger::note`], for a peer that is known by more than its address. `actor` must come
    /// from a closed list: a name that the peer may choose gets a record for every choice.
    pub fn note_by(&self, actor: Actor, action: Action, reason: Reason) {
        if self.lock().note((Some(actor), action, reason)) {
            self.0.noted.notify_one();
        }
    }

    /// Records what is due until `shutdown` resolves, then everything that is left.
    ///
    /// # Errors
    /// The last flush's. Before that a failed write keeps its counts and is tried again.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), AuditError> {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                () = self.0.noted.notified() => {}
                _ = tick.tick() => {}
            }
            if self.flush_due().await.is_err() {
                tracing::error!("merged failures could not be put on record; trying again");
                // Not at once: the disk needs a moment.
                tick.reset();
            }
        }
        let left = self.lock().take(None);
        self.write(left).await
    }

    /// Records what is due now.
    ///
    /// # Errors
    /// [`AuditError`]; the counts are kept.
    pub async fn flush_due(&self) -> Result<(), AuditError> {
        let due = self.lock().take(Some((self.0.clock)()));
        self.write(due).await
    }

    async fn write(&self, due: Vec<(Key, u32)>) -> Result<(), AuditError> {
        let mut result = Ok(());
        for ((source, action, reason), count) in due {
            if result.is_ok() {
                let event = Event::refused(action, reason).count(count);
                let event = match source.clone() {
                    Some(source) => event.actor(source),
                    None => event,
                };
                result = self.0.log.record(event).await.map(drop);
            }
            if result.is_err() {
                self.lock().put_back((source, action, reason), count);
            }
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was noted and not yet recorded, and what was recorded lately.
#[derive(Debug)]
struct Table {
    capacity: usize,
    slots: BTreeMap<Key, Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    pending: u32,
    recorded: Option<Instant>,
}

impl Table {
    fn new(capacity: usize) -> Self {
        Self {
            capacity,
            slots: BTreeMap::new(),
        }
    }

    /// True if the key can be recorded at once.
    fn note(&mut self, key: Key) -> bool {
        let key = self.bounded(key);
        let slot = self.slots.entry(key).or_default();
        slot.pending = slot.pending.saturating_add(1);
        slot.recorded.is_none()
    }

    /// Strangers to a full table share a key without address; there are only as many of those as
    /// there are actions and reasons.
    fn bounded(&self, (source, action, reason): Key) -> Key {
        let key = (source, action, reason);
        if self.slots.len() < self.capacity || self.slots.contains_key(&key) {
            key
        } else {
            (None, action, reason)
        }
    }

    /// Takes the counts that are due at `now`, all of them without a time; forgets quiet keys.
    fn take(&mut self, now: Option<Instant>) -> Vec<(Key, u32)> {
        let mut due = Vec::new();
        self.slots.retain(|key, slot| {
            let open = slot
                .recorded
                .zip(now)
                .is_none_or(|(recorded, now)| now.saturating_duration_since(recorded) >= WINDOW);
            if !open {
                return true;
            }
            let count = mem::take(&mut slot.pending);
            if count == 0 {
                return false;
            }
            slot.recorded = now;
            due.push((key.clone(), count));
            true
        });
        due
    }

    fn put_back(&mut self, key: Key, count: u32) {
        let key = self.bounded(key);
        let slot = self.slots.entry(key).or_default();
        slot.pending = slot.pending.saturating_add(count);
        slot.recorded = None;
    }
}

#[cfg(test)]
mod tests;
