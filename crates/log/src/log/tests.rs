use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::io::Errno;

use super::*;
use crate::disk::{Op, Watch};
use crate::read_directory;

/// A disk that fills up, or whose syncs fail, when a test says so.
#[derive(Debug, Default)]
struct Faults {
    full: AtomicBool,
    sync_fails: AtomicBool,
    cut_fails: AtomicBool,
    syncs: AtomicU64,
}

impl Watch for Faults {
    fn perform(&self, op: &Op<'_>, run: &mut dyn FnMut(usize) -> io::Result<()>) -> io::Result<()> {
        match op {
            // As a disk that fills up in the middle of a write.
            Op::Write(_, _, bytes) if self.full.load(Ordering::SeqCst) => {
                run(bytes.len() / 2)?;
                return Err(Errno::NOSPC.into());
            }
            Op::SetLen(..) if self.cut_fails.load(Ordering::SeqCst) => return Err(Errno::IO.into()),
            Op::Sync(_) => {
                self.syncs.fetch_add(1, Ordering::SeqCst);
                if self.sync_fails.load(Ordering::SeqCst) {
                    return Err(Errno::IO.into());
                }
            }
            _ => {}
        }
        run(usize::MAX)
    }
}

fn faulty(dir: &Path, records: u64) -> (Log, Arc<Faults>) {
    let faults = Arc::new(Faults::default());
    let config = LogConfig {
        disk: Disk::watched(Arc::clone(&faults) as Arc<dyn Watch>),
        ..small(dir)
    };
    let log = Log::open(config).unwrap();
    for at in 0..records {
        assert_eq!(log.append_blocking(record(at)).unwrap(), at);
    }
    (log, faults)
}

fn small(dir: &Path) -> LogConfig {
    LogConfig {
        segment_bytes: 256,
        ..LogConfig::at(dir)
    }
}

fn filled(dir: &Path, records: u64) -> Log {
    let log = Log::open(small(dir)).unwrap();
    for at in 0..records {
        assert_eq!(log.append_blocking(record(at)).unwrap(), at);
    }
    log
}

fn record(at: u64) -> Vec<u8> {
    format!("record {at} {}", "x".repeat(at as usize % 40)).into_bytes()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn appended_records_are_read_back_after_reopening_over_many_segments() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path(), 100));
    assert!(segments(dir.path()).len() > 10);
    let log = Log::open(small(dir.path())).unwrap();
    assert_eq!(log.len(), 100);
    for at in 0..100 {
        assert_eq!(log.read(at).unwrap().unwrap(), record(at));
    }
    assert!(log.read(100).unwrap().is_none());
    assert!(log.read(u64::MAX).unwrap().is_none());
    let tail: Vec<_> = log.iter_from(97).map(Result::unwrap).collect();
    assert_eq!(tail, [(97, record(97)), (98, record(98)), (99, record(99))]);
    assert_eq!(log.append_blocking(Vec::new()).unwrap(), 100);
    assert_eq!(log.read(100).unwrap().unwrap(), b"");
}

#[test]
fn an_unacknowledged_record_torn_at_any_byte_is_cut_off_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path(), 9));
    let path = segments(dir.path()).pop().unwrap();
    let before = fs::read(&path).unwrap();
    let log = Log::open(small(dir.path())).unwrap();
    log.append_blocking(record(9)).unwrap();
    drop(log);
    assert_eq!(
        segments(dir.path()).pop().unwrap(),
        path,
        "the record is in the same segment"
    );
    let after = fs::read(&path).unwrap();
    for cut in before.len()..after.len() {
        fs::write(&path, &after[..cut]).unwrap();
        // As the kernel leaves it when the power fails before the answer.
        Watermark::open(&Disk::default(), dir.path())
            .unwrap()
            .store(9)
            .unwrap();
        let log = Log::open(small(dir.path())).unwrap();
        assert_eq!(log.len(), 9, "cut at {cut}");
        assert_eq!(log.append_blocking(record(9)).unwrap(), 9);
        drop(log);
        assert_eq!(read_directory(dir.path(), |_, _| {}).unwrap().records, 10);
    }
}

