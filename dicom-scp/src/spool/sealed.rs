//! Encrypted files: STREAM (Hoang, Reyhanitabar, Rogaway, Vizár, CRYPTO 2015) with AES-256-GCM in
//! chunks of 64 KiB, so that neither writing nor reading needs the object in memory.
//!
//! ```text
//! magic 8 | key slot A 60 | key slot B 60 | chunk 0 | … | last chunk
//! ```
//! Every file has its own random key, used for this file only, so a counter is nonce enough:
//! 7 zero bytes, chunk number (u32, big endian), 1 if this is the last chunk. A cut or reordered
//! file does not open. The file's id is the associated data: files cannot be swapped.
//! Slot A holds the key wrapped at receipt, slot B the same key wrapped by the study's key; once B
//! is durable, A is zeroed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use aes_gcm::aead::AeadInOut as _;
use aes_gcm::{Aes256Gcm, Nonce};
use cloister_log::durable;
use zeroize::Zeroizing;

use super::Id;
use crate::error::SpoolError;
use crate::keys::{self, NONCE_BYTES, SecretKey, TAG_BYTES, WRAPPED_BYTES};

const MAGIC: &[u8; 8] = b"CLSPOOL1";
const HEAD_BYTES: usize = MAGIC.len() + 2 * WRAPPED_BYTES;
const SLOT_A: u64 = MAGIC.len() as u64;
const SLOT_B: u64 = SLOT_A + WRAPPED_BYTES as u64;
/// Plaintext of one chunk.
const CHUNK_BYTES: usize = 64 << 10;

/// Which key wraps the file's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// The receive wrapping key.
    Receive,
    /// The study's key.
    Study,
}

impl Slot {
    fn purpose(self, id: Id) -> Vec<u8> {
        let label: &[u8] = match self {
            Self::Receive => b"object-key-receive-v1",
            Self::Study => b"object-key-study-v1",
        };
        [label, id.as_bytes()].concat()
    }
}

/// Writes one file. Dropped before [`SealedWriter::finish`], it takes the file away again.
pub(crate) struct SealedWriter {
    file: File,
    path: PathBuf,
    cipher: Aes256Gcm,
    id: Id,
    buffer: Zeroizing<Vec<u8>>,
    counter: u32,
    bytes: u64,
    finished: bool,
}

impl SealedWriter {
    /// Creates `dir/id`, its key wrapped under `wrapping`.
    pub(crate) fn create(
        dir: &Path,
        id: Id,
        wrapping: &Aes256Gcm,
        slot: Slot,
    ) -> Result<Self, SpoolError> {
        let key = keys::random_key()?;
        let wrapped = keys::wrap(wrapping, &slot.purpose(id), &key)?;
        let mut head = [0; HEAD_BYTES];
        let (magic, slots) = head.split_at_mut(MAGIC.len());
        magic.copy_from_slice(MAGIC);
        let (a, b) = slots.split_at_mut(WRAPPED_BYTES);
        if slot == Slot::Receive { a } else { b }.copy_from_slice(&wrapped);
        let path = dir.join(id.to_string());
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        let mut writer = Self {
            file,
            path,
            cipher: keys::cipher(&key),
            id,
            buffer: Zeroizing::new(Vec::with_capacity(CHUNK_BYTES + TAG_BYTES)),
            counter: 0,
            bytes: 0,
            finished: false,
        };
        writer.file.write_all(&head)?;
        Ok(writer)
    }

