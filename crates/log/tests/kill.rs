//! A process that appends is killed; whatever it was told is durable must be there.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use cloister_log::{Log, LogConfig};

const DIR: &str = "CLOISTER_LOG_KILL_TEST_DIR";

fn record(sequence: u64) -> Vec<u8> {
    sequence.to_le_bytes().repeat(1 + sequence as usize % 300)
}

fn config(dir: impl Into<std::path::PathBuf>) -> LogConfig {
    LogConfig {
        segment_bytes: 64 << 10,
        ..LogConfig::at(dir)
    }
}

/// The child: run only by the test below.
#[test]
#[ignore = "the child process of the kill test"]
fn append_until_killed() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let log = Log::open(config(dir)).unwrap();
    loop {
        let sequence = log.append_blocking(record(log.len())).unwrap();
        println!("\nacknowledged {sequence}");
    }
}

#[test]
fn no_acknowledged_record_is_lost_over_twelve_kills() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "append_until_killed", "--ignored", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut left = 20 + 17 * round;
        for line in lines {
            if let Some(sequence) = line.unwrap().strip_prefix("acknowledged ") {
                acknowledged = sequence.parse::<u64>().unwrap() + 1;
                left -= 1;
            }
            if left == 0 {
                // Keeps reading after the kill: the pipe holds answers given before it.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let log = Log::open(config(dir.path())).unwrap();
        assert!(
            log.len() >= acknowledged,
            "{} of {acknowledged} left",
            log.len()
        );
        for item in log.iter_from(0) {
            let (sequence, read) = item.unwrap();
            assert_eq!(read, record(sequence));
        }
    }
    assert!(acknowledged > 1000);
}
