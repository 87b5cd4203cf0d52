//! Claims about the proxy, over real sockets: an in-test agent feeds it real credentials and
//! policy, and real programs stand before and behind it.

#![expect(
    clippy::unwrap_used,
    reason = "what sets a test up is part of the test: it fails where it stands"
)]

mod application;
mod feed;
mod guards;
mod http1_by_codec;
mod http1_by_hyper;
mod http1_differential;
mod hygiene;
mod identities;
mod live;
mod mesh;
mod policies;
mod tcp;
mod tunnels;
mod upgrades;
mod wire;
