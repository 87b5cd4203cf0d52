//! Which hashes prove that a leaf is in a tree, or that a tree is the beginning of another, and
//! the check of both (RFC 9162 §2.1.3 and §2.1.4).

use crypto::digest::Sha256;
use thiserror::Error;

use crate::tree::{empty_root, node_hash};

/// Leaves from the first to before the second.
pub(crate) type Range = (u64, u64);

/// Why a proof proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProofError {
    #[error("leaf {index} is not in a tree of {size}")]
    Outside { index: u64, size: u64 },
    #[error("a tree of {from} leaves is not the beginning of one of {to}")]
    Shrunk { from: u64, to: u64 },
    #[error("the proof has {found} hashes, which is not how many it needs")]
    Length { found: usize },
    #[error("the proof does not lead to the root")]
    Root,
    #[error("the proof does not lead to the root of the smaller tree")]
    OldRoot,
}

/// The subtrees whose roots prove that leaf `index` is in a tree of `size` leaves, in the order of
/// the proof; none if it is not in the tree.
#[must_use]
pub fn inclusion_ranges(index: u64, size: u64) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    let (mut start, mut end) = (0, size);
    while index < size && end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            ranges.push((middle, end));
            end = middle;
        } else {
            ranges.push((start, middle));
            start = middle;
        }
    }
    ranges.reverse();
    ranges
}

/// The subtrees whose roots prove that the tree of `from` leaves is the beginning of the one of
/// `to`, in the order of the proof; none where nothing needs proof.
#[must_use]
pub fn consistency_ranges(from: u64, to: u64) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    if from == 0 || from >= to {
        return ranges;
    }
    let (mut start, mut end) = (0, to);
    while end != from {
        let middle = start + split(end - start);
        if from <= middle {
            ranges.push((middle, end));
            end = middle;
        } else {
            ranges.push((start, middle));
            start = middle;
        }
    }
    // The verifier has the whole of the smaller tree already.
    if start != 0 {
        ranges.push((start, end));
    }
    ranges.reverse();
    ranges
}

/// The largest power of two below `count`, which is at least 2.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// Refuses what does not prove that the leaf with this hash is leaf `index` of the tree
/// (RFC 9162 §2.1.3.2).
pub fn verify_inclusion(
    index: u64,
    size: u64,
    leaf: Sha256,
    proof: &[Sha256],
    root: Sha256,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Outside { index, size });
    }
    let length = ProofError::Length { found: proof.len() };
    let (mut number, mut last) = (index, size - 1);
    let mut hash = leaf;
    for sibling in proof {
        if last == 0 {
            return Err(length);
        }
        if number & 1 == 1 || number == last {
            hash = node_hash(sibling, &hash);
            while number & 1 == 0 && number != 0 {
                (number, last) = (number >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (number, last) = (number >> 1, last >> 1);
    }
    match (last, hash == root) {
        (0, true) => Ok(()),
        (0, false) => Err(ProofError::Root),
        _ => Err(length),
    }
}

/// Refuses what does not prove that the first tree (size and root) is the beginning of the second
/// (RFC 9162 §2.1.4.2).
pub fn verify_consistency(
    (from, old_root): (u64, Sha256),
    (to, root): (u64, Sha256),
    proof: &[Sha256],
) -> Result<(), ProofError> {
    if from > to {
        return Err(ProofError::Shrunk { from, to });
    }
    let length = ProofError::Length { found: proof.len() };
    if from == to || from == 0 {
        let expected = if from == to { root } else { empty_root() };
        return match (proof.is_empty(), old_root == expected) {
            (false, _) => Err(length),
            (true, false) => Err(ProofError::OldRoot),
            (true, true) => Ok(()),
        };
    }
    let (first, rest) = match (from.is_power_of_two(), proof) {
        (true, rest) => (old_root, rest),
        (false, [first, rest @ ..]) => (*first, rest),
        (false, []) => return Err(length),
    };
    let skipped = (from - 1).trailing_ones();
    let (mut number, mut last) = ((from - 1) >> skipped, (to - 1) >> skipped);
    let (mut old, mut new) = (first, first);
    for sibling in rest {
        if last == 0 {
            return Err(length);
        }
        if number & 1 == 1 || number == last {
            old = node_hash(sibling, &old);
            new = node_hash(sibling, &new);
            while number & 1 == 0 && number != 0 {
                (number, last) = (number >> 1, last >> 1);
            }
        } else {
            new = node_hash(&new, sibling);
        }
        (number, last) = (number >> 1, last >> 1);
    }
    match (last, old == old_root, new == root) {
        (0, true, true) => Ok(()),
        (0, false, _) => Err(ProofError::OldRoot),
        (0, true, false) => Err(ProofError::Root),
        _ => Err(length),
    }
}

#[cfg(test)]
#[path = "proof/tests.rs"]
mod tests;
