//! Why an attestation was refused: a stable code, the cause, the next step, and the gRPC status.

use std::time::Duration;

use identity::jwt::JwtError;
use identity::x509::{Denied, HostError, SvidError};
use policy::resource::SelectorName;
use tonic::{Code, Status};

use super::host::HostNameRefused;
use super::issuer_keys::IssuerKeysError;
use crate::config::ClaimRefused;
use crate::issue::IssueError;
use crate::registry::Behind;
use crate::status;
use crate::store::{RedeemError, StoreError};

/// When the keys of an issuer may be asked for again.
const KEYS_AGAIN: Duration = Duration::from_secs(10);

/// When a store that is behind may have been judged.
const JUDGED_AGAIN: Duration = Duration::from_secs(30);

/// Typed; the wire form is [`Refusal::into_status`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{field}: {rule}")]
    Malformed { field: &'static str, rule: String },
    #[error(
        "protocol {}.{} does not interoperate with this CA's {}.{}; upgrade the older of the two",
        theirs.0, theirs.1, ours.0, ours.1
    )]
    Version {
        theirs: (u32, u32),
        ours: (u32, u32),
    },
    #[error("the signature does not prove possession of the key on this connection")]
    Possession,
    #[error("{0}; create another with: countersign join-token create")]
    Token(#[source] RedeemError),
    #[error("the SVID does not admit to reattestation: {0}; join with a new token")]
    Svid(#[source] SvidError),
    #[error("{0} is not an agent of this trust domain; join with a token")]
    NotAnAgent(String),
    #[error("this agent has been forgotten; join with a new token")]
    Forgotten,
    #[error("this agent is banned; an administrator can say why, and lift the ban")]
    Banned,
    #[error("this SVID is revoked, by {0}; join with a new token")]
    Revoked(Denied),
    #[error("there is no record that this SVID was issued here; join with a new token")]
    NotRecorded,
    #[error(
        "a newer SVID of this agent has been seen: this one is a copy; join with a new token \
         and find out who holds the other"
    )]
    NewerSerialSeen,
    #[error("agents of attestor {0} do not come back with an expired SVID; attest afresh")]
    FreshProofNeeded(String),
    #[error("attestor {0} is not configured here; see [attest] in the CA's configuration")]
    NotConfigured(&'static str),
    #[error("{0}")]
    Host(#[source] HostError),
    #[error("{0}")]
    HostName(#[source] HostNameRefused),
    #[error("the host's certificate names {0}, an identity of this mesh: workloads are no hosts")]
    HostOfMesh(String),
    #[error("the token's `iss` is none of those in [[attest.jwt]] of the CA's configuration")]
    UnknownIssuer,
    #[error("{0}")]
    Jwt(#[source] JwtError),
    #[error("{0}")]
    Claims(#[source] ClaimRefused),
    #[error("selector {0}: {1}")]
    Selector(SelectorName, #[source] ClaimRefused),
    #[error("the token was already used by another key; attest with a new one")]
    TokenOfAnotherKey,
    #[error("the keys of the token's issuer are not to be had; retry later")]
    IssuerKeys(#[source] IssuerKeysError),
    #[error("too many attestations; retry later")]
    Busy(Duration),
    #[error(
        "the store holds revision {}, but {} was seen: no agent is admitted until an administrator \
         has judged that; see: countersign store show", .0.head, .0.seen
    )]
    Behind(Box<Behind>),
    #[error("the store is unavailable; retry later")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Issue(#[from] IssueError),
}

impl Refusal {
    /// Stable.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed",
            Self::Version { .. } => "protocol-version",
            Self::Possession => "possession-not-proven",
            Self::Token(error) => error.code(),
            Self::Svid(_) => "svid-not-admitted",
            Self::NotAnAgent(_) => "not-an-agent",
            Self::Forgotten => "agent-forgotten",
            Self::Banned => "agent-banned",
            Self::Revoked(_) => "svid-revoked",
            Self::NotRecorded => "svid-not-recorded",
            Self::NewerSerialSeen => "newer-serial-seen",
            Self::FreshProofNeeded(_) => "fresh-proof-needed",
            Self::NotConfigured(_) => "attestor-not-configured",
            Self::Host(_) => "host-certificate-refused",
            Self::HostName(_) => "host-name-refused",
            Self::HostOfMesh(_) => "host-certificate-of-mesh",
            Self::UnknownIssuer => "unknown-issuer",
            Self::Jwt(_) => "token-refused",
            Self::Claims(_) | Self::Selector(..) => "claims-refused",
            Self::TokenOfAnotherKey => "already-used",
            Self::IssuerKeys(_) => "issuer-keys-unavailable",
            Self::Busy(_) => "attestation-limit",
            Self::Behind(_) => "store-behind",
            Self::Store(_) => "store-unavailable",
            Self::Issue(error) => error.code(),
        }
    }

    pub(crate) fn into_status(self) -> Status {
        let code = match &self {
            Self::Malformed { .. } => Code::InvalidArgument,
            Self::Version { .. } => Code::FailedPrecondition,
            Self::Token(RedeemError::Store(_)) | Self::Store(_) => Code::Unavailable,
            Self::Busy(after) => {
                return status::unavailable(self.code(), &self.to_string(), *after);
            }
            Self::IssuerKeys(_) => {
                return status::unavailable(self.code(), &self.to_string(), KEYS_AGAIN);
            }
            Self::Behind(_) => {
                return status::unavailable(self.code(), &self.to_string(), JUDGED_AGAIN);
            }
            Self::Issue(error) => return error.to_status(),
            _ => Code::PermissionDenied,
        };
        status::refused(code, self.code(), &self.to_string())
    }
}

impl From<RedeemError> for Refusal {
    fn from(error: RedeemError) -> Self {
        match error {
            RedeemError::Store(error) => Self::Store(error),
            other => Self::Token(other),
        }
    }
}