#[test]
fn an_unacknowledged_record_with_any_byte_wrong_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path(), 9));
    let path = segments(dir.path()).pop().unwrap();
    let before = fs::read(&path).unwrap().len();
    filled_more(dir.path(), 9);
    let after = fs::read(&path).unwrap();
    for at in before..after.len() {
        let mut bytes = after.clone();
        bytes[at] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        Watermark::open(&Disk::default(), dir.path())
            .unwrap()
            .store(9)
            .unwrap();
        assert_eq!(Log::open(small(dir.path())).unwrap().len(), 9, "byte {at}");
    }
}

fn filled_more(dir: &Path, at: u64) {
    assert_eq!(
        Log::open(small(dir))
            .unwrap()
            .append_blocking(record(at))
            .unwrap(),
        at
    );
}

#[test]
fn an_acknowledged_record_that_is_cut_off_is_damage_and_is_not_repaired() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path(), 9));
    let path = segments(dir.path()).pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(matches!(
        Log::open(small(dir.path())),
        Err(LogError::Corrupt { .. })
    ));
    assert_eq!(fs::read(&path).unwrap().len(), bytes.len() - 1);
    fs::remove_file(&path).unwrap();
    assert!(matches!(
        Log::open(small(dir.path())),
        Err(LogError::Corrupt { .. })
    ));
}

#[test]
fn a_flipped_bit_anywhere_before_the_last_batch_refuses_the_log_even_without_watermark() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path(), 11));
    fs::remove_file(dir.path().join(crate::watermark::NAME)).unwrap();
    let paths = segments(dir.path());
    let (last, first) = paths.split_last().unwrap();
    for path in first {
        let bytes = fs::read(path).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            fs::write(path, &damaged).unwrap();
            let opened = Log::open(small(dir.path()));
            assert!(
                matches!(opened, Err(LogError::Corrupt { .. })),
                "{path:?} byte {at}"
            );
        }
        fs::write(path, &bytes).unwrap();
    }
    // In the last segment: everything before its last record.
    let recovered = recover::scan(dir.path(), &mut |_, _| {}).unwrap();
    let offsets = &recovered.segments.last().unwrap().offsets;
    assert!(offsets.len() > 1, "the last segment holds several records");
    let bytes = fs::read(last).unwrap();
    for at in 0..*offsets.last().unwrap() as usize {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        fs::write(last, &damaged).unwrap();
        let opened = Log::open(small(dir.path()));
        assert!(
            matches!(opened, Err(LogError::Corrupt { .. })),
            "last segment byte {at}"
        );
    }
}

#[test]
fn a_missing_segment_refuses_the_log() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path(), 30));
    fs::remove_file(&segments(dir.path())[2]).unwrap();
    assert!(matches!(
        Log::open(small(dir.path())),
        Err(LogError::Corrupt { .. })
    ));
}

#[test]
fn a_full_disk_is_told_to_every_waiter_and_the_log_works_again_when_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let (log, faults) = faulty(dir.path(), 3);
    faults.full.store(true, Ordering::SeqCst);
    assert!(matches!(
        log.append_blocking(record(3)),
        Err(LogError::Full)
    ));
    assert_eq!(log.len(), 3);
    faults.full.store(false, Ordering::SeqCst);
    assert_eq!(log.append_blocking(record(3)).unwrap(), 3);
    drop(log);
    assert_eq!(
        read_directory(dir.path(), |_, _| {}).unwrap(),
        crate::Stored {
            records: 4,
            torn_bytes: 0
        }
    );
}

