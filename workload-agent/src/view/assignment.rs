//! An identity that the CA lets this agent hold, and the processes that are its workload.
//!
//! Refused: reserved identities, those of another trust domain, selectors that do not parse.

use std::path::PathBuf;
use std::time::Duration;

use crypto::digest::Sha256;
use identity::{QualifiedName, SpiffeId, TrustDomain};
use proto::agent::v1 as wire;

/// Longest hint that is passed on (SPIFFE Workload API §8).
const LONGEST_HINT: usize = 1024;

/// One assigned identity.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Assignment {
    pub(crate) workload: QualifiedName,
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) selectors: UnixSelectors,
    pub(crate) ttl: Duration,
    pub(crate) hint: Option<String>,
}

/// Which processes are the workload. Without a uid, none is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct UnixSelectors {
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) path: Option<PathBuf>,
    pub(crate) sha256: Option<Sha256>,
}

/// Why an assigned identity is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AssignmentError {
    #[error("`{0}` is not a workload's name")]
    Name(String, #[source] identity::QualifiedNameError),
    #[error("`{0}` is not a SPIFFE ID")]
    SpiffeId(String, #[source] identity::SpiffeIdError),
    #[error("{0} is reserved, or of another trust domain")]
    NotAWorkload(SpiffeId),
    #[error("the executable's digest for {0} is not a SHA-256 in hexadecimal")]
    Digest(SpiffeId),
    #[error("the executable's path for {0} is not absolute")]
    RelativePath(SpiffeId),
}

impl Assignment {
    pub(crate) fn from_wire(
        trust_domain: &TrustDomain,
        entry: wire::AssignedIdentity,
    ) -> Result<Self, AssignmentError> {
        let name = format!("{}/{}", entry.namespace, entry.name);
        let workload = name
            .parse()
            .map_err(|source| AssignmentError::Name(name, source))?;
        let spiffe_id: SpiffeId = entry
            .spiffe_id
            .parse()
            .map_err(|source| AssignmentError::SpiffeId(entry.spiffe_id.clone(), source))?;
        if spiffe_id.is_reserved() || spiffe_id.trust_domain() != trust_domain {
            return Err(AssignmentError::NotAWorkload(spiffe_id));
        }
        Ok(Self {
            workload,
            selectors: UnixSelectors::from_wire(&spiffe_id, entry.unix.unwrap_or_default())?,
            ttl: Duration::from_secs(entry.ttl_seconds),
            hint: Some(entry.hint).filter(|hint| !hint.is_empty() && hint.len() <= LONGEST_HINT),
            spiffe_id,
        })
    }

    pub(crate) fn to_wire(&self) -> wire::AssignedIdentity {
        wire::AssignedIdentity {
            namespace: self.workload.namespace.to_string(),
            name: self.workload.name.to_string(),
            spiffe_id: self.spiffe_id.to_string(),
            unix: Some(self.selectors.to_wire()),
            ttl_seconds: self.ttl.as_secs(),
            hint: self.hint.clone().unwrap_or_default(),
        }
    }
}

impl UnixSelectors {
    fn from_wire(id: &SpiffeId, unix: wire::UnixSelectors) -> Result<Self, AssignmentError> {
        let path = Some(unix.path)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from);
        if path.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err(AssignmentError::RelativePath(id.clone()));
        }
        let sha256 = Some(unix.sha256)
            .filter(|digest| !digest.is_empty())
            .map(|digest| digest.parse())
            .transpose()
            .map_err(|_| AssignmentError::Digest(id.clone()))?;
        Ok(Self {
            uid: unix.uid,
            gid: unix.gid,
            path,
            sha256,
        })
    }

    fn to_wire(&self) -> wire::UnixSelectors {
        wire::UnixSelectors {
            uid: self.uid,
            gid: self.gid,
            path: self
                .path
                .as_ref()
                .map(|path| path.to_string_lossy().into_owned())
                .unwrap_or_default(),
            sha256: self
                .sha256
                .map(|digest| digest.to_string())
                .unwrap_or_default(),
        }
    }
}
