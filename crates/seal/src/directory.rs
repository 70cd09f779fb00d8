//! The recipient directory: who may receive reports, under which key.
//!
//! A file of JSON lines `{"entry":base64,"signature":base64}`, signed line by line with the
//! enrolment key, which is on no serving machine. A swapped key is the one attack that defeats
//! sealing, so one bad line refuses the whole file.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cloister_proto::v1::{DirectoryEntry, SignedDirectoryEntry};
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::key::{KeyId, RecipientPublicKey, suite_of};
use crate::signature::{SigningKey, VerifyingKey};

const DOMAIN: &str = "cloister-directory-v1";
/// Format number written into entries.
pub const FORMAT: u32 = 1;

/// The directory was not read, or does not name the recipient.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// The operating system refused.
    #[error("directory file: {0}")]
    Io(#[from] io::Error),
    /// A line is no entry.
    #[error("directory line {line}: malformed entry")]
    Malformed {
        /// From 1.
        line: usize,
    },
    /// A line is not signed by the enrolment key.
    #[error("directory line {line}: not signed by the enrolment key")]
    Signature {
        /// From 1.
        line: usize,
    },
    /// Two identities claim one key.
    #[error("directory line {line}: the key belongs to another identity")]
    KeyTwice {
        /// From 1.
        line: usize,
    },
    /// Nobody of that name.
    #[error("unknown recipient")]
    Unknown,
    /// Known, but no key is valid now.
    #[error("the recipient has no key that is valid now")]
    Expired,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    entry: String,
    signature: String,
}

/// A verified entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    identity: String,
    key: RecipientPublicKey,
    groups: Vec<String>,
    not_before_unix_ms: i64,
    not_after_unix_ms: i64,
    signed: SignedDirectoryEntry,
}

impl Entry {
    /// The URI in the recipient's certificate.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The key to seal to.
    pub fn key(&self) -> &RecipientPublicKey {
        &self.key
    }

    /// The groups that routing rules name.
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// True from `not_before` up to, not including, `not_after`.
    pub fn is_valid_at(&self, now_ms: i64) -> bool {
        (self.not_before_unix_ms..self.not_after_unix_ms).contains(&now_ms)
    }

    /// The entry as enrolled.
    pub fn signed(&self) -> &SignedDirectoryEntry {
        &self.signed
    }

    fn read(signed: SignedDirectoryEntry) -> Option<Self> {
        let entry = DirectoryEntry::decode(&signed.entry[..]).ok()?;
        let key =
            RecipientPublicKey::from_parts(suite_of(entry.suite).ok()?, &entry.public_key).ok()?;
        let well_formed = entry.format == FORMAT
            && key.key_id().as_bytes()[..] == entry.key_id
            && is_identity(&entry.identity)
            && entry.groups.iter().all(|group| is_name(group))
            && entry.not_before_unix_ms < entry.not_after_unix_ms;
        well_formed.then_some(Self {
            identity: entry.identity,
            key,
            groups: entry.groups,
            not_before_unix_ms: entry.not_before_unix_ms,
            not_after_unix_ms: entry.not_after_unix_ms,
            signed,
        })
    }
}

/// Every entry of a directory file, each verified. It does not change after loading.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    entries: Vec<Entry>,
}

impl Directory {
    /// Reads and verifies the file. Of two entries for one key the later line counts. Expired
    /// entries stay: their keys still read what was sealed to them, and [`Directory::resolve`]
    /// never names them.
    ///
    /// # Errors
    /// [`DirectoryError`] for any line that is not exactly a signed entry.
    pub fn load(path: &Path, enrol: &VerifyingKey) -> Result<Self, DirectoryError> {
        let text = fs::read_to_string(path)?;
        let mut entries: Vec<Entry> = Vec::new();
        for (at, text) in text.lines().enumerate() {
            let line = at + 1;
            if text.trim().is_empty() {
                continue;
            }
            let signed = parse(text).ok_or(DirectoryError::Malformed { line })?;
            enrol
                .verify(DOMAIN, &[&signed.entry], &signed.signature)
                .map_err(|_| DirectoryError::Signature { line })?;
            let entry = Entry::read(signed).ok_or(DirectoryError::Malformed { line })?;
            match entries.iter_mut().find(|other| other.key == entry.key) {
                Some(other) if other.identity == entry.identity => *other = entry,
                Some(_) => return Err(DirectoryError::KeyTwice { line }),
                None => entries.push(entry),
            }
        }
        Ok(Self { entries })
    }

