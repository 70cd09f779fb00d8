//! Whoever edits, drops or cuts records before the checkpoint is found, offline.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use cloister_audit::{
    Action, AuditConfig, AuditError, AuditLog, Event, Reason, SigningKey, VerifyError,
    verify_directory, verify_inclusion,
};
use uuid::Uuid;

const ORIGIN: &str = "hospital.test/sidecar/0";

struct Fixture {
    dir: tempfile::TempDir,
    config: AuditConfig,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = AuditConfig {
            dir: dir.path().join("audit"),
            origin: ORIGIN.into(),
            key: SigningKey::generate().unwrap(),
        };
        Self { dir, config }
    }

    fn open(&self) -> AuditLog {
        AuditLog::open(self.config.clone()).unwrap()
    }

    fn verify(&self) -> Result<cloister_audit::Verified, VerifyError> {
        verify_directory(&self.config.dir, ORIGIN, &self.config.key.verifying_key())
    }

    fn fill(&self, records: u128) {
        self.fill_from(0, records);
    }

    /// Records about other reports than those of [`Fixture::fill`]: two logs filled alike within one
    /// millisecond are the same log.
    fn fill_from(&self, first: u128, records: u128) {
        let log = self.open();
        for n in first..first + records {
            log.record_blocking(Event::new(Action::ReportReleased).report(Uuid::from_u128(n)))
                .unwrap();
        }
    }

    fn segment(&self) -> PathBuf {
        let entries = fs::read_dir(self.config.dir.join("log")).unwrap();
        let mut segments: Vec<PathBuf> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
            .collect();
        segments.sort();
        segments.pop().unwrap()
    }
}

#[tokio::test]
async fn an_event_can_be_proved_as_soon_as_it_is_recorded() {
    let fixture = Fixture::new();
    let log = fixture.open();
    let report = Uuid::from_u128(42);
    for n in 0..20 {
        log.record(Event::refused(Action::RequestRefused, Reason::RateLimited).count(n))
            .await
            .unwrap();
    }
    let recorded = log
        .record(Event::new(Action::ReportReleased).report(report))
        .await
        .unwrap();
    assert_eq!(log.find_by_report(report), Some(recorded.leaf_index));
    let proof = log.prove_inclusion(recorded.leaf_index).unwrap();
    let key = fixture.config.key.verifying_key();
    assert_eq!(
        verify_inclusion(&proof, ORIGIN, &key).unwrap().report_id(),
        Some(report)
    );

    let mut other = proof.clone();
    other.leaf = log.events(0, 1).unwrap().remove(0).1;
    assert!(matches!(
        verify_inclusion(&other, ORIGIN, &key),
        Err(VerifyError::Inclusion)
    ));
    let stranger = SigningKey::generate().unwrap().verifying_key();
    assert!(matches!(
        verify_inclusion(&proof, ORIGIN, &stranger),
        Err(VerifyError::Signature)
    ));
    assert!(matches!(
        log.prove_inclusion(99),
        Err(AuditError::NoSuchLeaf)
    ));
}

#[tokio::test]
async fn many_writers_get_one_leaf_each_and_the_log_verifies() {
    let fixture = Fixture::new();
    let log = fixture.open();
    let writers = (0..64_u128).map(|n| {
        let log = log.clone();
        tokio::spawn(async move {
            let event = Event::new(Action::ObjectStored).report(Uuid::from_u128(n));
            log.record(event).await.unwrap().leaf_index
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut leaves = Vec::new();
    for writer in writers {
        leaves.push(writer.await.unwrap());
    }
    leaves.sort_unstable();
    assert_eq!(leaves, (0..64).collect::<Vec<u64>>());
    drop(log);
    let verified = fixture.verify().unwrap();
    assert_eq!((verified.records, verified.uncovered_tail), (64, 0));
}

#[test]
fn a_log_continues_after_a_restart() {
    let fixture = Fixture::new();
    fixture.fill(5);
    fixture.fill(5);
    let verified = fixture.verify().unwrap();
    assert_eq!((verified.records, verified.checkpoint_size), (10, 10));
    assert_eq!(
        fixture.open().find_by_report(Uuid::from_u128(4)),
        Some(4),
        "the first leaf counts"
    );
}

#[test]
fn a_second_opener_is_refused() {
    let fixture = Fixture::new();
    let _log = fixture.open();
    assert!(AuditLog::open(fixture.config.clone()).is_err());
}

#[test]
fn every_flipped_byte_of_the_records_is_found() {
    let fixture = Fixture::new();
    fixture.fill(4);
    let segment = fixture.segment();
    let intact = fs::read(&segment).unwrap();
    for at in 0..intact.len() {
        let mut bent = intact.clone();
        bent[at] ^= 0x20;
        overwrite(&segment, &bent);
        assert!(fixture.verify().is_err(), "byte {at} of {}", intact.len());
    }
    overwrite(&segment, &intact);
    fixture.verify().unwrap();
}

#[test]
fn a_cut_log_is_found_and_the_room_does_not_start_on_it() {
    let fixture = Fixture::new();
    fixture.fill(3);
    let short = fs::read(fixture.segment()).unwrap();
    fixture.fill(3);
    overwrite(&fixture.segment(), &short);
    // The log's own watermark sees it first; whoever cuts the log removes that too.
    assert!(matches!(fixture.verify(), Err(VerifyError::Log(_))));
    fs::remove_file(fixture.config.dir.join("log/durable")).unwrap();
    let verified = fixture.verify();
    assert!(
        matches!(
            verified,
            Err(VerifyError::Cut {
                records: 3,
                covered: 6
            })
        ),
        "{verified:?}"
    );
    assert!(AuditLog::open(fixture.config.clone()).is_err());
}

#[test]
fn a_log_rewritten_by_someone_without_the_key_is_found() {
    let fixture = Fixture::new();
    fixture.fill(3);
    let forged = Fixture::new();
    forged.fill_from(100, 3);
    let note = fs::read(fixture.config.dir.join("checkpoint")).unwrap();
    fs::copy(forged.segment(), fixture.segment()).unwrap();
    assert!(matches!(fixture.verify(), Err(VerifyError::Root)));
    overwrite(&forged.config.dir.join("checkpoint"), &note);
    assert!(forged.verify().is_err());
    assert!(fixture.dir.path().exists());
}

#[test]
fn a_missing_checkpoint_is_found() {
    let fixture = Fixture::new();
    fixture.fill(1);
    fs::remove_file(fixture.config.dir.join("checkpoint")).unwrap();
    assert!(matches!(fixture.verify(), Err(VerifyError::NoCheckpoint)));
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test damages files on purpose"
)]
fn overwrite(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
}
