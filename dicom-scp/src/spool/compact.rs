//! The log does not grow without bound: once it holds far more records than there is to know, what
//! is known is written to a new log, and the file `current` is switched to it.
//!
//! Order: new log durable, then `current` (atomic), then the old log goes. A kill in between leaves a
//! log that `current` does not name, and the next start removes it.

use std::io;
use std::path::{Path, PathBuf};

use cloister_log::disk::Disk;
use cloister_log::{Log, LogConfig, LogError};

use super::Spool;
use super::record::{Record, now_unix_ms};
use super::worklist::Worklist;
use crate::error::SpoolError;
use crate::metric;

const CURRENT: &str = "current";
/// Records that are not worth the trouble.
const FEW_RECORDS: u64 = 20_000;
/// References of a modality's request that are as long as any other record.
const REFERENCES: u64 = 50;
/// A log this many times as long as its snapshot is compacted.
const TIMES: u64 = 4;

/// The log that counts.
pub(super) struct Current {
    pub(super) log: Log,
    generation: u64,
}

impl Current {
    pub(super) fn open(
        disk: &Disk,
        dir: &Path,
        worklist: &mut Worklist,
    ) -> Result<Self, SpoolError> {
        // What it says may not have been durable when the process died.
        disk.sync_dir(dir)?;
        let generation = match std::fs::read_to_string(dir.join(CURRENT)) {
            Ok(text) => text.trim().parse().map_err(|_| SpoolError::NoLog)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error.into()),
        };
        let path = log_dir(dir, generation);
        // An empty log in place of a lost one would make every file an orphan, and those are destroyed.
        if !path.is_dir() && (generation > 0 || has_traces(dir)?) {
            return Err(SpoolError::NoLog);
        }
        let log = Log::open(LogConfig {
            disk: disk.clone(),
            ..LogConfig::at(&path)
        })?;
        for item in log.iter_from(0) {
            let (sequence, bytes) = item?;
            let record =
                serde_json::from_slice(&bytes).map_err(|_| SpoolError::Record { sequence })?;
            worklist.apply(sequence, record);
        }
        for entry in std::fs::read_dir(dir)? {
            let other = entry?.path();
            let name = other.file_name().and_then(|name| name.to_str());
            if other != path && name.is_some_and(is_log) {
                remove_log(disk, &other)?;
                disk.sync_dir(dir)?;
            } else if other
                .extension()
                .is_some_and(|extension| extension == "tmp")
            {
                disk.remove_file(&other)?;
            }
        }
        Ok(Self { log, generation })
    }
}

fn is_log(name: &str) -> bool {
    name == "log" || name.starts_with("log-")
}

/// Whether there ever was a log here.
fn has_traces(dir: &Path) -> io::Result<bool> {
    for entry in std::fs::read_dir(dir)? {
        if entry?.file_name().to_str().is_some_and(is_log) {
            return Ok(true);
        }
    }
    for folder in ["objects", "cleared", "keys"] {
        if std::fs::read_dir(dir.join(folder))?.next().is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn log_dir(dir: &Path, generation: u64) -> PathBuf {
    match generation {
        0 => dir.join("log"),
        n => dir.join(format!("log-{n}")),
    }
}

/// A log's directory is flat.
fn remove_log(disk: &Disk, dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        disk.remove_file(&entry?.path())?;
    }
    disk.sync_dir(dir)?;
    disk.remove_dir(dir)
}

impl Spool {
    /// Compacts the log if that is worth the trouble.
    pub(crate) async fn compact_if_long(&self) -> Result<(), SpoolError> {
        let records = self.0.log.read().await.log.len();
        let (live, (referenced, referenced_live)) = {
            let worklist = self.worklist();
            (worklist.live_records(), worklist.relay_references())
        };
        metric::log_records(records);
        let (records, live) = (
            records + referenced / REFERENCES,
            live + referenced_live / REFERENCES,
        );
        if records > live.saturating_mul(TIMES).saturating_add(FEW_RECORDS) {
            self.compact().await?;
        }
        Ok(())
    }

    /// Writes what is known to a new log and goes on in that one. Appends wait meanwhile.
    pub(crate) async fn compact(&self) -> Result<(), SpoolError> {
        let mut current = self.0.log.write().await;
        let spool = self.clone();
        let (records, generation) = {
            let mut worklist = self.worklist();
            worklist.forget_old(now_unix_ms());
            (worklist.snapshot(), current.generation + 1)
        };
        let old = current.log.len();
        let written = tokio::task::spawn_blocking(move || spool.write_log(generation, records));
        let (log, mut fresh) = written
            .await
            .map_err(|_| SpoolError::Log(LogError::Closed))??;
        {
            let mut worklist = self.worklist();
            fresh.arrivals_from(&worklist);
            *worklist = fresh;
        }
        let before = log_dir(&self.0.dir, current.generation);
        let new = log.len();
        *current = Current { log, generation };
        drop(current);
        // It is not named any more: left over, it goes at the next start.
        if let Err(error) = remove_log(&self.0.disk, &before) {
            tracing::warn!(%error, "The log before the compaction cannot be removed yet.");
        }
        metric::compacted();
        metric::log_records(new);
        tracing::info!(before = old, after = new, "Compacted the spool's log.");
        Ok(())
    }

    fn write_log(
        &self,
        generation: u64,
        records: Vec<Record>,
    ) -> Result<(Log, Worklist), SpoolError> {
        let (disk, dir) = (&self.0.disk, &self.0.dir);
        let path = log_dir(dir, generation);
        if path.exists() {
            // An earlier attempt that failed.
            remove_log(disk, &path)?;
        }
        let log = Log::open(LogConfig {
            disk: disk.clone(),
            ..LogConfig::at(&path)
        })?;
        let mut fresh = Worklist::default();
        let bytes: Result<Vec<_>, _> = records.iter().map(serde_json::to_vec).collect();
        let sequences = log.append_all_blocking(bytes.map_err(|_| LogError::TooLarge)?)?;
        for (sequence, record) in sequences.into_iter().zip(records) {
            fresh.apply(sequence, record);
        }
        let switched =
            disk.write_atomic(&dir.join(CURRENT), generation.to_string().as_bytes(), 0o600);
        if let Err(error) = switched {
            // Which of the two logs counts after a power cut is unknown: neither may grow.
            let still_old = match std::fs::read_to_string(dir.join(CURRENT)) {
                Ok(named) => named.trim().parse::<u64>().is_ok_and(|n| n != generation),
                Err(error) => error.kind() == io::ErrorKind::NotFound,
            };
            if !still_old {
                self.0.space.distrust();
            }
            return Err(error.into());
        }
        Ok((log, fresh))
    }
}