#[test]
fn a_failed_sync_closes_the_log_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let (log, faults) = faulty(dir.path(), 3);
    faults.sync_fails.store(true, Ordering::SeqCst);
    assert!(matches!(
        log.append_blocking(record(3)),
        Err(LogError::Io(_))
    ));
    faults.sync_fails.store(false, Ordering::SeqCst);
    assert!(matches!(
        log.append_blocking(record(3)),
        Err(LogError::Closed)
    ));
    assert_eq!(log.len(), 3);
    drop(log);
    assert_eq!(Log::open(small(dir.path())).unwrap().len(), 3);
}

#[test]
fn a_batch_that_cannot_be_taken_back_closes_the_log_and_is_not_called_full() {
    let dir = tempfile::tempdir().unwrap();
    let (log, faults) = faulty(dir.path(), 3);
    faults.full.store(true, Ordering::SeqCst);
    faults.cut_fails.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        assert!(matches!(
            log.append_blocking(record(3)),
            Err(LogError::Closed)
        ));
        faults.full.store(false, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_share_a_sync_and_each_answer_comes_after_one() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    let config = LogConfig {
        disk: Disk::watched(Arc::clone(&faults) as Arc<dyn Watch>),
        ..LogConfig::at(dir.path())
    };
    let log = Log::open(config).unwrap();
    let mut tasks = Vec::new();
    for task in 0..64_u32 {
        let (log, faults) = (log.clone(), Arc::clone(&faults));
        tasks.push(tokio::spawn(async move {
            let mut sequences = Vec::new();
            for at in 0..8_u32 {
                let record = [task.to_le_bytes(), at.to_le_bytes()].concat();
                let syncs = faults.syncs.load(Ordering::SeqCst);
                let sequence = log.append(record.clone()).await.unwrap();
                // At least one sync began between question and answer.
                assert!(faults.syncs.load(Ordering::SeqCst) > syncs);
                assert_eq!(log.read(sequence).unwrap().unwrap(), record);
                sequences.push(sequence);
            }
            sequences
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    all.sort_unstable();
    assert_eq!(all, (0..512).collect::<Vec<_>>());
    let syncs = faults.syncs.load(Ordering::SeqCst);
    assert!(syncs < 512, "{syncs} syncs for 512 records");
}

#[test]
fn a_second_opener_is_refused_until_the_first_one_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(dir.path(), 1);
    assert!(matches!(
        Log::open(small(dir.path())),
        Err(LogError::Locked)
    ));
    drop(log);
    assert_eq!(Log::open(small(dir.path())).unwrap().len(), 1);
}

#[test]
fn a_record_over_the_limit_is_refused_and_the_next_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig {
        max_record_bytes: 8,
        ..LogConfig::at(dir.path())
    };
    let log = Log::open(config).unwrap();
    assert!(matches!(
        log.append_blocking(vec![0; 9]),
        Err(LogError::TooLarge)
    ));
    assert_eq!(log.append_blocking(vec![0; 8]).unwrap(), 0);
}

#[test]
fn many_records_at_once_stand_in_their_order_and_share_their_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    let log = Log::open(LogConfig {
        disk: Disk::watched(Arc::clone(&faults) as Arc<dyn Watch>),
        ..LogConfig::at(dir.path())
    })
    .unwrap();
    let before = faults.syncs.load(Ordering::SeqCst);
    let sequences = log.append_all_blocking((0..3000).map(record)).unwrap();
    assert!(sequences.into_iter().eq(0..3000));
    // One for each record at worst, as the writer may be faster than we are.
    assert!(faults.syncs.load(Ordering::SeqCst) - before < 3000);
    for at in [0, 1, 2999] {
        assert_eq!(log.read(at).unwrap(), Some(record(at)));
    }
    assert_eq!(log.append_all_blocking([]).unwrap(), Vec::<u64>::new());
    faults.full.store(true, Ordering::SeqCst);
    let refused = log.append_all_blocking([record(1), record(2)]);
    assert!(matches!(refused, Err(LogError::Full)));
}
