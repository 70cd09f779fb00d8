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

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use aes_gcm::aead::AeadInOut as _;
use aes_gcm::{Aes256Gcm, Nonce};
use cloister_log::disk::{Disk, DiskFile};
use zeroize::Zeroizing;

use super::Id;
use super::space::Charge;
use crate::error::SpoolError;
use crate::keys::{self, KeyError, NONCE_BYTES, SecretKey, TAG_BYTES, WRAPPED_BYTES, Wrapping};

const MAGIC: &[u8; 8] = b"CLSPOOL1";
const HEAD_BYTES: usize = MAGIC.len() + 2 * WRAPPED_BYTES;
const SLOT_A: u64 = MAGIC.len() as u64;
const SLOT_B: u64 = SLOT_A + WRAPPED_BYTES as u64;
/// Plaintext of one chunk.
const CHUNK_BYTES: usize = 64 << 10;
/// The disk starts to work whenever this much has been written, not only at the sync.
const AHEAD_BYTES: u64 = 1 << 20;

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
    file: DiskFile,
    disk: Disk,
    path: PathBuf,
    cipher: Aes256Gcm,
    id: Id,
    buffer: Zeroizing<Vec<u8>>,
    counter: u32,
    bytes: u64,
    /// Bytes in the file.
    end: u64,
    /// Of these, what the disk has been asked to begin with.
    begun: u64,
    charge: Option<Charge>,
    finished: bool,
}

impl SealedWriter {
    /// Creates `dir/id`, its key wrapped under `wrapping`.
    pub(crate) fn create(
        disk: &Disk,
        dir: &Path,
        id: Id,
        wrapping: &dyn Wrapping,
        slot: Slot,
        charge: Option<Charge>,
    ) -> Result<Self, SpoolError> {
        Self::create_at(disk, dir.join(id.to_string()), id, wrapping, slot, charge)
    }

    /// As [`SealedWriter::create`], under any name.
    pub(crate) fn create_at(
        disk: &Disk,
        path: PathBuf,
        id: Id,
        wrapping: &dyn Wrapping,
        slot: Slot,
        charge: Option<Charge>,
    ) -> Result<Self, SpoolError> {
        let key = keys::random_key()?;
        let wrapped = keys::wrap(wrapping, &slot.purpose(id), &key)?;
        let mut head = [0; HEAD_BYTES];
        let (magic, slots) = head.split_at_mut(MAGIC.len());
        magic.copy_from_slice(MAGIC);
        let (a, b) = slots.split_at_mut(WRAPPED_BYTES);
        if slot == Slot::Receive { a } else { b }.copy_from_slice(&wrapped);
        let file = disk.create(&path, 0o600)?;
        let mut writer = Self {
            file,
            disk: disk.clone(),
            path,
            cipher: keys::cipher(&key),
            id,
            buffer: Zeroizing::new(Vec::with_capacity(CHUNK_BYTES + TAG_BYTES)),
            counter: 0,
            bytes: 0,
            end: 0,
            begun: 0,
            charge,
            finished: false,
        };
        writer.append(&head)?;
        Ok(writer)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        let length = bytes.len() as u64;
        if let Some(charge) = &mut self.charge {
            charge.add(length)?;
        }
        self.file.write_all_at(bytes, self.end)?;
        self.end += length;
        if self.end - self.begun >= AHEAD_BYTES {
            self.file.begin_writing(self.begun, self.end - self.begun);
            self.begun = self.end;
        }
        Ok(())
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
        let sealed = std::mem::take(&mut self.buffer);
        let written = self.append(&sealed);
        self.buffer = sealed;
        self.buffer.clear();
        written?;
        self.counter = self.counter.checked_add(1).ok_or(SpoolError::Full)?;
        Ok(())
    }

    /// Writes the last chunk and makes file and name durable. A file whose sync failed is taken
    /// away: a later sync that succeeds would prove nothing about it.
    pub(crate) fn finish(mut self) -> Result<u64, SpoolError> {
        self.chunk(true)?;
        self.file.sync_all()?;
        if let Some(dir) = self.path.parent() {
            self.disk.sync_dir(dir).inspect_err(|_| {
                if let Some(charge) = &self.charge {
                    charge.space().distrust();
                }
            })?;
        }
        // Another file's sync of the same directory may have failed since ours got its name, and
        // that error is told only once.
        let distrusted = |charge: &Charge| charge.space().is_distrusted();
        if self.charge.as_ref().is_some_and(distrusted) {
            return Err(SpoolError::Distrusted);
        }
        self.finished = true;
        if let Some(charge) = self.charge.take() {
            charge.keep();
        }
        Ok(self.bytes)
    }
}