    /// Appends plaintext.
    pub(crate) fn write(&mut self, mut plain: &[u8]) -> Result<(), SpoolError> {
        self.bytes += plain.len() as u64;
        while !plain.is_empty() {
            // A full chunk is kept back until more comes: the last one is sealed as the last.
            if self.buffer.len() == CHUNK_BYTES {
                self.chunk(false)?;
            }
            let (now, later) = plain.split_at(plain.len().min(CHUNK_BYTES - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            plain = later;
        }
        Ok(())
    }

    fn chunk(&mut self, last: bool) -> Result<(), SpoolError> {
        let nonce = nonce(self.counter, last);
        let sealed = self
            .cipher
            .encrypt_in_place(&nonce, self.id.as_bytes(), &mut *self.buffer);
        sealed.map_err(|_| SpoolError::Sealed)?;
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        self.counter = self.counter.checked_add(1).ok_or(SpoolError::Full)?;
        Ok(())
    }

    /// Writes the last chunk and makes file and name durable.
    pub(crate) fn finish(mut self) -> Result<u64, SpoolError> {
        self.chunk(true)?;
        self.file.sync_all()?;
        if let Some(dir) = self.path.parent() {
            durable::sync_dir(dir)?;
        }
        self.finished = true;
        Ok(self.bytes)
    }
}

impl Drop for SealedWriter {
    fn drop(&mut self) {
        if !self.finished {
            // Whatever stays is no record's file and goes at the next start.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

impl std::fmt::Debug for SealedWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedWriter")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn nonce(counter: u32, last: bool) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut nonce = [0; NONCE_BYTES];
    let (_, tail) = nonce.split_at_mut(7);
    let (number, flag) = tail.split_at_mut(4);
    number.copy_from_slice(&counter.to_be_bytes());
    flag.fill(u8::from(last));
    nonce.into()
}

/// Reads one file, chunk by chunk.
pub(crate) struct SealedReader {
    file: File,
    cipher: Aes256Gcm,
    id: Id,
    left: u64,
    counter: u32,
}

impl SealedReader {
    /// Opens `dir/id` with the key that `wrapping` opens.
    pub(crate) fn open(
        dir: &Path,
        id: Id,
        wrapping: &Aes256Gcm,
        slot: Slot,
    ) -> Result<Self, SpoolError> {
        let mut file = open(dir, id)?;
        let left = file
            .metadata()?
            .len()
            .checked_sub(HEAD_BYTES as u64)
            .ok_or(SpoolError::Sealed)?;
        let key = read_key(&mut file, id, wrapping, slot)?;
        Ok(Self {
            file,
            cipher: keys::cipher(&key),
            id,
            left,
            counter: 0,
        })
    }

    /// The next chunk, `None` after the last.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, SpoolError> {
        if self.left == 0 {
            // Not one chunk at all: cut.
            return if self.counter == 0 {
                Err(SpoolError::Sealed)
            } else {
                Ok(None)
            };
        }
        let length = self.left.min((CHUNK_BYTES + TAG_BYTES) as u64);
        self.left -= length;
        let mut chunk = Zeroizing::new(vec![0; length as usize]);
        self.file.read_exact(&mut chunk).map_err(cut)?;
        let nonce = nonce(self.counter, self.left == 0);
        let opened = self
            .cipher
            .decrypt_in_place(&nonce, self.id.as_bytes(), &mut *chunk);
        opened.map_err(|_| SpoolError::Sealed)?;
        self.counter = self.counter.checked_add(1).ok_or(SpoolError::Sealed)?;
        Ok(Some(chunk))
    }

    /// Everything that is left.
    pub(crate) fn read_all(mut self) -> Result<Zeroizing<Vec<u8>>, SpoolError> {
        // Reserved once: growing would leave copies of identified bytes behind.
        let mut all = Zeroizing::new(Vec::with_capacity(usize::try_from(self.left).unwrap_or(0)));
        while let Some(chunk) = self.next_chunk()? {
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }
}

/// Wraps the file's key under the study's key, then takes the receive key's wrapping away. Done
/// again after a kill, it ends in the same state.
pub(crate) fn rewrap(
    dir: &Path,
    id: Id,
    receive: &Aes256Gcm,
    study: &SecretKey,
) -> Result<(), SpoolError> {
    let study = keys::cipher(study);
    let path = dir.join(id.to_string());
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(|error| missing(error, id))?;
    if read_key(&mut file, id, &study, Slot::Study).is_err() {
        let key = read_key(&mut file, id, receive, Slot::Receive)?;
        let wrapped = keys::wrap(&study, &Slot::Study.purpose(id), &key)?;
        file.write_all_at(&wrapped, SLOT_B)?;
        file.sync_data()?;
    }
    file.write_all_at(&[0; WRAPPED_BYTES], SLOT_A)?;
    file.sync_data()?;
    Ok(())
}

fn open(dir: &Path, id: Id) -> Result<File, SpoolError> {
    File::open(dir.join(id.to_string())).map_err(|error| missing(error, id))
}

fn missing(error: io::Error, id: Id) -> SpoolError {
    if error.kind() == io::ErrorKind::NotFound {
        SpoolError::Missing { object: id }
    } else {
        error.into()
    }
}

fn cut(error: io::Error) -> SpoolError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        SpoolError::Sealed
    } else {
        error.into()
    }
}

fn read_key(
    file: &mut File,
    id: Id,
    wrapping: &Aes256Gcm,
    slot: Slot,
) -> Result<SecretKey, SpoolError> {
    use std::io::{Seek as _, SeekFrom};
    file.seek(SeekFrom::Start(0))?;
    let mut head = [0; HEAD_BYTES];
    file.read_exact(&mut head).map_err(cut)?;
    let (magic, slots) = head.split_at(MAGIC.len());
    let (a, b) = slots.split_at(WRAPPED_BYTES);
    if magic != MAGIC {
        return Err(SpoolError::Sealed);
    }
    let wrapped = if slot == Slot::Receive { a } else { b };
    Ok(keys::unwrap(wrapping, &slot.purpose(id), wrapped)?)
}

#[cfg(test)]
mod tests;
