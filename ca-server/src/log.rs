//! The transparency log: everything signed by this mesh's authorities becomes a leaf of one
//! append-only tree, whose state is signed (c2sp.org/tlog-tiles, c2sp.org/tlog-checkpoint).
//!
//! Invariant: issuance does not wait for the log. What is recorded becomes a leaf within
//! [`MERGE_DELAY`]; one replica at a time sees to it, and were there two, the store lets one step
//! through.

mod growth;
mod sequencer;
mod witness;

use std::time::Duration;

pub(crate) use sequencer::Sequencer;
pub(crate) use witness::{Sightings, Witness};

/// A record is a leaf after so long, while any replica and the store live.
pub(crate) const MERGE_DELAY: Duration = Duration::from_secs(10);
