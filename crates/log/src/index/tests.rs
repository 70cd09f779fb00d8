use super::*;
use crate::log::LogConfig;

/// Record `k=v` sets, record `k` removes; every record counts.
fn apply(_: u64, record: &[u8], batch: &mut Batch) {
    let text = std::str::from_utf8(record).unwrap();
    match text.split_once('=') {
        Some((key, value)) => batch.insert(key, value),
        None => batch.remove(text),
    }
    let count = batch
        .get(b"count")
        .map_or(0, |count| u64_at(&count, 0).unwrap());
    batch.insert(b"count", (count + 1).to_le_bytes());
}

fn open_index(dir: &Path, schema: &str, log: &Log) -> Index {
    Index::open(&dir.join("index"), schema, log, apply).unwrap()
}

fn open_log(dir: &Path) -> Log {
    Log::open(LogConfig::at(dir.join("log"))).unwrap()
}

fn append(log: &Log, index: &Index, record: &str) {
    let sequence = log.append_blocking(record.into()).unwrap();
    index.apply(sequence, record.as_bytes()).unwrap();
}

fn assert_whole(index: &Index) {
    assert_eq!(index.get(b"a").unwrap().unwrap(), b"3");
    assert_eq!(index.get(b"b").unwrap(), None);
    assert_eq!(index.get(b"count").unwrap().unwrap(), 5_u64.to_le_bytes());
    let keys: Vec<_> = index
        .scan_prefix(b"x/")
        .map(|item| item.unwrap().0)
        .collect();
    assert_eq!(keys, [b"x/1"]);
}

fn filled(dir: &Path) -> (Log, Index) {
    let log = open_log(dir);
    let index = open_index(dir, "1", &log);
    for record in ["a=1", "b=2", "a=3", "x/1=y", "b"] {
        append(&log, &index, record);
    }
    (log, index)
}

#[test]
fn answers_what_was_applied_before_and_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (log, index) = filled(dir.path());
    assert_whole(&index);
    drop(index);
    assert_whole(&open_index(dir.path(), "1", &log));
}

#[test]
fn is_built_anew_when_deleted_or_of_another_schema() {
    let dir = tempfile::tempdir().unwrap();
    let (log, index) = filled(dir.path());
    drop(index);
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    assert_whole(&open_index(dir.path(), "1", &log));
    assert_whole(&open_index(dir.path(), "2", &log));
}

#[test]
fn is_built_anew_when_any_of_its_files_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let (log, index) = filled(dir.path());
    drop(index);
    for name in ["conf", "db"] {
        for damage in ["truncated", "garbage", "flipped"] {
            let path = dir.path().join("index").join(name);
            let mut bytes = fs::read(&path).unwrap();
            match damage {
                "truncated" => bytes.truncate(7),
                "garbage" => bytes.iter_mut().for_each(|byte| *byte = 0xa5),
                _ => bytes.iter_mut().step_by(97).for_each(|byte| *byte ^= 1),
            }
            fs::write(&path, bytes).unwrap();
            assert_whole(&open_index(dir.path(), "1", &log));
        }
    }
    drop(open_index(dir.path(), "1", &log));
    for entry in fs::read_dir(dir.path().join("index")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("snap.")
        {
            fs::write(path, b"short").unwrap();
        }
    }
    assert_whole(&open_index(dir.path(), "1", &log));
}

#[test]
fn is_built_anew_when_sled_failed_while_running() {
    let dir = tempfile::tempdir().unwrap();
    let (log, index) = filled(dir.path());
    assert!(matches!(index.0.failed(), LogError::Index));
    drop(index);
    assert_whole(&open_index(dir.path(), "1", &log));
    assert!(!dir.path().join("index").join(DAMAGED).exists());
}

#[test]
fn catches_up_when_behind_and_applies_out_of_order_answers_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (log, index) = filled(dir.path());
    let first = log.append_blocking(b"z=1".to_vec()).unwrap();
    let second = log.append_blocking(b"z=2".to_vec()).unwrap();
    index.apply(second, b"z=2").unwrap();
    index.apply(first, b"z=1").unwrap();
    assert_eq!(index.get(b"z").unwrap().unwrap(), b"2");
    drop(index);
    for _ in 0..1200 {
        log.append_blocking(b"w=9".to_vec()).unwrap();
    }
    let index = open_index(dir.path(), "1", &log);
    assert_eq!(
        index.get(b"count").unwrap().unwrap(),
        1207_u64.to_le_bytes()
    );
}

#[test]
fn is_built_anew_when_it_belongs_to_another_or_a_shorter_log() {
    let dir = tempfile::tempdir().unwrap();
    let (log, index) = filled(dir.path());
    drop((log, index));
    fs::remove_dir_all(dir.path().join("log")).unwrap();
    let log = open_log(dir.path());
    let index = open_index(dir.path(), "1", &log);
    assert_eq!(index.get(b"a").unwrap(), None);
    drop(index);
    for record in ["a=7", "a=8", "a=9", "a=10", "a=11", "a=12"] {
        log.append_blocking(record.into()).unwrap();
    }
    assert_eq!(
        open_index(dir.path(), "1", &log)
            .get(b"a")
            .unwrap()
            .unwrap(),
        b"12"
    );
}

#[test]
fn scans_only_what_comes_after_the_cursor_within_the_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(dir.path());
    let index = open_index(dir.path(), "1", &log);
    for record in ["p/1=a", "p/2=b", "p/3=c", "q/1=d"] {
        append(&log, &index, record);
    }
    let keys: Vec<_> = index
        .scan_after(b"p/", b"1")
        .map(|item| item.unwrap().0)
        .collect();
    assert_eq!(keys, [b"p/2", b"p/3"]);
}
