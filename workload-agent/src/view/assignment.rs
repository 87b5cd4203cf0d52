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
    pub(crate) selectors: Selectors,
    pub(crate) ttl: Duration,
    pub(crate) hint: Option<String>,
}

/// Which processes are the workload: those of which all that is present holds. Without anything, none.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Selectors {
    pub(crate) unix: Option<UnixSelectors>,
    /// A unit of the system's service manager.
    pub(crate) unit: Option<String>,
    pub(crate) container: Option<ContainerSelector>,
}

/// Which containers; without anything, none.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct ContainerSelector {
    pub(crate) id: Option<String>,
    pub(crate) pod: Option<String>,
}

/// Which users and programs. Without a uid, none.
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
    #[error("{0} is recognised by `{1}`, which this agent does not know, or which is empty")]
    Selector(SpiffeId, String),
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
            selectors: match entry.selectors {
                Some(selectors) => Selectors::from_wire(&spiffe_id, selectors)?,
                None => Selectors::of_unix(&spiffe_id, entry.unix)?,
            },
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
            unix: self.selectors.only_unix().map(UnixSelectors::to_wire),
            selectors: match self.selectors.only_unix() {
                Some(_) => None,
                None => Some(self.selectors.to_wire()),
            },
            ttl_seconds: self.ttl.as_secs(),
            hint: self.hint.clone().unwrap_or_default(),
        }
    }
}

impl Selectors {
    fn of_unix(id: &SpiffeId, unix: Option<wire::UnixSelectors>) -> Result<Self, AssignmentError> {
        let unix = UnixSelectors::from_wire(id, unix.unwrap_or_default())?;
        Ok(Self {
            unix: Some(unix),
            ..Self::default()
        })
    }

    /// What the CA names must be here, and be known: what is left out would let others in.
    fn from_wire(id: &SpiffeId, wire: wire::Selectors) -> Result<Self, AssignmentError> {
        let refused = |kind: &str| AssignmentError::Selector(id.clone(), kind.to_owned());
        let selectors = Self {
            unix: wire
                .unix
                .map(|unix| UnixSelectors::from_wire(id, unix))
                .transpose()?,
            unit: wire.systemd.map(|systemd| systemd.unit),
            container: wire.container.map(ContainerSelector::from_wire),
        };
        for kind in &wire.kinds {
            let known = match kind.as_str() {
                "unix" => selectors.unix.is_some(),
                "systemd" => selectors.unit.as_ref().is_some_and(|unit| !unit.is_empty()),
                "container" => selectors
                    .container
                    .as_ref()
                    .is_some_and(|container| *container != ContainerSelector::default()),
                _ => false,
            };
            if !known {
                return Err(refused(kind));
            }
        }
        if selectors.kinds() != wire.kinds {
            return Err(refused("nothing"));
        }
        Ok(selectors)
    }

    /// What older agents understand too.
    fn only_unix(&self) -> Option<&UnixSelectors> {
        let alone = self.unit.is_none() && self.container.is_none();
        self.unix.as_ref().filter(|_| alone)
    }

    fn kinds(&self) -> Vec<String> {
        let kinds = [
            ("unix", self.unix.is_some()),
            ("systemd", self.unit.is_some()),
            ("container", self.container.is_some()),
        ];
        let stated = kinds.into_iter().filter(|(_, stated)| *stated);
        stated.map(|(kind, _)| kind.to_owned()).collect()
    }

    fn to_wire(&self) -> wire::Selectors {
        wire::Selectors {
            kinds: self.kinds(),
            unix: self.unix.as_ref().map(UnixSelectors::to_wire),
            systemd: self.unit.clone().map(|unit| wire::SystemdSelector { unit }),
            container: self
                .container
                .clone()
                .map(|container| wire::ContainerSelector {
                    id: container.id.unwrap_or_default(),
                    pod: container.pod.unwrap_or_default(),
                }),
        }
    }
}

impl ContainerSelector {
    fn from_wire(wire: wire::ContainerSelector) -> Self {
        let stated = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            id: stated(wire.id),
            pod: stated(wire.pod),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(selectors: wire::Selectors) -> Result<Selectors, AssignmentError> {
        let id = "spiffe://mesh.example/ns/shop/sa/orders".parse().unwrap();
        Selectors::from_wire(&id, selectors)
    }

    fn systemd(kinds: &[&str], unit: &str) -> wire::Selectors {
        wire::Selectors {
            kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
            systemd: Some(wire::SystemdSelector {
                unit: unit.to_owned(),
            }),
            ..wire::Selectors::default()
        }
    }

    #[test]
    fn selectors_that_this_agent_does_not_know_are_refused() {
        for selectors in [
            systemd(&["systemd", "image"], "orders.service"),
            systemd(&["systemd", "container"], "orders.service"),
            systemd(&["systemd"], ""),
            systemd(&[], "orders.service"),
        ] {
            let refused = judged(selectors.clone());
            assert!(
                matches!(refused, Err(AssignmentError::Selector(..))),
                "{selectors:?}"
            );
        }
    }

    #[test]
    fn selectors_are_cached_as_they_came() {
        let selectors = judged(systemd(&["systemd"], "orders.service")).unwrap();
        assert_eq!(selectors.unit.as_deref(), Some("orders.service"));
        assert_eq!(judged(selectors.to_wire()).unwrap(), selectors);
    }
}
