//! A sled index over a log. The log is the truth: the index is dropped and built again whenever it
//! is missing, damaged, of another schema or of another log, and caught up when it is behind.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, fs};

use crate::durable;
use crate::error::LogError;
use crate::frame::u64_at;
use crate::log::Log;

/// Keys of the index itself and of its user.
const META: u8 = 0;
const USER: u8 = 1;
const SCHEMA: &[u8] = &[META, b's'];
const NEXT: &[u8] = &[META, b'n'];
/// Beside the sled files: sled failed while running, so the next start builds anew.
const DAMAGED: &str = "damaged";
/// Records per sled batch while building.
const BUILD_RECORDS: usize = 512;

type Apply = dyn Fn(u64, &[u8], &mut Batch) + Send + Sync;

/// What one record (while building: several) changes. Reads see the writes before them.
pub struct Batch {
    tree: sled::Db,
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    failed: Cell<bool>,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("writes", &self.writes.len())
            .finish_non_exhaustive()
    }
}

impl Batch {
    fn new(tree: sled::Db) -> Self {
        Self {
            tree,
            writes: BTreeMap::new(),
            failed: Cell::new(false),
        }
    }

    /// The value under `key`, with this batch's changes.
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        if let Some(write) = self.writes.get(key) {
            return write.clone();
        }
        if let Ok(value) = self.tree.get(user_key(key)) {
            value.map(|value| value.to_vec())
        } else {
            // Told by whoever commits the batch: an index that cannot read must not write.
            self.failed.set(true);
            None
        }
    }

    /// Puts `value` under `key`.
    pub fn insert(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.writes
            .insert(key.as_ref().to_vec(), Some(value.as_ref().to_vec()));
    }

    /// Takes `key` away.
    pub fn remove(&mut self, key: impl AsRef<[u8]>) {
        self.writes.insert(key.as_ref().to_vec(), None);
    }
}

/// An open index. Clones share it.
#[derive(Clone)]
pub struct Index(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    tree: sled::Db,
    log: Log,
    apply: Box<Apply>,
    /// Next sequence to apply; the lock keeps records in order.
    next: Mutex<u64>,
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").finish_non_exhaustive()
    }
}

impl Index {
    /// Opens or builds the index in `dir` so that it holds every durable record of `log`.
    ///
    /// `apply` says what a record means. Whenever that changes, change `schema`, any text.
    ///
    /// # Errors
    /// [`LogError::Index`] if a fresh index fails as well; otherwise the log's own errors.
    pub fn open(
        dir: &Path,
        schema: &str,
        log: &Log,
        apply: impl Fn(u64, &[u8], &mut Batch) + Send + Sync + 'static,
    ) -> Result<Self, LogError> {
        let usable = !dir.join(DAMAGED).exists();
        let opened = usable.then(|| open_tree(dir)).flatten();
        let opened = opened.and_then(|tree| {
            let next = position(&tree, schema, log)?;
            Some((tree, next))
        });
        let (tree, next) = match opened {
            Some(opened) => opened,
            None => (recreate(dir, schema)?, 0),
        };
        let inner = Inner {
            dir: dir.into(),
            tree,
            log: log.clone(),
            apply: Box::new(apply),
            next: next.into(),
        };
        let index = Self(Arc::new(inner));
        let mut next = index.0.next.lock().unwrap_or_else(PoisonError::into_inner);
        index.0.catch_up(&mut next, log.len())?;
        drop(next);
        Ok(index)
    }

    /// Applies the record that [`Log::append`] just made durable.
    ///
    /// Order does not matter: records before it that were not applied yet are read from the log.
    ///
    /// # Errors
    /// [`LogError::Index`]: the record is durable, but lookups may not know it until a restart.
    pub fn apply(&self, sequence: u64, record: &[u8]) -> Result<(), LogError> {
        let mut next = self.0.next.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.catch_up(&mut next, sequence)?;
        if *next == sequence {
            let mut batch = Batch::new(self.0.tree.clone());
            (self.0.apply)(sequence, record, &mut batch);
            self.0.commit(batch, sequence, record)?;
            *next = sequence + 1;
        }
        Ok(())
    }

