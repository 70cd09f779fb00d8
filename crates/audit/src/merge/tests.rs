use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::SigningKey;
use crate::log::AuditConfig;

const ACTION: Action = Action::ConnectionRefused;
const REASON: Reason = Reason::NoCertificate;

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

/// A clock that a test moves.
fn clock() -> (Arc<AtomicU64>, impl Fn() -> Instant + Send + Sync) {
    let (start, seconds) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let shared = Arc::clone(&seconds);
    (seconds, move || {
        start + Duration::from_millis(shared.load(Ordering::SeqCst))
    })
}

fn open(dir: &std::path::Path) -> AuditLog {
    let key = SigningKey::generate().unwrap();
    AuditLog::open(AuditConfig {
        dir: dir.into(),
        origin: "test".into(),
        key,
    })
    .unwrap()
}

fn recorded(log: &AuditLog) -> Vec<(Option<Actor>, u32)> {
    let events = log.events(0, 10_000).unwrap();
    let events = events
        .iter()
        .map(|(_, bytes)| Event::from_bytes(bytes).unwrap());
    events
        .map(|event| (event.who().cloned(), event.occurrences()))
        .collect()
}

#[tokio::test]
async fn the_first_failure_is_recorded_at_once_and_the_rest_once_in_ten_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let (millis, now) = clock();
    let merger = Merger::with_clock(log.clone(), now);
    for at in 0..25_000 {
        millis.store(at, Ordering::SeqCst);
        merger.note(ip(1), ACTION, REASON);
        if at % 100 == 0 {
            merger.flush_due().await.unwrap();
        }
    }
    let actor = Some(Actor::ip(ip(1)));
    assert_eq!(
        recorded(&log),
        [
            (actor.clone(), 1),
            (actor.clone(), 10_000),
            (actor.clone(), 10_000)
        ]
    );
    merger.clone().run(async {}).await.unwrap();
    let records = recorded(&log);
    assert_eq!(
        records.iter().map(|(_, count)| count).sum::<u32>(),
        25_000,
        "none is lost"
    );
    millis.store(60_000, Ordering::SeqCst);
    merger.flush_due().await.unwrap();
    assert_eq!(
        recorded(&log).len(),
        records.len(),
        "nothing is recorded twice"
    );
    assert!(
        merger.lock().slots.is_empty(),
        "quiet sources are forgotten"
    );
}

#[tokio::test]
async fn sources_and_reasons_are_kept_apart() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let merger = Merger::new(log.clone());
    merger.note(ip(1), ACTION, REASON);
    merger.note(ip(1), ACTION, Reason::NotTls);
    merger.note(ip(2), ACTION, REASON);
    merger.note("::ffff:192.0.2.2".parse().unwrap(), ACTION, REASON);
    merger.flush_due().await.unwrap();
    let mut counts: Vec<_> = recorded(&log).into_iter().map(|(_, count)| count).collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 1, 2]);
}

#[tokio::test]
async fn a_flood_of_sources_fills_neither_memory_nor_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let merger = Merger::new(log.clone());
    for at in 0..100_000_u32 {
        merger.note(IpAddr::from(at.to_be_bytes()), ACTION, REASON);
    }
    assert_eq!(merger.lock().slots.len(), CAPACITY + 1);
    merger.flush_due().await.unwrap();
    let records = recorded(&log);
    assert_eq!(records.len(), CAPACITY + 1);
    assert!(records.contains(&(None, 100_000 - CAPACITY as u32)));
}

#[test]
fn counts_that_could_not_be_written_are_due_again_at_once() {
    let now = Instant::now();
    let mut table = Table::new(4);
    let key = (Some(Actor::ip(ip(1))), ACTION, REASON);
    assert!(table.note(key.clone()));
    assert_eq!(table.take(Some(now)), [(key.clone(), 1)]);
    table.put_back(key.clone(), 1);
    assert!(table.note(key.clone()));
    assert_eq!(table.take(Some(now)), [(key.clone(), 2)]);
    assert!(!table.note(key.clone()));
    assert_eq!(table.take(Some(now)), []);
    assert_eq!(table.take(Some(now + WINDOW)), [(key, 1)]);
}

#[tokio::test]
async fn run_records_without_being_asked() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let merger = Merger::new(log.clone());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(merger.clone().run(async { drop(stopped.await) }));
    merger.note(ip(1), ACTION, REASON);
    while log.is_empty() {
        tokio::task::yield_now().await;
    }
    merger.note(ip(1), ACTION, REASON);
    drop(stop);
    running.await.unwrap().unwrap();
    assert_eq!(recorded(&log).len(), 2);
}
