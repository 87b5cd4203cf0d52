//! Tiles that are at hand, and the hashes that can be made from them.

use std::collections::BTreeMap;

use crypto::digest::Sha256;
use thiserror::Error;

use crate::edge::root_of_full;
use crate::proof::{Range, consistency_ranges, inclusion_ranges};
use crate::tile::{Content, TILE_WIDTH, TilePath};
use crate::tree::{Node, join, nodes_of};

const HASH: usize = 32;

/// Tiles of hashes of one tree, by level and number.
#[derive(Clone, Debug, Default)]
pub struct Tiles(BTreeMap<(u8, u64), Vec<Sha256>>);

/// This tile is not at hand, or not as wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0} is missing")]
pub struct MissingTile(pub TilePath);

/// Why bytes are not a tile of hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TileError {
    #[error("a tile of {wanted} hashes has {} bytes, not {found}", wanted * 32)]
    Length { wanted: u16, found: usize },
    #[error("a tile has 1 to 256 hashes, not {0}")]
    Width(usize),
}

impl Tiles {
    /// Keeps a tile as it is served.
    pub fn insert(&mut self, tile: TilePath, bytes: &[u8]) -> Result<(), TileError> {
        if bytes.len() != usize::from(tile.width()) * HASH {
            return Err(TileError::Length {
                wanted: tile.width(),
                found: bytes.len(),
            });
        }
        let Content::Hashes { level } = tile.content() else {
            return Ok(());
        };
        self.put(level, tile.number(), decode(bytes))
    }

    /// Keeps a tile, unless it has a wider one of the same place.
    pub fn put(&mut self, level: u8, number: u64, hashes: Vec<Sha256>) -> Result<(), TileError> {
        if hashes.is_empty() || hashes.len() > usize::from(TILE_WIDTH) {
            return Err(TileError::Width(hashes.len()));
        }
        let kept = self.0.entry((level, number)).or_default();
        if kept.len() < hashes.len() {
            *kept = hashes;
        }
        Ok(())
    }

    /// The hashes of a tile.
    pub fn hashes(&self, tile: TilePath) -> Result<&[Sha256], MissingTile> {
        let Content::Hashes { level } = tile.content() else {
            return Err(MissingTile(tile));
        };
        let known = self.0.get(&(level, tile.number()));
        known
            .and_then(|hashes| hashes.get(..usize::from(tile.width())))
            .ok_or(MissingTile(tile))
    }

    /// The hashes that prove that leaf `index` is in the tree of `size` leaves (RFC 9162 §2.1.3.1).
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Sha256>, MissingTile> {
        self.roots(inclusion_ranges(index, size), size)
    }

    /// The hashes that prove that the tree of `from` leaves is the beginning of the one of `to`
    /// (RFC 9162 §2.1.4.1).
    pub fn consistency(&self, from: u64, to: u64) -> Result<Vec<Sha256>, MissingTile> {
        self.roots(consistency_ranges(from, to), to)
    }

    /// The root of the tree of `size` leaves.
    pub fn root(&self, size: u64) -> Result<Sha256, MissingTile> {
        self.range_root((0, size), size)
    }

    fn roots(&self, ranges: Vec<Range>, size: u64) -> Result<Vec<Sha256>, MissingTile> {
        let roots = ranges.into_iter().map(|range| self.range_root(range, size));
        roots.collect()
    }

    fn range_root(&self, (start, end): Range, size: u64) -> Result<Sha256, MissingTile> {
        let roots: Vec<_> = nodes_of(start, end)
            .map(|node| self.node(node, size))
            .collect::<Result<_, _>>()?;
        Ok(join(roots.into_iter()))
    }

    fn node(&self, node: Node, size: u64) -> Result<Sha256, MissingTile> {
        let (tile, first) = tile_of(node, size);
        let hashes = &self.hashes(tile)?[first..];
        Ok(root_of_full(&hashes[..1 << (node.level % 8)]))
    }
}

