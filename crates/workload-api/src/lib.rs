//! A client of the SPIFFE Workload API (SPIFFE_Workload_API.md), for any program and any server
//! that speaks it: X.509-SVIDs and X.509 bundles, kept current.
//!
//! Invariant: what a source publishes is one whole, verified message of the server, never a mix of
//! two (requirements 128, 132). It refuses, with a typed error, a message with anything missing or
//! unverifiable, and stops where the standard says that retrying is wrong.
//!
//! Only P-256 keys are read. Revocation lists are handed on, not applied.

mod bundles;
mod client;
mod endpoint;
mod error;
mod source;
mod x509;

pub use bundles::{BundleSource, X509Bundles};
pub use endpoint::{ENDPOINT_VARIABLE, Endpoint, EndpointError};
pub use error::{ResponseError, SourceError};
pub use source::{Source, Status};
pub use x509::{Identity, X509Context, X509Source};

#[cfg(test)]
mod tests;
