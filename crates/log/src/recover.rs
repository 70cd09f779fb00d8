//! Reading a log directory: before the writer starts, and for offline verification.
//!
//! Every segment is read once, every checksum is checked. Only the last segment may end in a torn
//! record, and only if that record was never acknowledged.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::error::LogError;
use crate::frame::{RECORD_HEAD, RECORD_MAGIC, RecordHead, SEGMENT_HEAD, SegmentHead};
use crate::watermark;

const EXTENSION: &str = "seg";

/// One segment and where its records start.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) head: SegmentHead,
    /// Byte offset of each record; segments stay below 4 GiB.
    pub(crate) offsets: Vec<u32>,
    /// End of the last whole record.
    pub(crate) end: u64,
}

/// What a directory holds.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) segments: Vec<Segment>,
    /// Bytes after the last whole record of the last segment.
    pub(crate) torn_bytes: u64,
}

impl Recovered {
    pub(crate) fn records(&self) -> u64 {
        self.segments
            .last()
            .map_or(0, |last| last.head.first + last.offsets.len() as u64)
    }
}

/// A log read without opening it for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Whole records.
    pub records: u64,
    /// Bytes of a record that was being written when the process died.
    pub torn_bytes: u64,
}

/// Reads every record of the log in `dir`, in order, without lock and without changing a byte.
///
/// # Errors
/// As [`Log::open`](crate::Log::open).
pub fn read_directory(dir: &Path, mut each: impl FnMut(u64, &[u8])) -> Result<Stored, LogError> {
    let recovered = scan(dir, &mut each)?;
    Ok(Stored {
        records: recovered.records(),
        torn_bytes: recovered.torn_bytes,
    })
}

pub(crate) fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.{EXTENSION}"))
}

pub(crate) fn scan(dir: &Path, each: &mut dyn FnMut(u64, &[u8])) -> Result<Recovered, LogError> {
    let mut firsts = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == EXTENSION)
        {
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let first = stem.and_then(|stem| stem.parse::<u64>().ok());
            firsts.push(first.ok_or(LogError::Corrupt {
                segment: 0,
                offset: 0,
            })?);
        }
    }
    firsts.sort_unstable();
    let durable = watermark::load(dir)?;
    let mut recovered = Recovered {
        segments: Vec::new(),
        torn_bytes: 0,
    };
    for (at, first) in firsts.iter().enumerate() {
        // A gap between segments: one is missing, or records are.
        if *first != recovered.records() {
            return Err(LogError::Corrupt {
                segment: recovered.records(),
                offset: 0,
            });
        }
        let last = at + 1 == firsts.len();
        let (segment, torn_bytes) = scan_segment(dir, *first, last, each)?;
        recovered.segments.push(segment);
        recovered.torn_bytes = torn_bytes;
    }
    if recovered.records() < durable {
        let (segment, offset) = recovered
            .segments
            .last()
            .map_or((0, 0), |last| (last.head.first, last.end));
        return Err(LogError::Corrupt { segment, offset });
    }
    Ok(recovered)
}

fn scan_segment(
    dir: &Path,
    first: u64,
    last: bool,
    each: &mut dyn FnMut(u64, &[u8]),
) -> Result<(Segment, u64), LogError> {
    let path = segment_path(dir, first);
    let corrupt = |offset| LogError::Corrupt {
        segment: first,
        offset,
    };
    let file = File::open(&path)?;
    let size = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut head = [0; SEGMENT_HEAD];
    // Segments get their name with a whole, synced head: a short one is damage.
    read_exact_or(&mut reader, &mut head, corrupt(0))?;
    let head = SegmentHead::decode(&head).filter(|head| head.first == first);
    let head = head.ok_or_else(|| corrupt(0))?;
    let mut segment = Segment {
        path,
        head,
        offsets: Vec::new(),
        end: SEGMENT_HEAD as u64,
    };
    let mut payload = Vec::new();
    while segment.end < size {
        let sequence = first + segment.offsets.len() as u64;
        let left = size - segment.end;
        if !read_record(&mut reader, head.salt, sequence, left, &mut payload)? {
            if !last || later_batch_follows(&mut reader, &segment, sequence)? {
                return Err(corrupt(segment.end));
            }
            return Ok((segment, left));
        }
        each(sequence, &payload);
        let offset = u32::try_from(segment.end).map_err(|_| corrupt(segment.end))?;
        segment.offsets.push(offset);
        segment.end += (RECORD_HEAD + payload.len()) as u64;
    }
    Ok((segment, 0))
}

/// Reads the record `sequence` into `payload`; false if it is not whole.
fn read_record(
    reader: &mut impl Read,
    salt: u64,
    sequence: u64,
    left: u64,
    payload: &mut Vec<u8>,
) -> io::Result<bool> {
    let mut head = [0; RECORD_HEAD];
    if left < RECORD_HEAD as u64 {
        return Ok(false);
    }
    reader.read_exact(&mut head)?;
    let Some(head) = RecordHead::decode(salt, &head) else {
        return Ok(false);
    };
    if head.sequence != sequence || u64::from(head.length) > left - RECORD_HEAD as u64 {
        return Ok(false);
    }
    payload.resize(head.length as usize, 0);
    reader.read_exact(payload)?;
    Ok(head.matches(salt, payload))
}

/// Looks behind the broken record `broken` for the head of a batch that began after it: then the
/// broken record had been synced and answered.
fn later_batch_follows(
    reader: &mut BufReader<File>,
    segment: &Segment,
    broken: u64,
) -> io::Result<bool> {
    reader.seek(SeekFrom::Start(segment.end))?;
    // A segment is bounded (see `LogConfig`), and this runs only after a crash.
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest)?;
    let candidates = rest.windows(RECORD_MAGIC.len()).enumerate();
    Ok(candidates
        .filter(|(_, window)| *window == RECORD_MAGIC)
        .filter_map(|(at, _)| RecordHead::decode(segment.head.salt, rest.get(at..)?))
        .any(|head| head.batch > broken))
}

fn read_exact_or(reader: &mut impl Read, out: &mut [u8], short: LogError) -> Result<(), LogError> {
    reader.read_exact(out).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => short,
        _ => error.into(),
    })
}
