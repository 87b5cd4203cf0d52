//! Connections that the kernel redirected here: where they were going, and what that means.
//!
//! Invariant: what a connection is for follows from the address and port that the kernel says it
//! was made to, never from what the caller sends. One that was not redirected is refused, and so
//! is an address that stands for no Service.

mod addresses;
mod intent;
mod original;
mod record;

pub(crate) use addresses::AddressTable;
pub(crate) use intent::Intent;
pub(crate) use original::original_destination;
pub(crate) use record::InboundRedirect;
pub use record::{RedirectRecord, RedirectedPorts};
