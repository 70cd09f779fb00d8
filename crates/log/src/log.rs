//! The handle that rooms hold: append, read, iterate.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::{fmt, fs, io, thread};

use tokio::sync::oneshot;

use crate::disk::Disk;
use crate::error::LogError;
use crate::frame::{RECORD_HEAD, RecordHead};
use crate::lock::Lock;
use crate::recover::{self, Recovered};
use crate::watermark::Watermark;
use crate::writer::{Active, Published, Request, Writer};

/// Segments and records stay below 1 GiB each, so that an offset fits 32 bits.
const LARGEST_BYTES: u32 = 1 << 30;

/// Where a log lives and how it is cut.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Directory, created with mode 0700 if it is missing.
    pub dir: PathBuf,
    /// A new segment starts once the last one is at least this long; at most 1 GiB is used.
    pub segment_bytes: u64,
    /// Longest record; at most 1 GiB is used.
    pub max_record_bytes: u32,
    /// What the files lie on.
    pub disk: Disk,
}

impl LogConfig {
    /// Segments of 64 MiB, records of at most 128 MiB.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes: 64 << 20,
            max_record_bytes: 128 << 20,
            disk: Disk::default(),
        }
    }
}

/// An open log. Clones share it; the last one dropped waits until the queue is written.
#[derive(Clone)]
pub struct Log(Arc<Inner>);

struct Inner {
    published: Arc<RwLock<Published>>,
    max_record_bytes: u32,
    queue: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    /// Holds the lock until everything above is gone.
    _lock: Lock,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("records", &self.len())
            .finish_non_exhaustive()
    }
}

impl Log {
    /// Opens the log in `config.dir` and reads all of it.
    ///
    /// A record that was being written when the process died, so was never acknowledged, is cut
    /// off. Whole records behind the last acknowledged one are kept.
    ///
    /// # Errors
    /// [`LogError::Locked`] if the directory is open elsewhere; [`LogError::Corrupt`] for any other
    /// damage, which is left as it is.
    pub fn open(config: LogConfig) -> Result<Self, LogError> {
        Self::open_each(config, |_, _| {})
    }

    /// As [`Log::open`], handing every record to `each` while it is read anyway.
    ///
    /// # Errors
    /// As [`Log::open`]; `each` may have seen records then.
    pub fn open_each(
        config: LogConfig,
        mut each: impl FnMut(u64, &[u8]),
    ) -> Result<Self, LogError> {
        let disk = &config.disk;
        disk.create_dir_all(&config.dir, 0o700)?;
        let lock = Lock::take(&config.dir.join("lock"))?.ok_or(LogError::Locked)?;
        remove_temporaries(disk, &config.dir)?;
        // A process may have died between a segment's name and its sync; records will rely on it.
        disk.sync_dir(&config.dir)?;
        let recovered = recover::scan(&config.dir, &mut each)?;
        let active = settle(disk, &recovered)?;
        let records = recovered.records();
        let watermark = Watermark::open(disk, &config.dir)?;
        watermark.store(records)?;
        let published = Arc::new(RwLock::new(Published {
            segments: recovered.segments,
        }));
        let writer = Writer {
            segment_bytes: config.segment_bytes.min(LARGEST_BYTES.into()),
            dir: config.dir,
            published: Arc::clone(&published),
            watermark,
            active,
            poisoned: false,
            disk: config.disk,
        };
        let (queue, requests) = channel();
        let thread = thread::Builder::new()
            .name("cloister-log".into())
            .spawn(move || writer.run(requests))?;
        Ok(Self(Arc::new(Inner {
            published,
            max_record_bytes: config.max_record_bytes.min(LARGEST_BYTES),
            queue: Some(queue),
            thread: Some(thread),
            _lock: lock,
        })))
    }

    /// Appends `record`; it is durable and readable when this returns its sequence number.
    ///
    /// Dropping the future does not take the record back.
    pub async fn append(&self, record: Vec<u8>) -> Result<u64, LogError> {
        let (answer, answered) = oneshot::channel();
        self.request(record, Box::new(move |result| drop(answer.send(result))))?;
        answered.await.map_err(|_| LogError::Closed)?
    }

    /// As [`Log::append`], for threads without a runtime.
    pub fn append_blocking(&self, record: Vec<u8>) -> Result<u64, LogError> {
        let (answer, answered): (SyncSender<_>, _) = sync_channel(1);
        self.request(record, Box::new(move |result| drop(answer.send(result))))?;
        answered.recv().map_err(|_| LogError::Closed)?
    }

