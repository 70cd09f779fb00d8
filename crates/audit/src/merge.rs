//! Failures before authentication: anybody can cause them, so they must not fill the disk or delay
//! a release. They are merged per source and reason, at most one record per ten seconds each.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::AuditError;
use crate::event::Event;
use crate::log::AuditLog;
use crate::vocabulary::{Action, Actor, Reason};

/// A source and reason is recorded at most this often.
pub const MERGE_WINDOW: Duration = Duration::from_secs(10);
/// Sources counted one by one; what comes from more is counted together, without a source.
const MAX_SOURCES: usize = 1024;
/// How often due counts are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

type Key = (Option<IpAddr>, Action, Reason);

#[derive(Debug)]
struct Count {
    /// Not recorded yet.
    pending: u32,
    /// When the last record was written, if any.
    recorded: Option<Instant>,
}

/// Merges and writes such failures. Clones share one table.
#[derive(Debug, Clone)]
pub struct Merger {
    log: AuditLog,
    counts: Arc<Mutex<HashMap<Key, Count>>>,
}

impl Merger {
    /// A merger that writes to `log`; [`Merger::run`] has to be driven.
    pub fn new(log: AuditLog) -> Self {
        Self {
            log,
            counts: Arc::default(),
        }
    }

    /// Counts one failure. Never blocks on the disk.
    pub fn note(&self, source: IpAddr, action: Action, reason: Reason) {
        let mut counts = self.lock();
        let key = (Some(source), action, reason);
        let full = counts.len() >= MAX_SOURCES && !counts.contains_key(&key);
        let key = if full { (None, action, reason) } else { key };
        let count = counts.entry(key).or_insert(Count {
            pending: 0,
            recorded: None,
        });
        count.pending = count.pending.saturating_add(1);
    }

    /// Writes what is due until `shutdown` resolves, then everything that is left.
    ///
    /// # Errors
    /// The log's, when the last counts cannot be written. While running, a failed write is logged
    /// and its count kept.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), AuditError> {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut tick = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                () = &mut shutdown => return self.write(None).await,
                _ = tick.tick() => {
                    if let Err(error) = self.write(Some(Instant::now())).await {
                        tracing::error!(%error, "Merged failures could not be recorded.");
                    }
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes counts that are due at `now`, or all of them.
    async fn write(&self, now: Option<Instant>) -> Result<(), AuditError> {
        for (key, pending) in self.take_due(now) {
            let (source, action, reason) = key;
            let mut event = Event::refused(action, reason).count(pending);
            if let Some(source) = source {
                event = event.actor(Actor::ip(source));
            }
            if let Err(error) = self.log.record(event).await {
                if let Some(count) = self.lock().get_mut(&key) {
                    count.pending = count.pending.saturating_add(pending);
                    count.recorded = None;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn take_due(&self, now: Option<Instant>) -> Vec<(Key, u32)> {
        let mut due = Vec::new();
        self.lock().retain(|key, count| {
            let window_over = match (now, count.recorded) {
                (Some(now), Some(recorded)) => now.duration_since(recorded) >= MERGE_WINDOW,
                _ => true,
            };
            if !window_over {
                return true;
            }
            if count.pending == 0 {
                return false;
            }
            due.push((*key, count.pending));
            count.pending = 0;
            count.recorded = now;
            true
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use cloister_seal::SigningKey;

    use super::*;
    use crate::log::AuditConfig;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn merger() -> (tempfile::TempDir, AuditLog, Merger) {
        let dir = tempfile::tempdir().unwrap();
        let config = AuditConfig {
            dir: dir.path().into(),
            origin: "hospital.test/sidecar/0".into(),
            key: SigningKey::generate().unwrap(),
        };
        let log = AuditLog::open(config).unwrap();
        (dir, log.clone(), Merger::new(log))
    }

    fn counts(log: &AuditLog) -> Vec<u32> {
        let events = log.events(0, 100).unwrap();
        let count = |(_, bytes): &(u64, Vec<u8>)| Event::from_bytes(bytes).unwrap().occurrences();
        events.iter().map(count).collect()
    }

    #[tokio::test]
    async fn a_source_is_recorded_once_per_window_and_nothing_is_forgotten() {
        let (_dir, log, merger) = merger();
        let start = Instant::now();
        for _ in 0..3 {
            merger.note(HERE, Action::ConnectionRefused, Reason::NoCertificate);
        }
        merger.write(Some(start)).await.unwrap();
        for _ in 0..500 {
            merger.note(HERE, Action::ConnectionRefused, Reason::NoCertificate);
            merger
                .write(Some(start + Duration::from_secs(9)))
                .await
                .unwrap();
        }
        assert_eq!(counts(&log), [3]);
        merger.note(HERE, Action::ConnectionRefused, Reason::NotTls);
        merger.write(Some(start + MERGE_WINDOW)).await.unwrap();
        let mut written = counts(&log);
        written.sort_unstable();
        assert_eq!(written, [1, 3, 500]);
    }

    #[tokio::test]
    async fn a_flood_of_sources_stays_bounded_and_counted() {
        let (_dir, log, merger) = merger();
        for source in 0..5000_u32 {
            let source = IpAddr::V4(Ipv4Addr::from(source));
            merger.note(source, Action::ConnectionRefused, Reason::NotTls);
        }
        assert!(merger.lock().len() <= MAX_SOURCES + 1);
        let total: u32 = merger.take_due(None).iter().map(|(_, count)| count).sum();
        assert_eq!(total, 5000);
        assert!(log.is_empty());
    }

    #[tokio::test]
    async fn the_rest_is_written_at_shutdown() {
        let (_dir, log, merger) = merger();
        merger.note(HERE, Action::AssociationRefused, Reason::BadPdu);
        merger.run(std::future::ready(())).await.unwrap();
        assert_eq!(counts(&log), [1]);
    }
}
