//! The Merkle tree of RFC 6962 section 2.1, grown leaf by leaf.
//!
//! Kept in memory are the roots of complete subtrees of 256 leaves and more, and the leaf hashes of
//! the last, incomplete 256: 22 million records need 6 MB. What a proof needs below that is hashed
//! again from 256 records.

use sha2::{Digest, Sha256};

pub(crate) type Hash = [u8; 32];

/// Leaves of one tile.
pub(crate) const TILE: u64 = 256;

pub(crate) fn leaf_hash(record: &[u8]) -> Hash {
    Sha256::new()
        .chain_update([0])
        .chain_update(record)
        .finalize()
        .into()
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new()
        .chain_update([1])
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

/// MTH of leaf hashes.
fn root_of(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(largest_power_below(leaves.len() as u64) as usize);
            node_hash(&root_of(left), &root_of(right))
        }
    }
}

/// The largest power of two smaller than `n`, for `n` > 1.
fn largest_power_below(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

/// An append-only tree.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    size: u64,
    /// Leaf hashes after the last complete tile.
    tail: Vec<Hash>,
    /// `levels[k]`: roots of the complete subtrees of `TILE << k` leaves.
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn push(&mut self, leaf: Hash) {
        self.tail.push(leaf);
        self.size += 1;
        if self.tail.len() as u64 == TILE {
            let mut node = root_of(&self.tail);
            self.tail.clear();
            let mut level = 0;
            loop {
                if self.levels.len() == level {
                    self.levels.push(Vec::new());
                }
                let Some(nodes) = self.levels.get_mut(level) else {
                    return;
                };
                nodes.push(node);
                let [.., left, right] = nodes.as_slice() else {
                    return;
                };
                if nodes.len() % 2 == 1 {
                    return;
                }
                node = node_hash(left, right);
                level += 1;
            }
        }
    }

    /// MTH(D[0:size]): the complete subtrees folded from the smallest up.
    pub(crate) fn root(&self) -> Hash {
        let mut root = (!self.tail.is_empty()).then(|| root_of(&self.tail));
        for nodes in &self.levels {
            // Of a pair, the parent stands one level up.
            if let (1, Some(node)) = (nodes.len() % 2, nodes.last()) {
                root = Some(root.map_or(*node, |right| node_hash(node, &right)));
            }
        }
        root.unwrap_or_else(|| root_of(&[]))
    }

    /// First leaf of the tile of `index` if that tile is complete: then [`Tree::path`] needs its
    /// leaf hashes.
    pub(crate) fn complete_tile_of(&self, index: u64) -> Option<u64> {
        let start = index - index % TILE;
        (start + TILE <= self.size).then_some(start)
    }

    /// PATH(index, D[0:size]), bottom up. `tile` holds the leaf hashes of the complete tile of
    /// `index`; it is not looked at if that tile is the incomplete one.
    pub(crate) fn path(&self, index: u64, tile: &[Hash]) -> Option<Vec<Hash>> {
        if index >= self.size {
            return None;
        }
        let tile = match self.complete_tile_of(index) {
            Some(_) if tile.len() as u64 == TILE => tile,
            Some(_) => return None,
            None => &self.tail,
        };
        let view = View {
            tree: self,
            tile,
            tile_start: index - index % TILE,
        };
        let mut path = Vec::new();
        let (mut start, mut count) = (0, self.size);
        // Top down, turned around at the end.
        while count > 1 {
            let left = largest_power_below(count);
            if index - start < left {
                path.push(view.root(start + left, count - left)?);
                count = left;
            } else {
                path.push(view.root(start, left)?);
                start += left;
                count -= left;
            }
        }
        path.reverse();
        Some(path)
    }
}

/// The tree and the leaf hashes around one leaf.
struct View<'a> {
    tree: &'a Tree,
    tile: &'a [Hash],
    tile_start: u64,
}

impl View<'_> {
    /// MTH(D[start:start+count]) of a subtree that stands beside the path.
    fn root(&self, start: u64, count: u64) -> Option<Hash> {
        if count >= TILE && count.is_power_of_two() {
            let level = (count / TILE).ilog2() as usize;
            return self
                .tree
                .levels
                .get(level)?
                .get((start / count) as usize)
                .copied();
        }
        if count > TILE {
            let left = largest_power_below(count);
            return Some(node_hash(
                &self.root(start, left)?,
                &self.root(start + left, count - left)?,
            ));
        }
        // Inside the leaf's own tile, or the incomplete one at the end.
        let tail_start = self.tree.size - self.tree.tail.len() as u64;
        let (leaves, from) = if start >= tail_start {
            (self.tree.tail.as_slice(), tail_start)
        } else {
            (self.tile, self.tile_start)
        };
        let from = usize::try_from(start.checked_sub(from)?).ok()?;
        Some(root_of(leaves.get(from..from + count as usize)?))
    }
}

/// The root that `path` leads to from the leaf `index` in a tree of `size` leaves
/// (RFC 9162 section 2.1.3.2); `None` if the path has another length than it must.
pub(crate) fn root_from_path(index: u64, size: u64, leaf: Hash, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in path {
        if last == 0 {
            return None;
        }
        if node % 2 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node % 2 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

#[cfg(test)]
mod tests;