    /// Appends all of `records` in order, with as few syncs as they need; their sequence numbers, once
    /// all of them are durable. For threads without a runtime.
    ///
    /// # Errors
    /// As [`Log::append`]; any of them may be in the log then.
    pub fn append_all_blocking(
        &self,
        records: impl IntoIterator<Item = Vec<u8>>,
    ) -> Result<Vec<u64>, LogError> {
        let (answer, answered) = channel();
        let mut asked = 0;
        for record in records {
            let answer = answer.clone();
            self.request(record, Box::new(move |result| drop(answer.send(result))))?;
            asked += 1;
        }
        drop(answer);
        let sequences: Vec<u64> = answered.iter().collect::<Result<_, _>>()?;
        if sequences.len() == asked {
            Ok(sequences)
        } else {
            Err(LogError::Closed)
        }
    }

    fn request(
        &self,
        record: Vec<u8>,
        answer: Box<dyn FnOnce(Result<u64, LogError>) + Send>,
    ) -> Result<(), LogError> {
        if record.len() > self.0.max_record_bytes as usize {
            return Err(LogError::TooLarge);
        }
        let queue = self.0.queue.as_ref().ok_or(LogError::Closed)?;
        // Unbounded, but a caller waits for its answer: the rooms' request limits bound it.
        queue
            .send(Request { record, answer })
            .map_err(|_| LogError::Closed)
    }

    /// The record `sequence`, or `None` if there is none yet.
    pub fn read(&self, sequence: u64) -> Result<Option<Vec<u8>>, LogError> {
        let Some(place) = self.place(sequence) else {
            return Ok(None);
        };
        let corrupt = || LogError::Corrupt {
            segment: place.first,
            offset: place.offset,
        };
        let file = File::open(&place.path)?;
        let mut head = [0; RECORD_HEAD];
        read_exact_at(&file, &mut head, place.offset, corrupt)?;
        let head = RecordHead::decode(place.salt, &head)
            .filter(|head| head.sequence == sequence && head.length <= LARGEST_BYTES)
            .ok_or_else(corrupt)?;
        let mut payload = vec![0; head.length as usize];
        read_exact_at(
            &file,
            &mut payload,
            place.offset + RECORD_HEAD as u64,
            corrupt,
        )?;
        if !head.matches(place.salt, &payload) {
            return Err(corrupt());
        }
        Ok(Some(payload))
    }

    fn place(&self, sequence: u64) -> Option<Place> {
        let published = self
            .0
            .published
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let after = published
            .segments
            .partition_point(|segment| segment.head.first <= sequence);
        let segment = published.segments.get(after.checked_sub(1)?)?;
        let at = usize::try_from(sequence - segment.head.first).ok()?;
        Some(Place {
            path: segment.path.clone(),
            first: segment.head.first,
            salt: segment.head.salt,
            offset: u64::from(*segment.offsets.get(at)?),
        })
    }

    /// Number of durable records; the next sequence number.
    pub fn len(&self) -> u64 {
        self.0
            .published
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .records()
    }

    /// True before the first record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Records from `sequence` on, as long as there are any; ends after the first error.
    pub fn iter_from(
        &self,
        sequence: u64,
    ) -> impl Iterator<Item = Result<(u64, Vec<u8>), LogError>> + '_ {
        let mut next = Some(sequence);
        std::iter::from_fn(move || {
            let sequence = next?;
            let read = self.read(sequence);
            next = if matches!(read, Ok(Some(_))) {
                sequence.checked_add(1)
            } else {
                None
            };
            read.map(|record| record.map(|record| (sequence, record)))
                .transpose()
        })
    }
}

struct Place {
    path: PathBuf,
    first: u64,
    salt: u64,
    offset: u64,
}

/// Heads of segments that a killed process had not yet named.
fn remove_temporaries(disk: &Disk, dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "tmp") {
            disk.remove_file(&path)?;
        }
    }
    Ok(())
}

/// Cuts the torn tail and makes the rest durable before anybody reads it.
fn settle(disk: &Disk, recovered: &Recovered) -> io::Result<Option<Active>> {
    let Some(last) = recovered.segments.last() else {
        return Ok(None);
    };
    let file = disk.open(&last.path)?;
    if recovered.torn_bytes > 0 {
        tracing::warn!(
            bytes = recovered.torn_bytes,
            "cut an unacknowledged record off the log"
        );
        file.set_len(last.end)?;
    }
    file.sync_all()?;
    Ok(Some(Active {
        file,
        head: last.head,
        end: last.end,
    }))
}

fn read_exact_at(
    file: &File,
    out: &mut [u8],
    at: u64,
    short: impl Fn() -> LogError,
) -> Result<(), LogError> {
    file.read_exact_at(out, at)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => short(),
            _ => error.into(),
        })
}

#[cfg(test)]
mod tests;
