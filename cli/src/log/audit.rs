//! Whether a log is what it says: signed by its key, grown from what was seen before, whole, and in
//! possession of a certificate.
//!
//! Invariant: a [`Verdict`] exists only when all of it holds. Leaves are hashed here; no hash that
//! the log serves is believed unless it is one of those, or leads to the signed root.

use std::collections::BTreeMap;

use crypto::digest::Sha256;
use identity::SerialNumber;
use identity::x509::{CertificateError, serial_of};
use thiserror::Error;
use tlog::entry::Entry;
use tlog::{
    Checkpoint, CheckpointError, Content, Edge, MissingTile, TILE_WIDTH, TileError, TilePath,
    Tiles, VerifiedCheckpoint, VerifierKey, bundle, leaf_hash, verify_inclusion,
};

use super::source::Source;

/// One look at a log.
pub(super) struct Audit<'a, S> {
    pub(super) source: &'a S,
    pub(super) key: &'a VerifierKey,
    /// What was seen at the last look.
    pub(super) last: Option<VerifiedCheckpoint>,
    /// Every leaf, not only those since the last look.
    pub(super) all: bool,
}

/// A certificate that must be in the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    serial: SerialNumber,
    digest: Option<Sha256>,
}

/// The log is whole.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) note: String,
    pub(super) checkpoint: VerifiedCheckpoint,
    /// Size at the last look.
    pub(super) last: Option<u64>,
    /// Leaves that were verified now.
    pub(super) verified: u64,
    /// Of them, those whose entries the log does not have any more.
    pub(super) pruned: u64,
    pub(super) included: Option<Included>,
}

/// The wanted certificate is this leaf.
#[derive(Debug)]
pub(super) struct Included {
    pub(super) leaf: u64,
    pub(super) entry: Entry,
}

/// What does not hold.
#[derive(Debug, Error)]
pub(super) enum Broken<E> {
    #[error("the log cannot be read")]
    Source(#[source] E),
    #[error("the checkpoint cannot be believed")]
    Checkpoint(#[source] CheckpointError),
    #[error(
        "ROLLBACK: the log had {last} leaves when last seen, and has {size} now; leaves were taken \
         from it, or its database was restored to an older state"
    )]
    Rollback { last: u64, size: u64 },
    #[error(
        "FORK: the log of {size} leaves does not begin with the {last} that were last seen; its \
         past was changed, or others are shown another log"
    )]
    Fork { last: u64, size: u64 },
    #[error("NOT WHOLE: the log's tiles do not make the tree that its checkpoint signs")]
    Tree,
    #[error("NOT WHOLE: {0} is not made of the tiles below it")]
    Tile(TilePath),
    #[error("NOT WHOLE: entry {0} is not what its leaf is the hash of")]
    Entry(u64),
    #[error("NOT WHOLE: {path} is no tile")]
    Malformed { path: TilePath, source: TileError },
    #[error("NOT WHOLE: {path} is no bundle of entries")]
    Bundle {
        path: TilePath,
        source: bundle::BundleError,
    },
    #[error("NOT WHOLE: a tile is missing")]
    Missing(#[source] MissingTile),
    #[error("NOT LOGGED: the certificate {0} is not in the log")]
    Absent(SerialNumber),
    #[error("NOT LOGGED: leaf {leaf} is of another certificate than {serial}")]
    Other { leaf: u64, serial: SerialNumber },
    #[error(
        "the certificate {0} ended so long ago that its entry is gone; the log keeps its hash only"
    )]
    Pruned(SerialNumber),
}

impl Wanted {
    pub(super) fn of_serial(serial: SerialNumber) -> Self {
        Self {
            serial,
            digest: None,
        }
    }

    pub(super) fn of_certificate(der: &[u8]) -> Result<Self, CertificateError> {
        Ok(Self {
            serial: serial_of(der)?,
            digest: Some(Sha256::of(der)),
        })
    }
}

