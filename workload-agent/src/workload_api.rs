//! The SPIFFE Workload API on its Unix socket, X.509 profile (SPIFFE_Workload_API.md §5).
//!
//! Invariants: no request without `workload.spiffe.io: true` is looked at; each message is a full
//! state, made for a caller attested just before; no reserved identity is ever served. The JWT
//! profile is refused as unimplemented.

mod limiter;
mod listener;
mod response;
mod service;

pub(crate) use limiter::{CallerLimits, ConnectionPlace};
pub(crate) use listener::serve;
pub(crate) use service::WorkloadDesk;
