//! Who a workload is: SPIFFE IDs, names, lifetimes, join tokens, X.509-SVIDs, trust
//! bundles and their recovery.
//!
//! Invariant: a value of these types obeys every rule of its specification, since parsing or
//! checking is the only way to get one. The crate does no IO, reads no clock (each function that
//! needs the time takes `now`) and speaks no TLS.

mod agent_id;
mod dns_name;
pub mod join_token;
pub mod jwt;
mod name;
pub mod recovery;
mod renewal;
mod serde_text;
mod serial;
mod spiffe_id;
mod template;
mod trust_domain;
mod validity;
pub mod x509;

pub use agent_id::{AgentId, AgentIdError, ca_id, is_ca_id};
pub use dns_name::{DnsName, DnsNameError};
pub use join_token::{JoinToken, JoinTokenError};
pub use name::{Name, NameError, Namespace, QualifiedName, QualifiedNameError};
pub use renewal::renewal_time;
pub use serial::{SerialNumber, SerialNumberError};
pub use spiffe_id::{SpiffeId, SpiffeIdError};
pub use template::{IdTemplate, IdTemplateError};
pub use trust_domain::{TrustDomain, TrustDomainError};
pub use validity::{Validity, ValidityError};
