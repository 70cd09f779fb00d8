use std::path::Path;
use std::time::{Duration, Instant};

use cloister_log::durable;

use super::*;
use crate::reason::Reason;
use crate::verify::{verify_directory, verify_inclusion};

const ORIGIN: &str = "hospital.example/sidecar/0";

struct Site {
    dir: tempfile::TempDir,
    key: SigningKey,
}

impl Site {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            key: SigningKey::generate().unwrap(),
        }
    }

    fn open(&self) -> Result<AuditLog, AuditError> {
        self.open_at(self.dir.path())
    }

    fn open_at(&self, dir: &Path) -> Result<AuditLog, AuditError> {
        let (origin, key) = (ORIGIN.into(), self.key.clone());
        AuditLog::open(AuditConfig {
            dir: dir.into(),
            origin,
            key,
        })
    }

    fn verify(&self, dir: &Path) -> Result<crate::Verified, VerifyError> {
        verify_directory(dir, ORIGIN, &self.key.verifying_key())
    }

    /// A log of `records` events, closed in good order.
    fn filled(records: u64) -> Self {
        let site = Self::new();
        let log = site.open().unwrap();
        for at in 0..records {
            let recorded = log.record_blocking(event(at)).unwrap();
            assert_eq!(recorded.leaf_index, at);
        }
        site
    }

    /// Another log that holds `records`, with valid checksums, under this log's checkpoint.
    fn forge(&self, records: &[Vec<u8>]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(LogConfig::at(dir.path().join(RECORDS))).unwrap();
        for record in records {
            log.append_blocking(record.clone()).unwrap();
        }
        fs::copy(
            self.dir.path().join(CHECKPOINT),
            dir.path().join(CHECKPOINT),
        )
        .unwrap();
        dir
    }

    fn records(&self) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        cloister_log::read_directory(&self.dir.path().join(RECORDS), |_, record| {
            records.push(record.to_vec());
        })
        .unwrap();
        records
    }
}

fn event(at: u64) -> Event {
    Event::new(Action::ReportReleased)
        .report(Uuid::from_u128(at.into()))
        .at_unix_ms(at as i64)
}

#[test]
fn every_record_is_provable_at_once_and_after_reopening() {
    let site = Site::new();
    let key = site.key.verifying_key();
    let log = site.open().unwrap();
    for at in 0..600 {
        log.record_blocking(event(at)).unwrap();
        if at % 50 == 0 || at > 595 {
            let proof = log.prove_inclusion(at).unwrap();
            assert_eq!(verify_inclusion(&proof, ORIGIN, &key).unwrap(), event(at));
        }
    }
    drop(log);
    let log = site.open().unwrap();
    for at in [0, 1, 255, 256, 511, 512, 599] {
        let proof = log.prove_inclusion(at).unwrap();
        assert_eq!(verify_inclusion(&proof, ORIGIN, &key).unwrap(), event(at));
    }
    assert!(matches!(
        log.prove_inclusion(600),
        Err(AuditError::NoSuchLeaf)
    ));
    assert_eq!(log.find_by_report(Uuid::from_u128(77)), Some(77));
    assert_eq!(log.find(Action::ReportWithheld, Uuid::from_u128(77)), None);
    assert_eq!(log.events(598, 10).unwrap().len(), 2);
    let checkpoint = Checkpoint::verify(&log.checkpoint().unwrap(), ORIGIN, &key).unwrap();
    assert_eq!(checkpoint.size, 600);
}

#[test]
fn an_altered_proof_or_one_of_another_log_does_not_verify() {
    let site = Site::filled(10);
    let key = site.key.verifying_key();
    let proof = site.open().unwrap().prove_inclusion(4).unwrap();
    let check = |proof: &InclusionProof| verify_inclusion(proof, ORIGIN, &key);
    assert!(check(&proof).is_ok());
    let mut altered = proof.clone();
    altered.leaf_index = 5;
    assert!(matches!(check(&altered), Err(VerifyError::Inclusion)));
    let mut altered = proof.clone();
    altered.leaf = event(5).to_bytes().unwrap();
    assert!(matches!(check(&altered), Err(VerifyError::Inclusion)));
    let mut altered = proof.clone();
    altered.path.pop();
    assert!(matches!(check(&altered), Err(VerifyError::Inclusion)));
    let other = Site::filled(10).open().unwrap().prove_inclusion(4).unwrap();
    assert!(matches!(check(&other), Err(VerifyError::Signature)));
}

#[test]
fn a_flipped_byte_anywhere_in_the_records_is_found_offline() {
    let site = Site::filled(5);
    let segment = site.dir.path().join(RECORDS).join(format!("{:020}.seg", 0));
    let bytes = fs::read(&segment).unwrap();
    assert_eq!(site.verify(site.dir.path()).unwrap().checkpoint_size, 5);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        durable::write_atomic(&segment, &damaged, 0o600).unwrap();
        assert!(site.verify(site.dir.path()).is_err(), "byte {at}");
    }
}

