//! Why there is no root, whatever is to be done with one.

use crypto::sealing::OpenError;
use crypto::signing::{KeyError, UnknownKind};
use identity::{ValidityError, x509};

use crate::authority::kek::KekError;
use crate::authority::upstream::UpstreamError;
use crate::pkcs11::TokenError;
use crate::store::StoreError;

/// Why there is no root to sign with.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    #[error(transparent)]
    Kek(#[from] KekError),
    #[error("the sealed root could not be read from the store")]
    Store(#[from] StoreError),
    #[error("the state of the roots in the store is not one that this version knows")]
    State(#[source] serde_json::Error),
    #[error("the store holds no root yet; start the CA first")]
    Absent,
    #[error("the sealed keys changed meanwhile, and nothing was done; try again")]
    Moved,
    #[error("the sealed root did not open: the store was changed by hand, or is damaged")]
    Sealed(#[source] OpenError),
    #[error("the sealed root holds no usable key")]
    Key(#[source] KeyError),
    #[error("the root's certificate cannot be used")]
    Certificate(#[from] x509::CertificateError),
    #[error("the root cannot be used")]
    Authority(#[from] x509::AuthorityError),
    #[error("the root makes no bundle")]
    Bundle(#[from] x509::BundleError),
    #[error("the intermediate was not signed")]
    Issue(#[from] x509::IssueError),
    #[error("the key of the root is in a token, but `[keys.pkcs11]` names none")]
    NoToken,
    #[error("the token that holds a key did not do its part")]
    Token(#[from] TokenError),
    #[error("the certificate of the root is for a key of a kind that no token here has")]
    Kind(#[from] UnknownKind),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("the active root is an upstream's, but there is no [upstream]")]
    NoUpstream,
    #[error(
        "the upstream's files lead to another root than the active one; it signs as soon as that \
         root is active"
    )]
    OtherRoot,
    #[error(
        "the upstream has no other root than those that are trusted already: its files must be \
         replaced first, or its root rotated"
    )]
    SameRoot,
    #[error("what stands above this mesh allows no other instance below it")]
    NoRoom(#[source] x509::IssuingChainError),
    #[error("the root ends too soon to sign an intermediate")]
    Validity(#[from] ValidityError),
    #[error("the sealed key of the transparency log is not one that this version knows")]
    Log,
}
