//! A copy of the vault in one sealed file, under the wrapping key: keyring, then every record as it
//! stands in the log, then their number. The sealed file's encryption notices any change and any cut.
//!
//! ```text
//! u32 length, keyring (sealed) | u32 length, record (sealed) | … | u32 FFFFFFFF, u64 records
//! ```
//! Integers are big endian. Records that come while the copy is made are in the next one.

use std::path::Path;

use cloister_log::disk::Disk;
use cloister_log::{Log, LogConfig};

use super::{Vault, entries};
use crate::error::SpoolError;
use crate::keys::keyring::{FILE, Keyring};
use crate::keys::{self, Keys};
use crate::spool::Id;
use crate::spool::sealed::{SealedReader, SealedWriter, Slot};

const END: u32 = u32::MAX;

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Identifiers with a pseudonym.
    pub(crate) entries: u64,
    /// Records of the log.
    pub(crate) records: u64,
    /// The keyring's.
    pub(crate) generation: u32,
}

/// Every file has a key of its own, so one name for all of them does no harm.
fn id() -> Id {
    Id::of_hash(b"cloister vault backup, version 1")
}

impl Vault {
    /// Writes a new file, durable and read back when this returns.
    pub(crate) fn back_up(&self, file: &Path) -> Result<Checked, SpoolError> {
        let (inner, records) = (&self.0, self.0.log.len());
        let keys = &inner.keys;
        let mut writer = SealedWriter::create_at(
            &inner.disk,
            file.to_owned(),
            id(),
            keys.wrapping(),
            Slot::Receive,
            None,
        )?;
        frame(&mut writer, &keys.copy_keyring().seal(keys)?)?;
        for sequence in 0..records {
            let record = inner.log.read(sequence)?;
            frame(&mut writer, &record.ok_or(SpoolError::Record { sequence })?)?;
        }
        writer.write(&END.to_be_bytes())?;
        writer.write(&records.to_be_bytes())?;
        writer.finish()?;
        self.verify(file)
    }

    /// Reads a backup to its end and opens every entry.
    pub(crate) fn verify(&self, file: &Path) -> Result<Checked, SpoolError> {
        read(file, &self.0.keys, |_, _| Ok(()))
    }

    /// Makes the vault's folder from a backup; one that exists is not touched.
    pub(crate) fn restore(
        file: &Path,
        dir: &Path,
        keys: &Keys,
        disk: &Disk,
    ) -> Result<Checked, SpoolError> {
        if dir.exists() {
            return Err(SpoolError::Io(std::io::ErrorKind::AlreadyExists.into()));
        }
        // Whole before the first byte is written.
        read(file, keys, |_, _| Ok(()))?;
        // Beside it, so that a kill leaves no vault rather than a part of one.
        let beside = dir.with_extension("restoring");
        if beside.exists() {
            remove_flat(disk, &beside)?;
        }
        let log = Log::open(LogConfig {
            disk: disk.clone(),
            ..LogConfig::at(&beside)
        })?;
        let checked = read(file, keys, |first, bytes| {
            if first {
                disk.write_atomic(&beside.join(FILE), bytes, 0o600)?;
            } else {
                log.append_blocking(bytes.to_vec())?;
            }
            Ok(())
        })?;
        drop(log);
        disk.rename(&beside, dir)?;
        if let Some(parent) = dir.parent() {
            disk.sync_dir(parent)?;
        }
        Ok(checked)
    }
}

/// What an earlier attempt left.
fn remove_flat(disk: &Disk, dir: &Path) -> Result<(), SpoolError> {
    for entry in std::fs::read_dir(dir)? {
        disk.remove_file(&entry?.path())?;
    }
    Ok(disk.remove_dir(dir)?)
}

fn frame(writer: &mut SealedWriter, bytes: &[u8]) -> Result<(), SpoolError> {
    let length = u32::try_from(bytes.len()).map_err(|_| SpoolError::Sealed)?;
    writer.write(&length.to_be_bytes())?;
    writer.write(bytes)
}

/// Hands over the keyring (first) and every record.
fn read(
    file: &Path,
    keys: &Keys,
    mut each: impl FnMut(bool, &[u8]) -> Result<(), SpoolError>,
) -> Result<Checked, SpoolError> {
    let mut frames = Frames::open(file, keys)?;
    let keyring = frames.next()?.ok_or(SpoolError::Sealed)?;
    each(true, &keyring)?;
    let keyring = Keyring::open(keys, &keyring)?;
    let cipher = keyring.vault_cipher();
    let mut checked = Checked {
        entries: 0,
        records: 0,
        generation: keyring.generation(),
    };
    while let Some(record) = frames.next()? {
        checked.entries += entries(&cipher, checked.records, &record)?.len() as u64;
        each(false, &record)?;
        checked.records += 1;
    }
    let records = frames.end()?;
    if records == checked.records {
        Ok(checked)
    } else {
        Err(SpoolError::Sealed)
    }
}

/// Frames of a sealed file, with no more than one of them in memory.
struct Frames {
    reader: SealedReader,
    buffer: Vec<u8>,
}

impl Frames {
    /// Older wrapping keys open older backups.
    fn open(file: &Path, keys: &Keys) -> Result<Self, SpoolError> {
        let reader = keys::first_that_fits(keys.wrappings(), |wrapping| {
            SealedReader::open_at(file, id(), wrapping, Slot::Receive)
        });
        Ok(Self {
            reader: reader?,
            buffer: Vec::new(),
        })
    }

    /// Exactly `length` bytes.
    fn take(&mut self, length: usize) -> Result<Vec<u8>, SpoolError> {
        while self.buffer.len() < length {
            let chunk = self.reader.next_chunk()?.ok_or(SpoolError::Sealed)?;
            self.buffer.extend_from_slice(&chunk);
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    /// `None` at the end mark.
    fn next(&mut self) -> Result<Option<Vec<u8>>, SpoolError> {
        let length = self.take(4)?;
        let length = length.try_into().map_err(|_| SpoolError::Sealed)?;
        match u32::from_be_bytes(length) {
            END => Ok(None),
            length => Ok(Some(self.take(length as usize)?)),
        }
    }

    /// The number behind the end mark, and nothing behind that.
    fn end(&mut self) -> Result<u64, SpoolError> {
        let number = self.take(8)?.try_into().map_err(|_| SpoolError::Sealed)?;
        if !self.buffer.is_empty() || self.reader.next_chunk()?.is_some() {
            return Err(SpoolError::Sealed);
        }
        Ok(u64::from_be_bytes(number))
    }
}
