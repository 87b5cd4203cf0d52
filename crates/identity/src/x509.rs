//! X.509-SVIDs (X509-SVID.md): issuing them, the bundles that judge them, and the judgement.
//!
//! Invariant: [`VerifiedSvid`] and [`X509Svid`] exist only for a chain that was verified against
//! the bundle of its own trust domain and obeys every rule for leaves; [`ExpiredSvid`] is another
//! type, so that no road leads from an expired certificate to an authorization.

mod authority;
mod bundle;
mod certificate;
mod chain;
mod crl;
mod denied;
#[cfg(test)]
mod fixture;
mod host;
mod issuing_chain;
mod jwks;
mod leaf;
mod path;
mod root;
mod svid;

pub use authority::{
    Authority, AuthorityError, IssueError, IssuedLeaf, LeafSpec, authority_request,
};
pub use bundle::{Bundle, BundleError, BundleSet};
pub use certificate::{CertificateError, key_id_of, serial_of, validity_of};
pub use chain::{ChainError, ExpiredSvid, SvidError, UnverifiedChain, UnvouchedSvid, VerifiedSvid};
pub use crl::{CrlSpec, RevokedCertificate};
pub use denied::{Denied, DenyList, DenyListError, MOST_DENIED};
pub use host::{HostError, HostRoots, HostRootsError, KeyPurpose, VerifiedHost};
pub use issuing_chain::{IssuingChain, IssuingChainError, UnverifiedIssuingChain};
pub use jwks::{BundleDocument, JwksError};
pub use root::RootCertificate;
pub use svid::{KeyMismatch, X509Svid};
