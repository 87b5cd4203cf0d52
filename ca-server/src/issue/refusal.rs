//! Why an SVID was not issued: for one request of a batch, or for the call as a whole.

use std::time::Duration;

use crypto::signing::CsrError;
use identity::{DnsNameError, SpiffeIdError, ValidityError, x509};
use proto::agent::v1 as wire;
use tonic::{Code, Status};

use crate::clock_check::ClockOff;
use crate::status;
use crate::store::StoreError;

const RETRY_AFTER: Duration = Duration::from_millis(200);
/// Somebody must set a clock, or another replica be asked.
const RETRY_ELSEWHERE: Duration = Duration::from_secs(5);

/// One request of a batch; the others go on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAuthorized {
    #[error("spiffe_id: {0}")]
    Id(#[from] SpiffeIdError),
    /// Also when there is no such entry: an agent learns of nothing but its own.
    #[error(
        "no registered workload with this identity names this agent; an administrator can add the \
         agent to the entry's `agents`"
    )]
    NotThisAgents,
    #[error(
        "this identity is revoked; `countersign revocation list` says why, and an administrator can lift it"
    )]
    Revoked,
    #[error("the entry's dnsNames: {0}; an administrator must correct it")]
    DnsName(#[from] DnsNameError),
    #[error("csr: {0}")]
    Csr(#[from] CsrError),
}

impl NotAuthorized {
    /// Stable.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Id(_) => "invalid-spiffe-id",
            Self::NotThisAgents => "not-this-agents-identity",
            Self::Revoked => "identity-revoked",
            Self::DnsName(_) => "invalid-dns-name",
            Self::Csr(_) => "csr-refused",
        }
    }
}

impl From<NotAuthorized> for wire::Refusal {
    fn from(error: NotAuthorized) -> Self {
        Self {
            code: error.code().to_owned(),
            message: error.to_string(),
        }
    }
}

/// The call as a whole; nothing of it was issued.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    #[error("this agent has been forgotten; join with a new token")]
    Forgotten,
    #[error("this agent is banned; an administrator can say why, and lift the ban")]
    Banned,
    #[error("the agent's SVID expired; renew it, or reattest")]
    Expired,
    #[error("{0} requests, at most {max} are taken at once", max = super::service::LARGEST_BATCH)]
    TooMany(usize),
    #[error("this agent asks for more SVIDs than [limits] issue_per_agent_per_second; retry later")]
    Limited(Duration),
    #[error("all agents together ask for more SVIDs than [limits] issue_per_second; retry later")]
    AllLimited(Duration),
    #[error("too many SVIDs wait for their records; retry later")]
    Overloaded,
    #[error("nothing is issued that is not recorded, and the store is unavailable; retry later")]
    Unrecorded,
    #[error("the store is away, and this replica does not know this agent; retry elsewhere")]
    Unknown,
    #[error("the store is unavailable; retry later")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Clock(#[from] ClockOff),
    #[error("this replica's intermediate ends too soon; its renewal has failed: {0}")]
    Ending(#[from] ValidityError),
    #[error("this replica's intermediate is revoked, and about to be replaced; retry later")]
    AuthorityRevoked,
    #[error("the certificate could not be made")]
    Certificate(#[from] x509::IssueError),
}

impl IssueError {
    /// Stable.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Forgotten => "agent-forgotten",
            Self::Banned => "agent-banned",
            Self::Expired => "svid-expired",
            Self::TooMany(_) => "batch-too-large",
            Self::Limited(_) => "issue-limit",
            Self::AllLimited(_) => "issue-limit-of-all",
            Self::Overloaded => "overloaded",
            Self::Unrecorded | Self::Unknown | Self::Store(_) => "store-unavailable",
            Self::Clock(_) => "clock-off",
            Self::Ending(_) => "intermediate-ending",
            Self::AuthorityRevoked => "authority-revoked",
            Self::Certificate(_) => "internal",
        }
    }

    pub(crate) fn to_status(&self) -> Status {
        let text = self.to_string();
        match self {
            Self::Forgotten | Self::Banned => {
                status::refused(Code::PermissionDenied, self.code(), &text)
            }
            Self::Expired => status::refused(Code::Unauthenticated, self.code(), &text),
            Self::TooMany(_) => status::refused(Code::InvalidArgument, self.code(), &text),
            Self::Limited(after) | Self::AllLimited(after) => {
                status::unavailable(self.code(), &text, *after)
            }
            // Others carry as much already; a fleet that is sent on would only move the load.
            Self::Overloaded => status::unavailable(self.code(), &text, RETRY_AFTER),
            Self::Unrecorded
            | Self::Unknown
            | Self::Store(_)
            | Self::Ending(_)
            | Self::AuthorityRevoked => status::elsewhere(self.code(), &text, RETRY_AFTER),
            Self::Clock(_) => status::elsewhere(self.code(), &text, RETRY_ELSEWHERE),
            Self::Certificate(_) => status::refused(Code::Internal, self.code(), &text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn leads_elsewhere(refusal: &IssueError) -> bool {
        let status = refusal.to_status();
        assert_eq!(status.code(), Code::Unavailable);
        status.metadata().get("countersign-retry").is_some()
    }

    #[test]
    fn an_agent_is_sent_on_where_the_replica_is_to_blame_and_not_where_load_is() {
        assert!(!leads_elsewhere(&IssueError::Overloaded));
        assert!(!leads_elsewhere(&IssueError::Limited(RETRY_AFTER)));
        assert!(leads_elsewhere(&IssueError::Unrecorded));
        assert!(leads_elsewhere(&IssueError::AuthorityRevoked));
    }
}
