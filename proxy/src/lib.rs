//! The proxy: carries a connection only between identities that policy permits.
//!
//! Invariant: the road to the application takes a `Permit`, and only a decision of the policy
//! snapshot in force, about a peer whose identity mutual TLS proved, makes one. What the proxy
//! does not know (credentials, policy, a path's meaning) it refuses, and says why.
//!
//! What admits, decides, routes and balances is pure and knows no transport; everything that
//! carries calls over sockets is under `transport`.

mod admit;
mod app;
mod balance;
pub mod config;
mod discovery;
pub mod dns;
mod external;
mod failure;
mod feed;
mod gateway;
mod granted;
mod guard;
mod head;
#[doc(hidden)]
pub mod http1;
#[doc(hidden)]
pub mod judging;
mod live;
mod record;
mod route;
pub mod sandbox;
mod service_port;
mod sightings;
mod sockets;
mod state;
mod status;
mod takeover;
mod telemetry;
#[doc(hidden)]
pub mod trace_context;
mod traffic;
mod transparent;
mod transport;
mod trust;
mod worker;

pub use app::{FeedSource, Proxy, StartError};
pub use config::Config;
pub use failure::Reason;
pub use record::{CallRecord, Direction, NetworkProtocol, TraceLink, Verdict};
pub use service_port::ServicePort;
pub use sockets::BindError;
pub use status::{BypassablePort, GatewayPort, ProxyStatus, Reachable};
pub use takeover::{Refusal, TakeoverError};
pub use transparent::{RedirectRecord, RedirectedPorts};
