//! Verification by whoever holds the log's public key: offline over a directory, or of one proof.

use std::path::Path;

use cloister_log::read_directory;
use cloister_seal::VerifyingKey;

use crate::checkpoint::Checkpoint;
use crate::error::VerifyError;
use crate::event::Event;
use crate::log::{CHECKPOINT, Comparison, InclusionProof, RECORDS, read_note};
use crate::tree::{Hash, Tree, leaf_hash, root_from_path};

/// What a directory was found to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// Whole records.
    pub records: u64,
    /// Root that the checkpoint signed and the records give.
    pub root: Hash,
    /// Records before the checkpoint: these are proven.
    pub checkpoint_size: u64,
    /// Records after it: whole, but nothing signed says that there were no more.
    pub uncovered_tail: u64,
    /// Bytes of a record that was being written when the process died.
    pub torn_bytes: u64,
}

/// Verifies the audit log in `dir`, without lock and without changing a byte.
///
/// It finds every flip, drop, insertion, exchange and cut before the checkpoint. It cannot find
/// that checkpoint and records were rolled back together: that needs a witness.
///
/// # Errors
/// [`VerifyError`] names the first thing that is wrong.
pub fn verify_directory(
    dir: &Path,
    origin: &str,
    key: &VerifyingKey,
) -> Result<Verified, VerifyError> {
    // Read before the records: a running room only adds.
    let note = read_note(&dir.join(CHECKPOINT))?.ok_or(VerifyError::NoCheckpoint)?;
    let checkpoint = Checkpoint::verify(&note, origin, key)?;
    let mut tree = Tree::default();
    let mut comparison = Comparison::new(Some(checkpoint.clone()));
    comparison.at(&tree);
    let mut not_an_event = None;
    let stored = read_directory(&dir.join(RECORDS), |record, bytes| {
        if Event::from_bytes(bytes).is_err() {
            not_an_event.get_or_insert(record);
        }
        tree.push(leaf_hash(bytes));
        comparison.at(&tree);
    })?;
    if stored.records < checkpoint.size {
        return Err(VerifyError::Cut {
            records: stored.records,
            covered: checkpoint.size,
        });
    }
    if !comparison.agrees(&tree) {
        return Err(VerifyError::Root);
    }
    if let Some(record) = not_an_event {
        return Err(VerifyError::Event { record });
    }
    Ok(Verified {
        records: stored.records,
        root: checkpoint.root,
        checkpoint_size: checkpoint.size,
        uncovered_tail: stored.records - checkpoint.size,
        torn_bytes: stored.torn_bytes,
    })
}

/// Verifies that the proof's record stands in the log `origin`, and reads it.
///
/// # Errors
/// [`VerifyError`].
pub fn verify_inclusion(
    proof: &InclusionProof,
    origin: &str,
    key: &VerifyingKey,
) -> Result<Event, VerifyError> {
    let checkpoint = Checkpoint::verify(&proof.checkpoint, origin, key)?;
    let leaf = leaf_hash(&proof.leaf);
    let root = root_from_path(proof.leaf_index, checkpoint.size, leaf, &proof.path);
    if root != Some(checkpoint.root) {
        return Err(VerifyError::Inclusion);
    }
    Event::from_bytes(&proof.leaf).map_err(|_| VerifyError::Event {
        record: proof.leaf_index,
    })
}
