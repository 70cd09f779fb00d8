use proptest::prelude::*;

use super::*;

/// RFC 6962 section 2.1.1, word for word.
fn naive_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() <= 1 {
        return Vec::new();
    }
    let k = largest_power_below(leaves.len() as u64) as usize;
    let (mut path, sibling) = if index < k {
        (naive_path(index, &leaves[..k]), root_of(&leaves[k..]))
    } else {
        (naive_path(index - k, &leaves[k..]), root_of(&leaves[..k]))
    };
    path.push(sibling);
    path
}

fn leaves(size: u64) -> Vec<Hash> {
    (0..size).map(|at| leaf_hash(&at.to_le_bytes())).collect()
}

fn grown(leaves: &[Hash]) -> Tree {
    let mut tree = Tree::default();
    for leaf in leaves {
        tree.push(*leaf);
    }
    tree
}

fn tile_of(leaves: &[Hash], index: u64) -> &[Hash] {
    let start = (index - index % TILE) as usize;
    &leaves[start..leaves.len().min(start + TILE as usize)]
}

fn unhex(text: &str) -> Hash {
    hex::decode(text).unwrap().try_into().unwrap()
}

#[test]
fn roots_are_those_of_the_certificate_transparency_test_vectors() {
    // The eight leaves and roots that every RFC 6962 implementation tests against.
    let inputs = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut tree = Tree::default();
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(tree.root(), unhex(empty));
    for (input, root) in inputs.into_iter().zip(roots) {
        tree.push(leaf_hash(&hex::decode(input).unwrap()));
        assert_eq!(tree.root(), unhex(root), "{} leaves", tree.size());
    }
}

#[test]
fn every_leaf_of_small_trees_and_around_tile_edges_has_the_naive_path() {
    for size in (1..=20).chain([255, 256, 257, 511, 512, 513, 769, 1025]) {
        let leaves = leaves(size);
        let tree = grown(&leaves);
        assert_eq!(tree.root(), root_of(&leaves), "root of {size}");
        for index in 0..size {
            let path = tree.path(index, tile_of(&leaves, index)).unwrap();
            assert_eq!(
                path,
                naive_path(index as usize, &leaves),
                "leaf {index} of {size}"
            );
            let root = root_from_path(index, size, leaves[index as usize], &path);
            assert_eq!(root, Some(tree.root()));
        }
        assert_eq!(tree.path(size, &[]), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_leaf_of_any_tree_has_the_naive_path_and_no_altered_proof_verifies(
        size in 1..5000_u64,
        at: prop::sample::Index,
        bit in 0..256_usize,
        step: prop::sample::Index,
    ) {
        let leaves = leaves(size);
        let tree = grown(&leaves);
        let index = at.index(size as usize) as u64;
        let leaf = leaves[index as usize];
        let mut path = tree.path(index, tile_of(&leaves, index)).unwrap();
        prop_assert_eq!(&path, &naive_path(index as usize, &leaves));
        let root = Some(root_of(&leaves));
        prop_assert_eq!(root_from_path(index, size, leaf, &path), root);

        let mut wrong = leaf;
        wrong[bit / 8] ^= 1 << (bit % 8);
        prop_assert_ne!(root_from_path(index, size, wrong, &path), root);
        if size > 1 {
            prop_assert_ne!(root_from_path((index + 1) % size, size, leaf, &path), root);
            let step = step.index(path.len());
            let kept = path[step];
            path[step][bit / 8] ^= 1 << (bit % 8);
            prop_assert_ne!(root_from_path(index, size, leaf, &path), root);
            path[step] = kept;
            path.push(kept);
            prop_assert_eq!(root_from_path(index, size, leaf, &path), None);
            path.truncate(path.len() - 2);
            prop_assert_eq!(root_from_path(index, size, leaf, &path), None);
        }
    }
}
