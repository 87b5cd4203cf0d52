use proptest::prelude::*;

use super::*;
use crate::tree::tests::{known_leaves, leaves, naive_root};

fn naive_inclusion(index: usize, all: &[Sha256]) -> Vec<Sha256> {
    let ranges = inclusion_ranges(index as u64, all.len() as u64);
    roots(&ranges, all)
}

fn naive_consistency(from: usize, all: &[Sha256]) -> Vec<Sha256> {
    let ranges = consistency_ranges(from as u64, all.len() as u64);
    roots(&ranges, all)
}

fn roots(ranges: &[(u64, u64)], all: &[Sha256]) -> Vec<Sha256> {
    let root = |(start, end): &(u64, u64)| naive_root(&all[*start as usize..*end as usize]);
    ranges.iter().map(root).collect()
}

fn known(hexes: &[&str]) -> Vec<Sha256> {
    hexes.iter().map(|hex| hex.parse().unwrap()).collect()
}

#[test]
fn a_leaf_outside_of_the_tree_is_refused() {
    let all = leaves(3);
    let outcome = verify_inclusion(3, 3, all[2], &[], naive_root(&all));
    assert_eq!(outcome, Err(ProofError::Outside { index: 3, size: 3 }));
}

#[test]
fn a_tree_that_shrank_is_refused() {
    let root = naive_root(&leaves(3));
    let outcome = verify_consistency((4, root), (3, root), &[]);
    assert_eq!(outcome, Err(ProofError::Shrunk { from: 4, to: 3 }));
}

#[test]
fn another_root_of_the_same_size_is_refused() {
    let (one, other) = (naive_root(&leaves(3)), empty_root());
    let outcome = verify_consistency((3, one), (3, other), &[]);
    assert_eq!(outcome, Err(ProofError::OldRoot));
}

#[test]
fn a_changed_past_is_refused() {
    let all = leaves(11);
    let mut forked = all.clone();
    forked[2] = all[3];
    let proof = naive_consistency(6, &forked);
    let outcome = verify_consistency(
        (6, naive_root(&all[..6])),
        (11, naive_root(&forked)),
        &proof,
    );
    assert_eq!(outcome, Err(ProofError::OldRoot));
}

/// RFC 9162 §2.1.5, whose tree has seven leaves; the hashes are of the known inputs.
#[test]
fn proofs_have_the_shape_of_the_rfcs_example() {
    assert_eq!(inclusion_ranges(0, 7), [(1, 2), (2, 4), (4, 7)]);
    assert_eq!(inclusion_ranges(3, 7), [(2, 3), (0, 2), (4, 7)]);
    assert_eq!(inclusion_ranges(4, 7), [(5, 6), (6, 7), (0, 4)]);
    assert_eq!(inclusion_ranges(6, 7), [(4, 6), (0, 4)]);
    assert_eq!(consistency_ranges(3, 7), [(2, 3), (3, 4), (0, 2), (4, 7)]);
    assert_eq!(consistency_ranges(4, 7), [(4, 7)]);
    assert_eq!(consistency_ranges(6, 7), [(4, 6), (6, 7), (0, 4)]);
}

/// From Certificate Transparency's own tests of RFC 6962.
#[test]
fn known_proofs_hold() {
    let all = known_leaves();
    let root = naive_root(&all);
    let path = known(&[
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]);
    assert_eq!(naive_inclusion(0, &all), path);
    assert_eq!(verify_inclusion(0, 8, all[0], &path, root), Ok(()));
    let proof = known(&[
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]);
    assert_eq!(naive_consistency(6, &all), proof);
    let old = naive_root(&all[..6]);
    assert_eq!(verify_consistency((6, old), (8, root), &proof), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn an_inclusion_proof_holds_for_its_leaf_alone(
        (size, index) in (1_usize..70).prop_flat_map(|size| (Just(size), 0..size)),
        change: prop::sample::Index,
    ) {
        let all = leaves(size as u64);
        let (root, proof) = (naive_root(&all), naive_inclusion(index, &all));
        let check = |leaf, proof: &[Sha256]| {
            verify_inclusion(index as u64, size as u64, leaf, proof, root)
        };
        prop_assert_eq!(check(all[index], &proof), Ok(()));
        prop_assert_eq!(check(empty_root(), &proof), Err(ProofError::Root));
        let longer = [&proof[..], &[root]].concat();
        prop_assert_eq!(
            check(all[index], &longer),
            Err(ProofError::Length { found: longer.len() })
        );
        if !proof.is_empty() {
            let mut changed = proof.clone();
            changed[change.index(proof.len())] = empty_root();
            prop_assert_eq!(check(all[index], &changed), Err(ProofError::Root));
            let shorter = &proof[1..];
            prop_assert!(check(all[index], shorter).is_err());
        }
    }

    #[test]
    fn a_consistency_proof_holds_for_its_trees_alone(
        (to, from) in (1_usize..70).prop_flat_map(|to| (Just(to), 1..=to)),
        change: prop::sample::Index,
    ) {
        let all = leaves(to as u64);
        let (old, root) = (naive_root(&all[..from]), naive_root(&all));
        let proof = naive_consistency(from, &all);
        let check = |old, root, proof: &[Sha256]| {
            verify_consistency((from as u64, old), (to as u64, root), proof)
        };
        prop_assert_eq!(check(old, root, &proof), Ok(()));
        prop_assert!(check(empty_root(), root, &proof).is_err());
        prop_assert!(check(old, empty_root(), &proof).is_err());
        let longer = [&proof[..], &[root]].concat();
        prop_assert!(check(old, root, &longer).is_err());
        if !proof.is_empty() {
            let mut changed = proof.clone();
            changed[change.index(proof.len())] = empty_root();
            prop_assert!(check(old, root, &changed).is_err());
            prop_assert!(check(old, root, &proof[1..]).is_err());
        }
    }

    #[test]
    fn any_proof_is_judged_without_a_panic(
        index: u64, size: u64, from: u64, proof in prop::collection::vec(any::<[u8; 32]>(), 0..70)
    ) {
        let proof: Vec<_> = proof.into_iter().map(Sha256::from_bytes).collect();
        let root = empty_root();
        prop_assert!(verify_inclusion(index, size, root, &proof, root).is_err());
        let _ = verify_consistency((from, root), (size, root), &proof);
        let _ = (inclusion_ranges(index, size), consistency_ranges(from, size));
    }
}
