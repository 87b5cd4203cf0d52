//! The growing edge of a tree: for each level of tiles the hashes of the one that is not full.
//! It is all that appending needs, and all that the root is made of.

use crypto::digest::Sha256;

use crate::tile::{Content, TILE_WIDTH, TilePath};
use crate::tiles::{MissingTile, Tiles};
use crate::tree::{join, node_hash, nodes_of};

/// The edge of a tree with [`size`](Self::size) leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    /// By level of tiles; each shorter than a full tile.
    levels: Vec<Vec<Sha256>>,
}

/// What appending has made: every tile that is new or longer than before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grown {
    pub tiles: Vec<GrownTile>,
}

/// A tile of hashes, whole: what it held before is its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrownTile {
    pub level: u8,
    pub number: u64,
    pub hashes: Vec<Sha256>,
}

impl Edge {
    /// The tiles that [`load`](Self::load) needs.
    pub fn tiles(size: u64) -> impl Iterator<Item = TilePath> {
        (0..8).filter_map(move |level| {
            let number = full_below(size, level + 1);
            TilePath::in_tree(Content::Hashes { level }, number, size)
        })
    }

    /// The edge of the tree of `size` leaves that `tiles` are of.
    pub fn load(size: u64, tiles: &Tiles) -> Result<Self, MissingTile> {
        let mut levels = Vec::new();
        for tile in Self::tiles(size) {
            let Content::Hashes { level } = tile.content() else {
                continue;
            };
            levels.resize(usize::from(level), Vec::new());
            levels.push(tiles.hashes(tile)?.to_vec());
        }
        Ok(Self { size, levels })
    }

    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The tree's root.
    #[must_use]
    pub fn root(&self) -> Sha256 {
        let mut peaks = Vec::new();
        for hashes in self.levels.iter().rev() {
            let mut rest = &hashes[..];
            for node in nodes_of(0, hashes.len() as u64) {
                let (subtree, after) = rest.split_at(1 << node.level);
                peaks.push(root_of_full(subtree));
                rest = after;
            }
        }
        join(peaks.into_iter())
    }

    /// Appends leaves by their hashes.
    pub fn append(&mut self, leaves: impl IntoIterator<Item = Sha256>) -> Grown {
        let before = self.size;
        let mut tiles = Vec::new();
        for leaf in leaves {
            self.push(0, leaf, &mut tiles);
            self.size += 1;
        }
        for (level, hashes) in (0_u8..).zip(&self.levels) {
            let is_longer = full_below(self.size, level) > full_below(before, level);
            if is_longer && !hashes.is_empty() {
                tiles.push(GrownTile {
                    level,
                    number: full_below(self.size, level + 1),
                    hashes: hashes.clone(),
                });
            }
        }
        Grown { tiles }
    }

    /// `self.size` does not count the leaf yet that the hash is the last of.
    fn push(&mut self, level: u8, hash: Sha256, full: &mut Vec<GrownTile>) {
        let place = usize::from(level);
        if self.levels.len() <= place {
            self.levels.push(Vec::new());
        }
        let hashes = &mut self.levels[place];
        hashes.push(hash);
        if hashes.len() == usize::from(TILE_WIDTH) {
            let hashes = std::mem::take(hashes);
            let parent = root_of_full(&hashes);
            full.push(GrownTile {
                level,
                number: full_below(self.size, level + 1),
                hashes,
            });
            self.push(level + 1, parent, full);
        }
    }
}

/// How many full tiles of the level below a tree of `size` leaves has; of level 0, its leaves.
fn full_below(size: u64, level: u8) -> u64 {
    size.checked_shr(8 * u32::from(level)).unwrap_or(0)
}

/// Of a power of two of neighbouring hashes.
pub(crate) fn root_of_full(hashes: &[Sha256]) -> Sha256 {
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        row = row
            .chunks_exact(2)
            .map(|pair| node_hash(&pair[0], &pair[1]))
            .collect();
    }
    row[0]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tree::tests::{leaves, naive_root};

    #[test]
    fn an_edge_without_its_tiles_is_not_loaded() {
        let missing = Edge::load(300, &Tiles::default()).unwrap_err();
        assert_eq!(missing.0.to_string(), "tile/0/001.p/44");
    }

    #[test]
    fn an_empty_edge_has_the_root_of_nothing() {
        assert_eq!(Edge::default().root(), crate::empty_root());
        assert_eq!(Edge::tiles(0).count(), 0);
    }

    #[test]
    fn full_tiles_make_a_level_of_their_own() {
        let mut edge = Edge::default();
        let grown = edge.append(leaves(256 * 256));
        let upper: Vec<_> = grown.tiles.iter().filter(|tile| tile.level > 0).collect();
        assert_eq!(
            (upper[0].level, upper[0].number, upper[0].hashes.len()),
            (1, 0, 256)
        );
        assert_eq!(
            (upper[1].level, upper[1].number, upper[1].hashes.len()),
            (2, 0, 1)
        );
        assert_eq!(edge.root(), naive_root(&leaves(256 * 256)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn an_edge_that_grew_in_steps_and_was_stored_between_has_the_naive_root(
            steps in prop::collection::vec(0_u64..700, 1..5)
        ) {
            let all = leaves(steps.iter().sum());
            let mut tiles = Tiles::default();
            let mut edge = Edge::default();
            let mut rest = &all[..];
            for step in steps {
                let (next, after) = rest.split_at(step as usize);
                let grown = edge.append(next.iter().copied());
                for tile in grown.tiles {
                    tiles.put(tile.level, tile.number, tile.hashes).unwrap();
                }
                rest = after;
                prop_assert_eq!(&Edge::load(edge.size(), &tiles).unwrap(), &edge);
                prop_assert_eq!(edge.root(), naive_root(&all[..all.len() - rest.len()]));
            }
        }
    }
}
