//! What the agent tells the proxy, and what the proxy says back.
//!
//! Invariant: nothing from the feed is used before it was checked. Credentials are verified
//! before they are published; a configuration that cannot be read becomes one that denies. The
//! last good snapshot is kept only while the feed is lost.

pub(crate) mod announcements;
pub(crate) mod assembly;
pub(crate) mod client;
pub(crate) mod connect;
pub(crate) mod credentials;
pub(crate) mod session;
