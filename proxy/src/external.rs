//! Ways out of the mesh: which External a request's Host stands for, and whether it is ours to
//! take. Pure, but for the files of [`trust`].
//!
//! Invariant: a [`WayOut`] exists only for a host that the configuration in force declares, and
//! whose `from` names our workload.

use std::sync::Arc;

use http::uri::Authority;
use identity::QualifiedName;
use policy::External;

use crate::failure::Reason;
use crate::state::MeshState;

pub(crate) mod address;
pub(crate) mod trust;

/// Leave to call one host outside. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct WayOut {
    external: Arc<External>,
    host: Arc<str>,
    label: Arc<str>,
}

/// Why a host outside is not called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoWayOut {
    #[error("no policy has arrived yet")]
    NotReady,
    /// The externals of the configuration before it are still there, and lead nowhere.
    #[error("the configuration cannot be read: everything is denied")]
    Indeterminate,
    #[error("the request names no host")]
    NoHost,
    #[error("{host} is not under mesh.internal, and no External lets this workload call it")]
    Undeclared { host: String },
    #[error("External {external} declares {host}, and its `from` does not name this workload")]
    NotForUs {
        host: String,
        external: QualifiedName,
    },
    #[error("External {external} declares {host} with port {declared}, not {asked}")]
    OtherPort {
        host: String,
        external: QualifiedName,
        declared: u16,
        asked: u16,
    },
}

impl WayOut {
    /// # Errors
    /// If nothing leads there.
    pub(crate) fn find(state: &MeshState, authority: &Authority) -> Result<Self, NoWayOut> {
        let Some(policy) = &state.policy else {
            return Err(NoWayOut::NotReady);
        };
        if policy.indeterminate().is_some() {
            return Err(NoWayOut::Indeterminate);
        }
        let host = authority.host().to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host).to_owned();
        let Some(external) = state.externals.get(&host) else {
            let mut others = policy.externals();
            let other = others.find(|it| it.hosts.contains(&host));
            return Err(match other.map(|it| it.name.clone()) {
                Some(external) => NoWayOut::NotForUs { host, external },
                None => NoWayOut::Undeclared { host },
            });
        };
        let other = authority.port_u16().filter(|it| !external.is_asked_at(*it));
        if let Some(asked) = other {
            return Err(NoWayOut::OtherPort {
                host,
                external: external.name.clone(),
                declared: external.port,
                asked,
            });
        }
        Ok(Self {
            label: format!("{host}:{}", external.port).into(),
            host: host.into(),
            external: Arc::clone(external),
        })
    }

    /// Whether it may still be taken, as it was found.
    pub(crate) fn is_open(&self, state: &MeshState) -> bool {
        let policy = state.policy.as_ref();
        let is_readable = policy.is_some_and(|it| it.indeterminate().is_none());
        let now = state.externals.get(&*self.host).filter(|_| is_readable);
        now.is_some_and(|it| it.port == self.external.port && it.tls == self.external.tls)
    }

    /// In small letters, without a final dot.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn external(&self) -> &External {
        &self.external
    }

    /// `host:port`, for records and labels.
    pub(crate) fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// What the host is told that it is called by: the port only where it is not https's.
    pub(crate) fn authority(&self) -> Option<Authority> {
        let text = match self.external.port {
            443 => Authority::try_from(&*self.host),
            _ => Authority::try_from(&*self.label),
        };
        text.ok()
    }
}

impl NoWayOut {
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::NotReady => Reason::NotReady,
            Self::NoHost => Reason::BadRequest,
            Self::NotForUs { .. } | Self::Indeterminate => Reason::PolicyDenied,
            Self::Undeclared { .. } | Self::OtherPort { .. } => Reason::NoRoute,
        }
    }
}

#[cfg(test)]
mod tests {
    use policy::{MeshNames, PolicySnapshot, Resource, Revision};

    use super::*;

    const OURS: &str = "hosts: [api.example], port: 8443, tls: {mode: originate, roots: system}, \
                        from: [{workload: shop/checkout}]";
    const OTHERS: &str = "hosts: [other.example], port: 443, \
                          tls: {mode: originate, roots: system}, from: [{workload: shop/other}]";

