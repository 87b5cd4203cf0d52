//! The watch stream between this replica and each agent: what concerns the agent goes out, as a
//! snapshot and then as deltas; acknowledgements, announcements and reports come back.
//!
//! Invariant: an agent is told of its own workloads, of the Services which they serve with the
//! policy for them, of Services that they asked for or that Routes carry their calls to, and of
//! their own ways in and out; nothing else. At rest nothing is sent, and
//! nothing is asked of the store.

mod announcements;
mod bundles;
mod decode;
mod endpoints;
mod enforcement;
mod hold_ups;
mod presence;
mod service;
mod session;
mod sharing;
mod view;

pub(crate) use bundles::BundleKeeper;
pub(crate) use endpoints::{EndpointBoard, EndpointKeeper};
pub(crate) use enforcement::EnforcementKeeper;
pub(crate) use hold_ups::HoldUps;
pub use presence::{
    AttachedProxy, Bypassable, ConnectedAgent, Enforcement, Introduction, Presence, ProxyReport,
};
pub(crate) use service::{WatchCalls, WatchDesk};
pub(crate) use sharing::{AnnouncementSharing, Hint, Hints};
