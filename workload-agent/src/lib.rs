//! The agent: proves where it runs, and keeps each local workload and proxy holding live
//! credentials and current configuration.
//!
//! Invariant: an identity is handed only to the process that the registry's selectors describe,
//! and never after it has expired. Keys are made here and never leave the host.

mod agent;
mod attestor;
mod ca;
mod cache;
mod caller;
pub mod cgroup;
pub mod config;
mod contact;
mod deliveries;
mod feed;
mod holdings;
mod join;
mod keeper;
mod metrics;
mod peer_stream;
mod recovery;
mod renewal;
mod session;
mod socket;
pub mod status;
mod view;
mod workload_api;

pub use agent::{Agent, StartError};
pub use cache::CacheError;
pub use config::Config;
pub use socket::SocketError;
pub use status::AgentStatus;