    /// As our workload, `shop/checkout`, sees it.
    fn state(specs: &[&str]) -> MeshState {
        let objects = specs.iter().enumerate().map(|(number, spec)| {
            let text = format!(
                "apiVersion: countersign.dev/v1\nkind: External\n\
                 metadata: {{namespace: shop, name: e{number}}}\nspec: {{{spec}}}"
            );
            policy::parse_documents(&text).unwrap().remove(0)
        });
        let objects: Vec<Resource> = objects.collect();
        let mesh = MeshNames::new(
            "mesh.test".parse().unwrap(),
            identity::IdTemplate::default(),
        );
        let own = mesh.id(&"shop/checkout".parse().unwrap());
        let revision = Revision {
            epoch: 1,
            number: 1,
        };
        let set = objects.into_iter().collect();
        let policy = PolicySnapshot::compile(revision, &[1; 32], &mesh, &set, &[]);
        let mut state = MeshState::empty();
        for external in policy.externals() {
            if policy.names_caller(&external.from, &own) {
                for host in &external.hosts {
                    state.externals.insert(host.clone(), Arc::clone(external));
                }
            }
        }
        state.policy = Some(policy);
        state
    }

    #[track_caller]
    fn refused(state: &MeshState, authority: &str) -> NoWayOut {
        WayOut::find(state, &authority.parse().unwrap()).unwrap_err()
    }

    #[test]
    fn before_a_policy_nothing_leads_out() {
        let refused = refused(&MeshState::empty(), "api.example");
        assert_eq!(refused, NoWayOut::NotReady);
    }

    #[test]
    fn a_configuration_that_cannot_be_read_closes_every_way() {
        let mut state = state(&[OURS]);
        let way = WayOut::find(&state, &"api.example".parse().unwrap()).unwrap();
        let revision = state.policy.as_ref().unwrap().revision();
        let mesh = MeshNames::new(
            "mesh.test".parse().unwrap(),
            identity::IdTemplate::default(),
        );
        let engine = policy::ENGINE_VERSION;
        let unreadable = PolicySnapshot::compile_json(revision, &[1; 32], engine, &mesh, [""], &[]);
        state.policy = Some(unreadable);
        assert_eq!(refused(&state, "api.example"), NoWayOut::Indeterminate);
        assert!(!way.is_open(&state));
    }

    #[test]
    fn what_is_undeclared_for_others_or_on_another_port_is_told_apart() {
        let state = state(&[OURS, OTHERS]);
        for host in ["www.api.example", "192.0.2.1", "[::1]"] {
            let refused = refused(&state, host);
            assert!(matches!(refused, NoWayOut::Undeclared { .. }), "{host}");
        }
        let other = refused(&state, "other.example");
        assert_eq!(other.reason(), Reason::PolicyDenied);
        assert!(other.to_string().contains("shop/e1"), "{other}");
        let other = refused(&state, "api.example:8080");
        assert!(matches!(other, NoWayOut::OtherPort { asked: 8080, .. }));
    }

    #[test]
    fn a_host_is_found_in_any_case_with_or_without_its_port() {
        let state = state(&[OURS]);
        for host in ["api.example", "API.Example.:80", "api.example:8443"] {
            let way = WayOut::find(&state, &host.parse().unwrap()).unwrap();
            assert_eq!(way.authority().unwrap(), "api.example:8443", "{host}");
        }
    }

    #[test]
    fn a_way_closes_with_its_external_or_when_that_changes() {
        let way = WayOut::find(&state(&[OURS]), &"api.example".parse().unwrap()).unwrap();
        assert!(way.is_open(&state(&[OURS, OTHERS])));
        assert!(!way.is_open(&state(&[OTHERS])));
        assert!(!way.is_open(&state(&[&OURS.replace("8443", "443")])));
        assert!(!way.is_open(&state(&[&OURS.replace("checkout", "other")])));
    }
}