impl<S: Source> Audit<'_, S> {
    pub(super) async fn run(&self, wanted: Option<Wanted>) -> Result<Verdict, Broken<S::Error>> {
        // Asked before the checkpoint is, so that it is one that has the leaf.
        let leaf = match wanted {
            Some(wanted) => Some((wanted, self.leaf_of(wanted).await?)),
            None => None,
        };
        let note = self.source.checkpoint().await.map_err(Broken::Source)?;
        let checkpoint = Checkpoint::open(&note, self.key).map_err(Broken::Checkpoint)?;
        let size = checkpoint.size();
        let mut edge = Edge::default();
        if let Some(last) = &self.last {
            let begun = self.require_grown(last, size).await?;
            if !self.all {
                edge = begun;
            }
        }
        let first = edge.size();
        let pruned = self.follow(&mut edge, size).await?;
        if edge.root() != checkpoint.root() {
            return Err(match &self.last {
                Some(last) if last.size() == size => self.fork(last, size),
                _ => Broken::Tree,
            });
        }
        let included = match leaf {
            Some((wanted, leaf)) => Some(self.included(wanted, leaf, &checkpoint).await?),
            None => None,
        };
        Ok(Verdict {
            note,
            last: self.last.as_ref().map(VerifiedCheckpoint::size),
            verified: size - first,
            pruned,
            included,
            checkpoint,
        })
    }

    /// The edge of the tree last seen, which is the beginning of this one.
    async fn require_grown(
        &self,
        last: &VerifiedCheckpoint,
        size: u64,
    ) -> Result<Edge, Broken<S::Error>> {
        if size < last.size() {
            return Err(Broken::Rollback {
                last: last.size(),
                size,
            });
        }
        let mut tiles = Tiles::default();
        for old in Edge::tiles(last.size()) {
            // A log need not keep a partial tile once there is more of it.
            let path = TilePath::in_tree(old.content(), old.number(), size).unwrap_or(old);
            self.fetch(path, &mut tiles).await?;
        }
        let edge = Edge::load(last.size(), &tiles).map_err(Broken::Missing)?;
        match edge.root() == last.root() {
            true => Ok(edge),
            false => Err(self.fork(last, size)),
        }
    }

    fn fork(&self, last: &VerifiedCheckpoint, size: u64) -> Broken<S::Error> {
        let last = last.size();
        Broken::Fork { last, size }
    }

    /// Appends the leaves up to `size`. Answers of how many the entries are gone.
    async fn follow(&self, edge: &mut Edge, size: u64) -> Result<u64, Broken<S::Error>> {
        let width = u64::from(TILE_WIDTH);
        let mut pruned = 0;
        let mut upper = BTreeMap::new();
        for number in edge.size() / width..size.div_ceil(width) {
            let known = usize::try_from(edge.size() - number * width).unwrap_or_default();
            let Some(path) = TilePath::in_tree(Content::Hashes { level: 0 }, number, size) else {
                break;
            };
            let mut tiles = Tiles::default();
            self.fetch(path, &mut tiles).await?;
            let hashes = tiles.hashes(path).map_err(Broken::Missing)?;
            pruned += self.compare_entries(number, size, hashes, known).await?;
            let grown = edge.append(hashes[known..].iter().copied());
            let grown = grown.tiles.into_iter().filter(|tile| tile.level > 0);
            upper.extend(grown.map(|tile| ((tile.level, tile.number), tile.hashes)));
        }
        for ((level, number), hashes) in upper {
            let content = Content::Hashes { level };
            let Some(path) = TilePath::in_tree(content, number, size) else {
                return Err(Broken::Tree);
            };
            let mut tiles = Tiles::default();
            self.fetch(path, &mut tiles).await?;
            if tiles.hashes(path).map_err(Broken::Missing)? != hashes {
                return Err(Broken::Tile(path));
            }
        }
        Ok(pruned)
    }

    async fn compare_entries(
        &self,
        number: u64,
        size: u64,
        hashes: &[Sha256],
        known: usize,
    ) -> Result<u64, Broken<S::Error>> {
        let Some((path, bytes)) = self.entries(number, size).await? else {
            return Ok((hashes.len() - known) as u64);
        };
        let entries = bundle::split(&bytes, path.width());
        let entries = entries.map_err(|source| Broken::Bundle { path, source })?;
        let differ = entries.iter().zip(hashes).skip(known);
        let mut differ = (known..).zip(differ);
        match differ.find(|(_, (entry, hash))| leaf_hash(entry) != **hash) {
            None => Ok(0),
            Some((place, _)) => {
                let first = number * u64::from(TILE_WIDTH);
                Err(Broken::Entry(first + place as u64))
            }
        }
    }

    async fn leaf_of(&self, wanted: Wanted) -> Result<u64, Broken<S::Error>> {
        let leaf = self.source.leaf_of(wanted.serial).await;
        let leaf = leaf.map_err(Broken::Source)?;
        leaf.ok_or(Broken::Absent(wanted.serial))
    }

    /// The leaf is in the signed tree, and is of the wanted certificate.
    async fn included(
        &self,
        wanted: Wanted,
        leaf: u64,
        checkpoint: &VerifiedCheckpoint,
    ) -> Result<Included, Broken<S::Error>> {
        let (serial, size) = (wanted.serial, checkpoint.size());
        if leaf >= size {
            return Err(Broken::Absent(serial));
        }
        let number = leaf / u64::from(TILE_WIDTH);
        let Some((path, bytes)) = self.entries(number, size).await? else {
            return Err(Broken::Pruned(serial));
        };
        let entries = bundle::split(&bytes, path.width());
        let entries = entries.map_err(|source| Broken::Bundle { path, source })?;
        let place = usize::try_from(leaf % u64::from(TILE_WIDTH)).unwrap_or_default();
        let bytes = entries.get(place).ok_or(Broken::Entry(leaf))?;
        let entry = Entry::decode(bytes).map_err(|_| Broken::Other { leaf, serial })?;
        let same_digest = wanted.digest.is_none_or(|digest| digest == entry.digest);
        if entry.serial != serial.as_bytes() || !same_digest {
            return Err(Broken::Other { leaf, serial });
        }
        let mut tiles = Tiles::default();
        for path in Tiles::for_inclusion(leaf, size) {
            self.fetch(path, &mut tiles).await?;
        }
        let proof = tiles.inclusion(leaf, size).map_err(Broken::Missing)?;
        verify_inclusion(leaf, size, leaf_hash(bytes), &proof, checkpoint.root())
            .map_err(|_| Broken::Entry(leaf))?;
        Ok(Included { leaf, entry })
    }

    async fn entries(
        &self,
        number: u64,
        size: u64,
    ) -> Result<Option<(TilePath, Vec<u8>)>, Broken<S::Error>> {
        let Some(path) = TilePath::in_tree(Content::Entries, number, size) else {
            return Ok(None);
        };
        let bytes = self.source.tile(path).await.map_err(Broken::Source)?;
        Ok(bytes.map(|bytes| (path, bytes)))
    }

    async fn fetch(&self, path: TilePath, tiles: &mut Tiles) -> Result<(), Broken<S::Error>> {
        let bytes = self.source.tile(path).await.map_err(Broken::Source)?;
        let bytes = bytes.ok_or(Broken::Missing(MissingTile(path)))?;
        tiles
            .insert(path, &bytes)
            .map_err(|source| Broken::Malformed { path, source })
    }
}

#[cfg(test)]
#[path = "audit/tests.rs"]
mod tests;
