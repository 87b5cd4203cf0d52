//! The way to the CA: addresses tried in turn, one HTTP/2 connection over mutual TLS.
//!
//! Invariant: the server on every connection has proven to be a CA replica of this trust domain;
//! before joining by a pinned root, afterwards by the bundle.

mod addresses;
mod connection;

pub(crate) use addresses::Addresses;
pub(crate) use connection::{CaChannel, ConnectError, Connection, Dial, Heard, Trust};
