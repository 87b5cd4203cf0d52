//! The mesh feed: credentials, configuration and endpoints for proxies; what they applied, want
//! and announce comes back.
//!
//! Invariants: only a program that the local configuration maps to a workload gets that workload's
//! feed; being the workload is not enough. An in-process proxy is known by its connection.

mod peer;
mod roster;
mod service;
mod sightings;
mod subscription;

pub(crate) use peer::ProxyMap;
pub(crate) use roster::{Attendance, Attendant, Publication, Roster};
pub(crate) use service::{FeedDesk, FeedListener, FeedParts, InProcess};
