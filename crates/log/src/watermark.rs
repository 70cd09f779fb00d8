//! The file `durable`: how many records are known to be on the disk.
//!
//! Written without a sync after every group commit, so it is never ahead of the data. After a kill
//! it is exact, after a power cut it may be old. Recovery refuses a log that holds fewer records
//! than it says: then acknowledged records are gone, and that is no torn tail.

use std::io;
use std::path::Path;

use crate::disk::{Disk, DiskFile};
use crate::frame::u64_at;

/// Name inside the log's directory.
pub(crate) const NAME: &str = "durable";

/// The open file.
#[derive(Debug)]
pub(crate) struct Watermark(DiskFile);

impl Watermark {
    pub(crate) fn open(disk: &Disk, dir: &Path) -> io::Result<Self> {
        let path = dir.join(NAME);
        let file = if path.exists() {
            disk.open(&path)
        } else {
            disk.create(&path, 0o600)
        };
        Ok(Self(file?))
    }

    pub(crate) fn store(&self, records: u64) -> io::Result<()> {
        let mut bytes = [0; 12];
        let (count, crc) = bytes.split_at_mut(8);
        count.copy_from_slice(&records.to_le_bytes());
        crc.copy_from_slice(&crc32c::crc32c(count).to_le_bytes());
        self.0.write_all_at(&bytes, 0)
    }
}

/// The lower bound, 0 if there is none (a torn watermark says nothing).
pub(crate) fn load(dir: &Path) -> io::Result<u64> {
    let bytes = match std::fs::read(dir.join(NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other?,
    };
    let crc = bytes
        .get(8..12)
        .and_then(|crc| crc.try_into().ok())
        .map(u32::from_le_bytes);
    let whole = bytes.get(..8).map(crc32c::crc32c) == crc;
    Ok(if whole {
        u64_at(&bytes, 0).unwrap_or(0)
    } else {
        0
    })
}
