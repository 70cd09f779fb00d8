//! Offline verification: needs the files or a proof, the origin and the pinned public key.

use std::path::Path;

use cloister_seal::VerifyingKey;

use crate::checkpoint;
use crate::error::VerifyError;
use crate::event::Event;
use crate::log::{read_checkpoint, records_dir};
use crate::tree::{Tree, leaf_hash, root_from_path};

/// Proof that a record stands in the tree of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    /// Position of the record.
    pub leaf_index: u64,
    /// The record as logged.
    pub leaf: Vec<u8>,
    /// RFC 6962 audit path, from the leaf's sibling upwards.
    pub path: Vec<[u8; 32]>,
    /// C2SP signed note over the tree that the path leads to.
    pub checkpoint: String,
}

/// What an intact log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Whole records.
    pub records: u64,
    /// Root over all of them.
    pub root: [u8; 32],
    /// Records that the stored checkpoint covers.
    pub checkpoint_size: u64,
    /// Records after it: authentic as far as their checksums go, but not yet signed for.
    pub uncovered_tail: u64,
}

/// Verifies that `proof` puts its record into the log `origin` as signed by `key`.
///
/// # Errors
/// [`VerifyError`] names what does not hold.
pub fn verify_inclusion(
    proof: &InclusionProof,
    origin: &str,
    key: &VerifyingKey,
) -> Result<Event, VerifyError> {
    let checkpoint = checkpoint::verify(&proof.checkpoint, origin, key)?;
    let leaf = leaf_hash(&proof.leaf);
    let root = root_from_path(leaf, proof.leaf_index, checkpoint.size, &proof.path);
    if root != Some(checkpoint.root) {
        return Err(VerifyError::Inclusion);
    }
    Event::from_bytes(&proof.leaf).map_err(|_| VerifyError::Event(proof.leaf_index))
}

/// Recomputes every leaf of the log in `dir` and compares it with the stored checkpoint.
///
/// # Errors
/// [`VerifyError`] names what does not hold.
pub fn verify_directory(
    dir: &Path,
    origin: &str,
    key: &VerifyingKey,
) -> Result<Verified, VerifyError> {
    let note = read_checkpoint(dir)?.ok_or(VerifyError::NoCheckpoint)?;
    let checkpoint = checkpoint::verify(&note, origin, key)?;
    let mut tree = Tree::default();
    let mut foreign = None;
    cloister_log::read_directory(&records_dir(dir), |sequence, record| {
        tree.push(leaf_hash(record));
        if Event::from_bytes(record).is_err() {
            foreign.get_or_insert(sequence);
        }
    })?;
    let records = tree.len();
    let cut = VerifyError::Cut {
        records,
        covered: checkpoint.size,
    };
    if tree.root(checkpoint.size).ok_or(cut)? != checkpoint.root {
        return Err(VerifyError::Root);
    }
    if let Some(sequence) = foreign {
        return Err(VerifyError::Event(sequence));
    }
    Ok(Verified {
        records,
        root: tree.root(records).ok_or(VerifyError::Root)?,
        checkpoint_size: checkpoint.size,
        uncovered_tail: records - checkpoint.size,
    })
}
