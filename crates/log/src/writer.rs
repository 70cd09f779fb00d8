//! The one thread that writes: takes everything that queued, writes it, syncs once, answers.

use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, PoisonError, RwLock};

use crate::disk::{Disk, DiskFile};
use crate::error::LogError;
use crate::frame::{RecordHead, SEGMENT_HEAD, SegmentHead};
use crate::recover::{Segment, segment_path};
use crate::watermark::Watermark;

/// Bounds of one group commit; what is left waits for the next.
const BATCH_RECORDS: usize = 1024;
const BATCH_BYTES: usize = 8 << 20;

/// A record and whom to tell.
pub(crate) struct Request {
    pub(crate) record: Vec<u8>,
    pub(crate) answer: Box<dyn FnOnce(Result<u64, LogError>) + Send>,
}

/// What readers see; only durable records are in it.
#[derive(Debug, Default)]
pub(crate) struct Published {
    pub(crate) segments: Vec<Segment>,
}

impl Published {
    pub(crate) fn records(&self) -> u64 {
        self.segments
            .last()
            .map_or(0, |last| last.head.first + last.offsets.len() as u64)
    }
}

/// State of the writer thread.
pub(crate) struct Writer {
    pub(crate) dir: PathBuf,
    pub(crate) segment_bytes: u64,
    pub(crate) published: Arc<RwLock<Published>>,
    pub(crate) watermark: Watermark,
    pub(crate) active: Option<Active>,
    /// An earlier failure left the disk in an unknown state: nothing is accepted any more.
    pub(crate) poisoned: bool,
    pub(crate) disk: Disk,
}

/// The segment that grows.
pub(crate) struct Active {
    pub(crate) file: DiskFile,
    pub(crate) head: SegmentHead,
    pub(crate) end: u64,
}

impl Writer {
    /// Runs until the last `Log` handle is dropped and the queue is empty.
    pub(crate) fn run(mut self, queue: Receiver<Request>) {
        while let Ok(request) = queue.recv() {
            let mut bytes = request.record.len();
            let mut batch = vec![request];
            while batch.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
                let Ok(request) = queue.try_recv() else { break };
                bytes += request.record.len();
                batch.push(request);
            }
            self.commit_and_answer(batch);
        }
    }

    fn commit_and_answer(&mut self, batch: Vec<Request>) {
        let result = self.commit(&batch);
        for (at, request) in (0_u64..).zip(batch) {
            (request.answer)(match &result {
                Ok(first) => Ok(first + at),
                Err(error) => Err(error.again()),
            });
        }
    }

    /// Writes and syncs `batch`; the sequence of its first record.
    fn commit(&mut self, batch: &[Request]) -> Result<u64, LogError> {
        if self.poisoned {
            return Err(LogError::Closed);
        }
        let first = self
            .published
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .records();
        let mut active = match self.active.take() {
            Some(active) if active.end < self.segment_bytes => active,
            // Full, or none yet: a failure here leaves the old segment whole.
            old => match self.start_segment(first) {
                Ok(active) => active,
                Err(error) => {
                    self.active = old;
                    return Err(error);
                }
            },
        };
        let mut bytes = Vec::new();
        let mut offsets = Vec::with_capacity(batch.len());
        for (sequence, request) in (first..).zip(batch) {
            offsets.push((active.end + bytes.len() as u64) as u32);
            RecordHead::encode(
                active.head.salt,
                sequence,
                first,
                &request.record,
                &mut bytes,
            );
        }
        let mut result = self.write_and_sync(&active, &bytes);
        if result.is_ok() {
            active.end += bytes.len() as u64;
            self.publish(&active, offsets);
        } else if !self.withdraw(&active) && matches!(result, Err(LogError::Full)) {
            // The batch may be there after a restart: "full" would promise that it is not.
            result = Err(LogError::Closed);
        }
        self.active = Some(active);
        result.map(|()| first)
    }

    fn write_and_sync(&mut self, active: &Active, bytes: &[u8]) -> Result<(), LogError> {
        active.file.write_all_at(bytes, active.end)?;
        active
            .file
            .sync_data()
            .map_err(LogError::from)
            .inspect_err(|error| {
                // After a failed sync the kernel may have dropped the pages: a later sync that
                // succeeds proves nothing. Only "no space" is known to leave them in place.
                self.poisoned = !matches!(error, LogError::Full);
            })
    }

    /// Takes an unacknowledged batch back, so that no later batch stands behind its remains. False
    /// if that cannot be known to have happened.
    fn withdraw(&mut self, active: &Active) -> bool {
        let cut = active.file.set_len(active.end);
        if cut.and_then(|()| active.file.sync_all()).is_err() {
            self.poisoned = true;
        }
        !self.poisoned
    }

    fn publish(&mut self, active: &Active, offsets: Vec<u32>) {
        let mut published = self
            .published
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(segment) = published.segments.last_mut() {
            segment.offsets.extend(offsets);
            segment.end = active.end;
        }
        let records = published.records();
        drop(published);
        // Only a lower bound; the records themselves are synced.
        if let Err(error) = self.watermark.store(records) {
            tracing::warn!(kind = ?error.kind(), "the log's watermark could not be written");
        }
    }

    fn start_segment(&mut self, first: u64) -> Result<Active, LogError> {
        let head = SegmentHead::new(first);
        let path = segment_path(&self.dir, first);
        // An earlier attempt may have died between its name and its first record.
        self.disk.write_atomic(&path, &head.encode(), 0o600)?;
        let file = self.disk.open(&path)?;
        let end = SEGMENT_HEAD as u64;
        let segment = Segment {
            path,
            head,
            offsets: Vec::new(),
            end,
        };
        let mut published = self
            .published
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        published.segments.push(segment);
        Ok(Active { file, head, end })
    }
}
