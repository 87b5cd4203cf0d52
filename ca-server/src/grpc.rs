//! The agents' listener, `:8444`: TLS 1.3, HTTP/2, gRPC.
//!
//! Invariant: which services a connection has follows from who is at its other end, decided once
//! after the handshake. `Attestation` is for anyone; `Issuance` and `ConfigurationWatch` exist only
//! where the peer showed a live SVID of an agent of this trust domain. A workload's SVID opens
//! nothing.

mod connection;
mod listener;
mod routes;
mod seen;
mod silence;

pub(crate) use listener::AgentListener;
pub(crate) use routes::Desks;
pub(crate) use seen::SeenSerials;
