//! An append-only log that anyone can check: Merkle tree (RFC 9162 §2), served as tiles
//! (c2sp.org/tlog-tiles), its state signed as a checkpoint (c2sp.org/tlog-checkpoint).
//!
//! Invariant: pure. No IO, no clock; what is needed from elsewhere is named ([`TilePath`]) and
//! handed in. What was received is of another type than what was verified: only
//! [`Checkpoint::open`] and [`VerifierKey`] make a [`VerifiedCheckpoint`].
//!
//! What the log is of is the concern of [`entry`] alone; the rest holds for every log.

pub mod bundle;
mod checkpoint;
mod edge;
pub mod entry;
mod note;
mod proof;
mod tile;
mod tiles;
mod tree;

pub use checkpoint::{Checkpoint, CheckpointError, VerifiedCheckpoint};
pub use edge::{Edge, Grown, GrownTile};
pub use note::{KeyError, NoteError, NoteSigner, UnverifiedNote, VerifierKey};
pub use proof::{
    ProofError, consistency_ranges, inclusion_ranges, verify_consistency, verify_inclusion,
};
pub use tile::{Content, TILE_WIDTH, TilePath, TilePathError};
pub use tiles::{MissingTile, TileError, Tiles};
pub use tree::{empty_root, leaf_hash, node_hash};
