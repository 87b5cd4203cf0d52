//! Signs SVIDs, and remembers that it did: `Attested` or a live agent's request → `Authorized` →
//! signed → recorded → `Issued`.
//!
//! Invariant: nothing is signed that was not authorized, an authorization signs once, and no
//! certificate leaves the process before its record is durable. From a CSR come the key and the
//! proof of possession, and nothing else.

mod admitted;
mod assignments;
mod authorize;
mod record;
mod refusal;
mod service;
mod serving;
mod sign;

pub(crate) use admitted::{AdmittedAgents, SelectorWatch, Standing};
pub(crate) use assignments::{Assignments, CustomIdentities, Directory};
pub(crate) use authorize::Authorized;
pub(crate) use record::Recorder;
pub(crate) use refusal::IssueError;
pub(crate) use service::{IssueCalls, IssueDesk};
pub use serving::ServingError;
pub(crate) use serving::ServingRenewal;
pub(crate) use sign::{Issued, Issuer};
