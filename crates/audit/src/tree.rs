//! The Merkle tree of RFC 6962 section 2, kept incrementally: every complete subtree's hash is
//! computed once, so a root or a proof costs a logarithm.

use sha2::{Digest, Sha256};

/// SHA-256.
pub(crate) type Hash = [u8; 32];

/// RFC 6962 section 2.1: `SHA-256(0x00 || leaf)`.
pub(crate) fn leaf_hash(leaf: &[u8]) -> Hash {
    Sha256::new()
        .chain_update([0])
        .chain_update(leaf)
        .finalize()
        .into()
}

/// RFC 6962 section 2.1: `SHA-256(0x01 || left || right)`.
pub(crate) fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new()
        .chain_update([1])
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

/// An append-only tree. `levels[h][i]` is the root of leaves `i·2^h .. (i+1)·2^h`.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tree {
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    pub(crate) fn len(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    pub(crate) fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        let mut height = 0;
        loop {
            if self.levels.len() == height {
                self.levels.push(Vec::new());
            }
            let Some(level) = self.levels.get_mut(height) else {
                return;
            };
            let sibling = level.last().copied();
            level.push(hash);
            let complete = level.len().is_multiple_of(2);
            match (complete, sibling) {
                (true, Some(left)) => hash = node_hash(&left, &hash),
                _ => return,
            }
            height += 1;
        }
    }

    /// Root of the first `size` leaves, or `None` if there are not that many.
    pub(crate) fn root(&self, size: u64) -> Option<Hash> {
        if size == 0 {
            return Some(Sha256::digest([]).into());
        }
        (size <= self.len()).then(|| self.range(0, size)).flatten()
    }

    /// Audit path of leaf `index` in the tree of the first `size` leaves (section 2.1.1).
    pub(crate) fn path(&self, index: u64, size: u64) -> Option<Vec<Hash>> {
        if index >= size || size > self.len() {
            return None;
        }
        let mut path = Vec::new();
        let (mut start, mut length, mut index) = (0, size, index);
        while length > 1 {
            let left = split(length);
            if index < left {
                path.push(self.range(start + left, length - left)?);
                length = left;
            } else {
                path.push(self.range(start, left)?);
                start += left;
                index -= left;
                length -= left;
            }
        }
        path.reverse();
        Some(path)
    }

    fn range(&self, start: u64, length: u64) -> Option<Hash> {
        if length.is_power_of_two() && start.is_multiple_of(length) {
            let level = self.levels.get(length.trailing_zeros() as usize)?;
            return level.get(usize::try_from(start / length).ok()?).copied();
        }
        let left = split(length);
        let right = self.range(start + left, length - left)?;
        Some(node_hash(&self.range(start, left)?, &right))
    }
}

/// The largest power of two below `length`, which is at least 2.
fn split(length: u64) -> u64 {
    1 << (63 - (length - 1).leading_zeros())
}

/// Root that `path` leads to from `leaf` at `index` in a tree of `size` leaves, or `None` if the
/// path has the wrong length (RFC 9162 section 2.1.3.2).
pub(crate) fn root_from_path(leaf: Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = leaf;
    for sibling in path {
        if last == 0 {
            return None;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// MTH of RFC 6962 section 2.1, word for word.
    fn naive(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [leaf] => *leaf,
            _ => {
                let k = leaves.len().next_power_of_two() / 2;
                node_hash(&naive(&leaves[..k]), &naive(&leaves[k..]))
            }
        }
    }

    fn tree(count: usize) -> (Tree, Vec<Hash>) {
        let leaves: Vec<Hash> = (0..count).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        let mut tree = Tree::default();
        leaves.iter().for_each(|leaf| tree.push(*leaf));
        (tree, leaves)
    }

    #[test]
    fn the_empty_tree_has_the_hash_of_nothing() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hex::encode(Tree::default().root(0).unwrap()), empty);
    }

    proptest! {
        #[test]
        fn roots_and_paths_agree_with_the_definition(count in 1_usize..200, at in any::<prop::sample::Index>(), sized in any::<prop::sample::Index>()) {
            let (tree, leaves) = tree(count);
            let size = sized.index(count) + 1;
            let index = at.index(size);
            let root = tree.root(size as u64).unwrap();
            prop_assert_eq!(root, naive(&leaves[..size]));
            let path = tree.path(index as u64, size as u64).unwrap();
            let led = root_from_path(leaves[index], index as u64, size as u64, &path);
            prop_assert_eq!(led, Some(root));
        }

        #[test]
        fn a_changed_leaf_index_size_or_path_leads_elsewhere(count in 2_usize..100, at in any::<prop::sample::Index>(), step in any::<prop::sample::Index>()) {
            let (tree, leaves) = tree(count);
            let (index, size) = (at.index(count) as u64, count as u64);
            let root = tree.root(size);
            let path = tree.path(index, size).unwrap();
            let leaf = leaves[at.index(count)];
            prop_assert_ne!(root_from_path(leaf_hash(b"other"), index, size, &path), root);
            for other in 0..size {
                if other != index {
                    prop_assert_ne!(root_from_path(leaf, other, size, &path), root);
                }
            }
            let mut bent = path.clone();
            bent[step.index(path.len())][0] ^= 1;
            prop_assert_ne!(root_from_path(leaf, index, size, &bent), root);
            prop_assert_ne!(root_from_path(leaf, index, size, &path[1..]), root);
        }
    }
}