#[test]
fn edits_with_right_checksums_are_found_offline_and_at_the_next_start() {
    let site = Site::filled(300);
    let honest = site.records();
    assert!(site.verify(site.forge(&honest).path()).is_ok());
    let edits: [fn(&mut Vec<Vec<u8>>); 5] = [
        |records| records[7] = event(8888).to_bytes().unwrap(),
        |records| drop(records.remove(150)),
        |records| records.swap(298, 299),
        |records| records.insert(0, event(8888).to_bytes().unwrap()),
        |records| records.truncate(299),
    ];
    for (at, edit) in edits.into_iter().enumerate() {
        let mut records = honest.clone();
        edit(&mut records);
        let forged = site.forge(&records);
        let found = site.verify(forged.path()).unwrap_err();
        assert!(
            matches!(found, VerifyError::Root | VerifyError::Cut { .. }),
            "edit {at}: {found}"
        );
        assert!(
            matches!(site.open_at(forged.path()), Err(AuditError::Tampered)),
            "edit {at}"
        );
    }
}

#[test]
fn records_after_the_checkpoint_are_reported_as_uncovered() {
    let site = Site::filled(10);
    let mut records = site.records();
    records.push(event(10).to_bytes().unwrap());
    records.push(event(11).to_bytes().unwrap());
    let grown = site.forge(&records);
    let verified = site.verify(grown.path()).unwrap();
    assert_eq!(
        (
            verified.records,
            verified.checkpoint_size,
            verified.uncovered_tail
        ),
        (12, 10, 2)
    );
    // As after a kill: the next start signs them.
    drop(site.open_at(grown.path()).unwrap());
    assert_eq!(site.verify(grown.path()).unwrap().uncovered_tail, 0);
    records.push(b"{}".to_vec());
    let garbage = site.forge(&records);
    let found = site.verify(garbage.path());
    assert!(matches!(found, Err(VerifyError::Event { record: 12 })));
}

#[test]
fn a_missing_or_foreign_checkpoint_is_not_replaced() {
    let site = Site::filled(3);
    let path = site.dir.path().join(CHECKPOINT);
    let note = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(matches!(site.open(), Err(AuditError::Tampered)));
    assert!(matches!(
        site.verify(site.dir.path()),
        Err(VerifyError::NoCheckpoint)
    ));
    let foreign = Site::filled(3);
    fs::copy(foreign.dir.path().join(CHECKPOINT), &path).unwrap();
    assert!(matches!(site.open(), Err(AuditError::Checkpoint)));
    assert!(matches!(
        site.verify(site.dir.path()),
        Err(VerifyError::Signature)
    ));
    durable::write_atomic(&path, &note, 0o644).unwrap();
    assert_eq!(site.open().unwrap().len(), 3);
}

#[test]
fn a_bad_origin_is_refused() {
    let site = Site::new();
    for origin in ["", "a b", "a\nb", "a+b", "a\u{a0}b"] {
        let config = AuditConfig {
            dir: site.dir.path().into(),
            origin: origin.into(),
            key: site.key.clone(),
        };
        assert!(
            matches!(AuditLog::open(config), Err(AuditError::Origin)),
            "{origin:?}"
        );
    }
}

#[test]
fn a_checkpoint_is_on_disk_within_a_second_or_256_records_without_closing() {
    let site = Site::new();
    let log = site.open().unwrap();
    log.record_blocking(event(0)).unwrap();
    let size_on_disk = || {
        site.verify(site.dir.path())
            .map_or(0, |verified| verified.checkpoint_size)
    };
    let start = Instant::now();
    let deadline = start + Duration::from_secs(20);
    while size_on_disk() < 1 {
        assert!(Instant::now() < deadline);
        thread::yield_now();
    }
    for at in 1..600 {
        log.record_blocking(event(at)).unwrap();
    }
    while size_on_disk() < 512 {
        assert!(Instant::now() < deadline);
        thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_many_tasks_and_of_dropped_ones_all_stand_in_the_tree() {
    let site = Site::new();
    let log = site.open().unwrap();
    let mut tasks = Vec::new();
    for task in 0..32_u64 {
        let log = log.clone();
        tasks.push(tokio::spawn(async move {
            for at in 0..8 {
                let recorded = log.record(event(task * 8 + at)).await.unwrap();
                let proof = log.prove_inclusion(recorded.leaf_index).unwrap();
                assert_eq!(leaf_hash(&proof.leaf), recorded.leaf_hash);
                let key = log.verifying_key();
                assert_eq!(
                    verify_inclusion(&proof, ORIGIN, &key).unwrap(),
                    event(task * 8 + at)
                );
            }
        }));
        if task % 5 == 0 {
            let last = tasks.pop().unwrap();
            last.abort();
            drop(last.await);
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    let refused = Event::refused(Action::RequestRefused, Reason::RoleNotAllowed);
    let last = log.record(refused.clone()).await.unwrap();
    assert_eq!(log.len(), last.leaf_index + 1);
    drop(log);
    assert_eq!(
        site.verify(site.dir.path()).unwrap().records,
        last.leaf_index + 1
    );
}