/// The tiles from which proofs over these ranges of the tree of `size` leaves are made.
pub(crate) fn tiles_of(ranges: &[Range], size: u64) -> Vec<TilePath> {
    let nodes = ranges
        .iter()
        .flat_map(|(start, end)| nodes_of(*start, *end));
    let mut tiles: Vec<_> = nodes.map(|node| tile_of(node, size).0).collect();
    tiles.sort_unstable();
    tiles.dedup();
    tiles
}

/// The tile that holds the hashes below `node`, and where in it they begin.
fn tile_of(node: Node, size: u64) -> (TilePath, usize) {
    let level = u8::try_from(node.level / 8).expect("a tree of 64-bit size has 8 levels of tiles");
    let first = node.index << (node.level % 8);
    let width = u64::from(TILE_WIDTH);
    let tile = TilePath::in_tree(Content::Hashes { level }, first / width, size)
        .expect("a complete subtree of the tree is in one of its tiles");
    let within = usize::try_from(first % width).expect("a tile has 256 hashes");
    (tile, within)
}

fn decode(bytes: &[u8]) -> Vec<Sha256> {
    let (hashes, _) = bytes.as_chunks::<HASH>();
    hashes.iter().copied().map(Sha256::from_bytes).collect()
}

impl Tiles {
    /// The tiles that [`inclusion`](Self::inclusion) needs.
    #[must_use]
    pub fn for_inclusion(index: u64, size: u64) -> Vec<TilePath> {
        tiles_of(&inclusion_ranges(index, size), size)
    }

    /// The tiles that [`consistency`](Self::consistency) needs.
    #[must_use]
    pub fn for_consistency(from: u64, to: u64) -> Vec<TilePath> {
        tiles_of(&consistency_ranges(from, to), to)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::edge::Edge;
    use crate::proof::{verify_consistency, verify_inclusion};
    use crate::tree::tests::{leaves, naive_root};

    fn stored(count: u64) -> Tiles {
        let mut tiles = Tiles::default();
        for tile in Edge::default().append(leaves(count)).tiles {
            tiles.put(tile.level, tile.number, tile.hashes).unwrap();
        }
        tiles
    }

    fn only(tiles: &Tiles, wanted: &[TilePath]) -> Tiles {
        let mut some = Tiles::default();
        for tile in wanted {
            let bytes: Vec<u8> = tiles
                .hashes(*tile)
                .unwrap()
                .iter()
                .flat_map(|hash| *hash.as_bytes())
                .collect();
            some.insert(*tile, &bytes).unwrap();
        }
        some
    }

    #[test]
    fn a_tile_of_another_length_is_refused() {
        let tile = TilePath::try_new(Content::Hashes { level: 0 }, 0, 2).unwrap();
        let outcome = Tiles::default().insert(tile, &[0; 63]);
        let expected = TileError::Length {
            wanted: 2,
            found: 63,
        };
        assert_eq!(outcome, Err(expected));
    }

    #[test]
    fn a_narrower_tile_does_not_replace_a_wider_one() {
        let mut tiles = stored(3);
        tiles.put(0, 0, leaves(2)).unwrap();
        assert_eq!(tiles.root(3), Ok(naive_root(&leaves(3))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn proofs_from_the_named_tiles_alone_hold(
            (size, index) in (1_u64..1500).prop_flat_map(|size| (Just(size), 0..size)),
            from in 0_u64..1500,
        ) {
            let all = leaves(size);
            let tiles = stored(size);
            let root = naive_root(&all);
            let some = only(&tiles, &Tiles::for_inclusion(index, size));
            let proof = some.inclusion(index, size).unwrap();
            let held = verify_inclusion(index, size, all[index as usize], &proof, root);
            prop_assert_eq!(held, Ok(()));

            let from = from % (size + 1);
            let some = only(&tiles, &Tiles::for_consistency(from, size));
            let proof = some.consistency(from, size).unwrap();
            let before = naive_root(&all[..from as usize]);
            prop_assert_eq!(verify_consistency((from, before), (size, root), &proof), Ok(()));
        }
    }
}
