//! Mutual TLS between SPIFFE identities: live credentials, a verifier by SPIFFE ID, and streams
//! that carry evidence of who the peer is.
//!
//! Invariants: TLS 1.3 only towards the mesh; every handshake is a full one, checked against the
//! bundles of its generation (no tickets, no resumption, no early data); nothing is published
//! unverified, our own certificate included; a [`PeerIdentity`] is made by verification alone.
//!
//! [`web`] is for those outside the mesh, who prove a host name or nothing at all.
//!
//! With `crypto` this is the only importer of rustls: callers see the types below. Who may talk
//! to whom is not decided here, only who is who.

mod cache;
mod clock;
mod config;
mod credentials;
mod denial;
mod error;
mod expected;
mod peer;
pub mod pinned;
mod read_ahead;
mod stream;
mod verifier;
pub mod web;

#[cfg(test)]
mod testing;

pub use config::{ClientTlsConfig, ServerTlsConfig};
pub use credentials::{
    Credentials, Current, Generation, NotReady, PublishError, Publisher, PublisherGone, channel,
};
pub use error::{HandshakeError, PeerAlert, Refusal};
pub use expected::Expected;
pub use peer::PeerIdentity;
pub use pinned::PinnedRoots;
pub use stream::{ClientTls, ServerTls, WebTls, accept, connect};