impl Drop for SealedWriter {
    fn drop(&mut self) {
        if !self.finished {
            // Whatever stays is no record's file and goes at the next start.
            drop(self.disk.remove_file(&self.path));
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
        wrapping: &dyn Wrapping,
        slot: Slot,
    ) -> Result<Self, SpoolError> {
        Self::open_at(&dir.join(id.to_string()), id, wrapping, slot)
    }

    /// As [`SealedReader::open`], under any name.
    pub(crate) fn open_at(
        path: &Path,
        id: Id,
        wrapping: &dyn Wrapping,
        slot: Slot,
    ) -> Result<Self, SpoolError> {
        let file = File::open(path).map_err(|error| missing(error, id))?;
        let left = file
            .metadata()?
            .len()
            .checked_sub(HEAD_BYTES as u64)
            .ok_or(SpoolError::Sealed)?;
        let key = read_key(&file, id, wrapping, slot)?;
        let mut file = file;
        file.seek(SeekFrom::Start(HEAD_BYTES as u64))?;
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
    disk: &Disk,
    dir: &Path,
    id: Id,
    receive: &[&dyn Wrapping],
    study: &SecretKey,
) -> Result<(), SpoolError> {
    let study = keys::cipher(study);
    let file = open(disk, dir, id)?;
    if read_key(file.as_file(), id, &study, Slot::Study).is_err() {
        let key = match read_key_of(file.as_file(), id, receive) {
            // Died while [`renew`] was at slot A: slot B is the only copy, so A is mended first.
            Err(SpoolError::Key(KeyError::Opening)) => {
                let newest = *receive.first().ok_or(SpoolError::Sealed)?;
                renew(disk, dir, id, newest, receive)?;
                read_key(file.as_file(), id, newest, Slot::Receive)?
            }
            other => other?,
        };
        let wrapped = keys::wrap(&study, &Slot::Study.purpose(id), &key)?;
        file.write_all_at(&wrapped, SLOT_B)?;
        file.sync_data()?;
    }
    file.write_all_at(&[0; WRAPPED_BYTES], SLOT_A)?;
    file.sync_data()?;
    Ok(())
}

/// Wraps the key of a file that no study's key wraps yet under the newest receive key. The new
/// wrapping stands in slot B until slot A is durable: a kill leaves one of the two whole.
pub(crate) fn renew(
    disk: &Disk,
    dir: &Path,
    id: Id,
    newest: &dyn Wrapping,
    older: &[&dyn Wrapping],
) -> Result<(), SpoolError> {
    let file = open(disk, dir, id)?;
    let is_old = match read_key(file.as_file(), id, newest, Slot::Receive) {
        Ok(_) => false,
        Err(SpoolError::Key(KeyError::Opening)) => true,
        Err(error) => return Err(error),
    };
    if is_old {
        let key = match read_key_of(file.as_file(), id, older) {
            // Died in the middle of it.
            Err(SpoolError::Key(KeyError::Opening)) => {
                let (_, b) = slots(file.as_file())?;
                keys::unwrap(newest, &Slot::Receive.purpose(id), &b)?
            }
            other => other?,
        };
        let wrapped = keys::wrap(newest, &Slot::Receive.purpose(id), &key)?;
        file.write_all_at(&wrapped, SLOT_B)?;
        file.sync_data()?;
        file.write_all_at(&wrapped, SLOT_A)?;
        file.sync_data()?;
    }
    // An object of a study that is being assembled has the study's wrapping there.
    let (_, b) = slots(file.as_file())?;
    if keys::unwrap(newest, &Slot::Receive.purpose(id), &b).is_ok() {
        file.write_all_at(&[0; WRAPPED_BYTES], SLOT_B)?;
        file.sync_data()?;
    }
    Ok(())
}

/// Forgets the file's key, then the file. Its directory has to be synced by the caller.
pub(crate) fn destroy(disk: &Disk, dir: &Path, id: Id) -> Result<u64, SpoolError> {
    let file = match open(disk, dir, id) {
        Err(SpoolError::Missing { .. }) => return Ok(0),
        other => other?,
    };
    let length = file.as_file().metadata()?.len();
    // A leftover of a kill may be shorter.
    let slots = length.min(HEAD_BYTES as u64) as usize;
    file.write_all_at(&vec![0; slots], 0)?;
    file.sync_data()?;
    disk.remove_file(&dir.join(id.to_string()))?;
    Ok(length)
}

fn open(disk: &Disk, dir: &Path, id: Id) -> Result<DiskFile, SpoolError> {
    disk.open(&dir.join(id.to_string()))
        .map_err(|error| missing(error, id))
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

type Wrapped = [u8; WRAPPED_BYTES];

/// What stands in the two slots.
fn slots(file: &File) -> Result<(Wrapped, Wrapped), SpoolError> {
    let mut head = [0; HEAD_BYTES];
    file.read_exact_at(&mut head, 0).map_err(cut)?;
    let (magic, slots) = head.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(SpoolError::Sealed);
    }
    let (a, b) = slots.split_at(WRAPPED_BYTES);
    match (a.try_into(), b.try_into()) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        _ => Err(SpoolError::Sealed),
    }
}

fn read_key(
    file: &File,
    id: Id,
    wrapping: &dyn Wrapping,
    slot: Slot,
) -> Result<SecretKey, SpoolError> {
    let (a, b) = slots(file)?;
    let wrapped = if slot == Slot::Receive { a } else { b };
    Ok(keys::unwrap(wrapping, &slot.purpose(id), &wrapped)?)
}

/// Slot A with the first of several keys that fits.
fn read_key_of(file: &File, id: Id, receive: &[&dyn Wrapping]) -> Result<SecretKey, SpoolError> {
    keys::first_that_fits(receive.iter().copied(), |wrapping| {
        read_key(file, id, wrapping, Slot::Receive)
    })
}

#[cfg(test)]
mod tests;