    /// The value under `key`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LogError> {
        let value = self
            .0
            .tree
            .get(user_key(key))
            .map_err(|_| self.0.failed())?;
        Ok(value.map(|value| value.to_vec()))
    }

    /// Keys that start with `prefix`, in order, with their values.
    pub fn scan_prefix(
        &self,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), LogError>> + '_ {
        self.scan(self.0.tree.scan_prefix(user_key(prefix)))
    }

    /// Keys that start with `prefix` and come after `prefix` + `after`, in order.
    pub fn scan_after(
        &self,
        prefix: &[u8],
        after: &[u8],
    ) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), LogError>> + '_ {
        let start = user_key(&[prefix, after].concat());
        let prefix = prefix.to_vec();
        let range = (std::ops::Bound::Excluded(start), std::ops::Bound::Unbounded);
        self.scan(self.0.tree.range::<Vec<u8>, _>(range))
            .take_while(move |item| {
                item.as_ref()
                    .map_or(true, |(key, _)| key.starts_with(&prefix))
            })
    }

    fn scan(
        &self,
        items: sled::Iter,
    ) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), LogError>> + '_ {
        items.map(|item| {
            let (key, value) = item.map_err(|_| self.0.failed())?;
            Ok((key.get(1..).unwrap_or_default().to_vec(), value.to_vec()))
        })
    }
}

impl Inner {
    /// Applies the log's records from `next` up to `end`.
    fn catch_up(&self, next: &mut u64, end: u64) -> Result<(), LogError> {
        while *next < end {
            let mut batch = Batch::new(self.tree.clone());
            let mut last = None;
            let chunk = end.min(next.saturating_add(BUILD_RECORDS as u64));
            for sequence in *next..chunk {
                let record = self.log.read(sequence)?.ok_or(LogError::Index)?;
                (self.apply)(sequence, &record, &mut batch);
                last = Some((sequence, record));
            }
            if let Some((sequence, record)) = last {
                self.commit(batch, sequence, &record)?;
            }
            *next = chunk;
        }
        Ok(())
    }

    /// Writes `batch` and the position after `sequence`, both or none.
    fn commit(&self, batch: Batch, sequence: u64, record: &[u8]) -> Result<(), LogError> {
        if batch.failed.get() {
            return Err(self.failed());
        }
        let mut writes = sled::Batch::default();
        for (key, value) in batch.writes {
            match value {
                Some(value) => writes.insert(user_key(&key), value),
                None => writes.remove(user_key(&key)),
            }
        }
        writes.insert(NEXT, encode_position(sequence + 1, record));
        self.tree.apply_batch(writes).map_err(|_| self.failed())
    }

    fn failed(&self) -> LogError {
        // If even this cannot be written, opening will most likely fail too and build anew.
        drop(durable::write_atomic(&self.dir.join(DAMAGED), b"", 0o600));
        LogError::Index
    }
}

fn user_key(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 1);
    out.push(USER);
    out.extend_from_slice(key);
    out
}

/// Next sequence, and the checksum of the record before it: a fingerprint of the log.
fn encode_position(next: u64, record: &[u8]) -> Vec<u8> {
    [
        &next.to_le_bytes()[..],
        &crc32c::crc32c(record).to_le_bytes(),
    ]
    .concat()
}

/// Where the index stands, if it is an index of this log in this schema.
fn position(tree: &sled::Db, schema: &str, log: &Log) -> Option<u64> {
    if tree.get(SCHEMA).ok()?? != schema.as_bytes() {
        return None;
    }
    let Some(stored) = tree.get(NEXT).ok()? else {
        return Some(0);
    };
    let next = u64_at(&stored, 0)?;
    let record = log.read(next.checked_sub(1)?).ok()??;
    (*stored == *encode_position(next, &record)).then_some(next)
}

fn recreate(dir: &Path, schema: &str) -> Result<sled::Db, LogError> {
    if dir.exists() {
        tracing::info!("the log's index is missing, damaged or of another kind: building it anew");
        fs::remove_dir_all(dir)?;
    }
    durable::create_dir_all(dir, 0o700)?;
    let tree = open_tree(dir).ok_or(LogError::Index)?;
    tree.insert(SCHEMA, schema.as_bytes())
        .map_err(|_| LogError::Index)?;
    Ok(tree)
}

/// sled panics on some damage where others would answer an error; both mean "build anew".
fn open_tree(dir: &Path) -> Option<sled::Db> {
    let config = sled::Config::new()
        .path(dir)
        .cache_capacity(32 << 20)
        .flush_every_ms(Some(1000));
    catch_unwind(AssertUnwindSafe(|| config.open().ok()))
        .ok()
        .flatten()
}

#[cfg(test)]
mod tests;
