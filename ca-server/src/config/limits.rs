//! `[limits]`: what bounds the work that strangers and agents can cause. Above a limit a caller gets
//! `UNAVAILABLE` and a retry hint, or, for connections, is not accepted yet.

use std::num::NonZeroU32;

use serde::Deserialize;

/// Bounds of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at once on the agents' listener.
    pub agent_connections: NonZeroU32,
    /// Connections at once on the web listener.
    pub web_connections: NonZeroU32,
    /// TLS handshakes at once on each listener.
    pub handshakes: NonZeroU32,
    /// `Attest` and `Reattest` together, from one address.
    pub attest_per_address_per_second: NonZeroU32,
    /// `Attest` and `Reattest` together, from all addresses.
    pub attest_per_second: NonZeroU32,
    /// Proofs of one agent that were good.
    pub attest_per_agent_per_second: NonZeroU32,
    /// SVIDs for one agent; twice as many at once.
    pub issue_per_agent_per_second: NonZeroU32,
    /// SVIDs for all agents together; twice as many at once.
    pub issue_per_second: NonZeroU32,
    /// SVIDs that wait for their record to be written; above it the CA is overloaded.
    pub record_queue: NonZeroU32,
    /// Services that one agent may ask for.
    pub subscriptions: NonZeroU32,
    /// Announcements of one agent.
    pub announcements: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            agent_connections: at_least_one(20_000),
            web_connections: at_least_one(256),
            handshakes: at_least_one(256),
            attest_per_address_per_second: at_least_one(20),
            attest_per_second: at_least_one(200),
            attest_per_agent_per_second: at_least_one(10),
            issue_per_agent_per_second: at_least_one(5_000),
            issue_per_second: at_least_one(100_000),
            record_queue: at_least_one(8_192),
            subscriptions: at_least_one(4_096),
            announcements: at_least_one(4_096),
        }
    }
}

const fn at_least_one(value: u32) -> NonZeroU32 {
    match NonZeroU32::new(value) {
        Some(value) => value,
        None => NonZeroU32::MIN,
    }
}