    /// All entries, in the order of the file.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries of one identity: one per key.
    pub fn by_identity(&self, identity: &str) -> Vec<&Entry> {
        self.entries
            .iter()
            .filter(|entry| entry.identity == identity)
            .collect()
    }

    /// The entries of one group.
    pub fn by_group(&self, group: &str) -> Vec<&Entry> {
        self.entries
            .iter()
            .filter(|entry| entry.groups.iter().any(|name| name == group))
            .collect()
    }

    /// The entry of one key.
    pub fn by_key_id(&self, id: KeyId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key.key_id() == id)
    }

    /// The keys that are valid now of `recipient`: `spiffe://…` or `group:NAME`.
    ///
    /// # Errors
    /// [`DirectoryError::Unknown`], [`DirectoryError::Expired`]. Never an empty list.
    pub fn resolve(&self, recipient: &str) -> Result<Vec<RecipientPublicKey>, DirectoryError> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.resolve_at(
            recipient,
            i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
        )
    }

    /// As [`Directory::resolve`], at a given time.
    ///
    /// # Errors
    /// As [`Directory::resolve`].
    pub fn resolve_at(
        &self,
        recipient: &str,
        now_ms: i64,
    ) -> Result<Vec<RecipientPublicKey>, DirectoryError> {
        let entries = match recipient.strip_prefix("group:") {
            Some(group) => self.by_group(group),
            None => self.by_identity(recipient),
        };
        if entries.is_empty() {
            return Err(DirectoryError::Unknown);
        }
        let valid = entries
            .into_iter()
            .filter(|entry| entry.is_valid_at(now_ms));
        let keys: Vec<_> = valid.map(|entry| entry.key.clone()).collect();
        if keys.is_empty() {
            Err(DirectoryError::Expired)
        } else {
            Ok(keys)
        }
    }
}

/// Signs an entry; its format and key id are set here.
pub fn sign_entry(entry: &DirectoryEntry, key: &SigningKey) -> SignedDirectoryEntry {
    let mut entry = DirectoryEntry {
        format: FORMAT,
        ..entry.clone()
    };
    let public = suite_of(entry.suite)
        .and_then(|suite| RecipientPublicKey::from_parts(suite, &entry.public_key));
    // An entry with a bad key is signed as it is, and refused by everybody who reads it.
    if let Ok(public) = public {
        entry.public_key = public.to_bytes();
        entry.key_id = public.key_id().as_bytes().to_vec();
    }
    let entry = entry.encode_to_vec();
    let signature = key.sign(DOMAIN, &[&entry]);
    SignedDirectoryEntry { entry, signature }
}

/// Appends an entry to the file, creating it with mode 0644.
///
/// # Errors
/// [`DirectoryError::Io`].
pub fn append_file(path: &Path, entry: &SignedDirectoryEntry) -> Result<(), DirectoryError> {
    let line = Line {
        entry: BASE64_STANDARD.encode(&entry.entry),
        signature: BASE64_STANDARD.encode(&entry.signature),
    };
    let mut text = serde_json::to_string(&line).map_err(io::Error::from)?;
    text.push('\n');
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o644)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(files::sync_parent(path)?)
}

fn parse(text: &str) -> Option<SignedDirectoryEntry> {
    let line: Line = serde_json::from_str(text).ok()?;
    Some(SignedDirectoryEntry {
        entry: BASE64_STANDARD.decode(line.entry).ok()?,
        signature: BASE64_STANDARD.decode(line.signature).ok()?,
    })
}

/// `spiffe://<trust-domain>/<role>/<name>`.
fn is_identity(uri: &str) -> bool {
    let Some(rest) = uri.strip_prefix("spiffe://") else {
        return false;
    };
    let parts: Vec<_> = rest.split('/').collect();
    parts.len() == 3 && parts.into_iter().all(is_name)
}

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=128).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests;
