//! Why a source has nothing new, and why a message was refused.

use identity::x509::{BundleError, ChainError, KeyMismatch, SvidError};
use identity::{SpiffeId, SpiffeIdError};
use thiserror::Error;
use tonic::Code;

/// What went wrong last. A source goes on after all but the final ones.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SourceError {
    #[error("the Workload API answered {code:?}: {message}")]
    Refused { code: Code, message: String },
    #[error("the Workload API ended the stream")]
    StreamEnded,
    #[error("the Workload API sent a message that is refused: {0}")]
    Response(#[from] ResponseError),
    #[error("the source has stopped")]
    Stopped,
}

impl SourceError {
    /// True where the standard says not to try again: the request itself is wrong (requirement
    /// 118), or the server does not offer it (requirement 121).
    pub fn is_final(&self) -> bool {
        match self {
            Self::Refused { code, .. } => {
                matches!(code, Code::InvalidArgument | Code::Unimplemented)
            }
            Self::StreamEnded | Self::Response(_) => false,
            Self::Stopped => true,
        }
    }

    /// True where the server says that the caller has no identity, or no longer (requirements 120,
    /// 142, 145).
    pub(crate) fn is_redaction(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                code: Code::PermissionDenied,
                ..
            }
        )
    }
}

impl From<tonic::Status> for SourceError {
    fn from(status: tonic::Status) -> Self {
        Self::Refused {
            code: status.code(),
            message: status.message().to_owned(),
        }
    }
}

/// Why a whole message was refused. Indexes count the SVIDs from 0.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ResponseError {
    #[error("it holds no SVID")]
    NoSvids,
    #[error("it holds no bundle")]
    NoBundles,
    #[error("the mandatory field `{field}` of SVID {index} is empty")]
    EmptyField { index: usize, field: &'static str },
    #[error("the hint of SVID {index} has {bytes} bytes, at most 1024 are supported")]
    HintTooLong { index: usize, bytes: usize },
    #[error("`spiffe_id` of SVID {index} is no SPIFFE ID: {reason}")]
    SpiffeId { index: usize, reason: SpiffeIdError },
    #[error("SVID {index} is said to be of {claimed}, and is of {found}")]
    OtherSpiffeId {
        index: usize,
        claimed: SpiffeId,
        found: SpiffeId,
    },
    #[error("`x509_svid` of SVID {index} is no chain of certificates: {reason}")]
    Chain { index: usize, reason: ChainError },
    #[error("SVID {index} is not valid: {reason}")]
    Svid { index: usize, reason: SvidError },
    #[error("`x509_svid_key` of SVID {index} is no PKCS#8 P-256 key")]
    Key { index: usize },
    #[error("SVID {index}: {reason}")]
    KeyMismatch { index: usize, reason: KeyMismatch },
    #[error("the bundle of {name} is refused: {reason}")]
    Bundle { name: String, reason: BundleError },
    #[error("the key of a bundle is no trust domain `spiffe://name`: {key:?}")]
    BundleKey { key: String },
    #[error("two bundles of trust domain {name} differ")]
    ConflictingBundles { name: String },
}
