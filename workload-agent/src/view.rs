//! What the CA has told this agent: configuration, assigned identities, bundle and endpoints.
//!
//! Invariants: a view is replaced whole and never goes back to a lower revision of its epoch; a
//! snapshot gives the same view as any sequence of deltas that leads to it. Refused: messages
//! that do not follow what is held, and assignments that no agent may hold.

mod assignment;
mod denied;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crypto::digest::Sha256;
use identity::x509::{Bundle, DenyList, DenyListError};
use identity::{QualifiedName, SpiffeId, TrustDomain};
use policy::Revision;
use proto::agent::v1 as wire;
use proto::mesh::v1 as mesh;

pub(crate) use assignment::{
    Assignment, AssignmentError, ContainerSelector, Selectors, UnixSelectors,
};

use denied::HeldDenials;

type ObjectKey = (String, String, String);

/// One consistent state of the CA's configuration, as far as it concerns this agent.
#[derive(Clone, Debug)]
pub(crate) struct View {
    revision: Revision,
    engine_version: u32,
    id_template: String,
    decision_key: Vec<u8>,
    objects: BTreeMap<ObjectKey, mesh::Object>,
    custom_identities: Vec<mesh::CustomIdentity>,
    unknown_services: Vec<String>,
    assignments: BTreeMap<SpiffeId, Assignment>,
    bundle: mesh::Bundle,
    denials: Arc<HeldDenials>,
    revocation_lists: Arc<wire::RevocationLists>,
    endpoints: BTreeMap<String, mesh::ServiceEndpoints>,
}

impl View {
    /// A view from a snapshot. Services whose endpoints it does not mention keep what `held` knew
    /// of them: a replica that has just started does not know yet.
    pub(crate) fn from_snapshot(
        trust_domain: &TrustDomain,
        snapshot: wire::Snapshot,
        held: Option<&Self>,
    ) -> Result<Self, ViewError> {
        let configuration = snapshot
            .configuration
            .ok_or(ViewError::Missing("snapshot.configuration"))?;
        let revision = revision_of(configuration.revision, "snapshot.configuration.revision")?;
        if let Some(held) = held {
            held.must_not_go_back(revision)?;
        }
        let bundle = snapshot
            .bundle
            .ok_or(ViewError::Missing("snapshot.bundle"))?;
        judge_bundle(trust_domain, &bundle)?;
        let denials = match (configuration.denied, held) {
            (Some(list), _) => Arc::new(HeldDenials::of(list)?),
            // An older CA does not know of the list, and takes nothing off it.
            (None, Some(held)) => Arc::clone(&held.denials),
            (None, None) => Arc::default(),
        };
        let revocation_lists = held.map(|held| Arc::clone(&held.revocation_lists));
        let mut endpoints = held.map(|held| held.endpoints.clone()).unwrap_or_default();
        for update in snapshot.endpoints {
            endpoints.insert(service_key(&update), update);
        }
        let keyed = |object: mesh::Object| (object_key(&object), object);
        Ok(Self {
            revision,
            engine_version: configuration.engine_version,
            id_template: configuration.id_template,
            decision_key: configuration.decision_key,
            objects: configuration.objects.into_iter().map(keyed).collect(),
            custom_identities: configuration.custom_identities,
            unknown_services: configuration.unknown_services,
            assignments: assignments(trust_domain, snapshot.identities)?,
            bundle,
            denials,
            revocation_lists: revocation_lists.unwrap_or_default(),
            endpoints,
        })
    }

    /// The view after a delta that follows this one.
    pub(crate) fn with_delta(
        &self,
        trust_domain: &TrustDomain,
        delta: wire::Delta,
    ) -> Result<Self, ViewError> {
        let from = revision_of(delta.from, "delta.from")?;
        let revision = revision_of(delta.revision, "delta.revision")?;
        if from != self.revision || revision.epoch != from.epoch {
            return Err(ViewError::DoesNotFollow {
                held: self.revision,
                from,
            });
        }
        self.must_not_go_back(revision)?;
        let mut next = self.clone();
        next.revision = revision;
        next.engine_version = delta.engine_version;
        for key in delta.removed {
            next.objects.remove(&(key.kind, key.namespace, key.name));
        }
        for object in delta.upserted {
            next.objects.insert(object_key(&object), object);
        }
        if let Some(changed) = delta.identities {
            next.assignments = assignments(trust_domain, changed.identities)?;
        }
        if let Some(changed) = delta.custom_identities {
            next.custom_identities = changed.identities;
        }
        if let Some(changed) = delta.unknown_services {
            next.unknown_services = changed.services;
        }
        if let Some(change) = delta.denied {
            next.denials = Arc::new(self.denials.changed(change)?);
        }
        if let Some(bundle) = delta.bundle {
            judge_bundle(trust_domain, &bundle)?;
            next.bundle = bundle;
        }
        Ok(next)
    }

    /// Whether it tells the address of every Service; one that an older build kept does not, and
    /// only a new snapshot can.
    pub(crate) fn has_addresses(&self) -> bool {
        let mut services = self.objects.values().filter(|it| it.kind == "Service");
        services.all(|it| !it.addresses.is_empty())
    }

    /// The view with one service's endpoints replaced. An older generation of the same source is
    /// ignored.
    pub(crate) fn with_endpoints(&self, update: mesh::ServiceEndpoints) -> Self {
        let key = service_key(&update);
        let stale = self.endpoints.get(&key).is_some_and(|held| {
            held.source == update.source && held.generation > update.generation
        });
        let mut next = self.clone();
        if !stale {
            next.endpoints.insert(key, update);
        }
        next
    }

    /// The view with the lists for validators that know no deny-list.
    pub(crate) fn with_revocation_lists(&self, lists: wire::RevocationLists) -> Self {
        Self {
            revocation_lists: Arc::new(lists),
            ..self.clone()
        }
    }

    /// What the Workload API gives, and what is to be replaced for its sake.
    pub(crate) fn revocation_lists(&self) -> &Arc<wire::RevocationLists> {
        &self.revocation_lists
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    pub(crate) fn assignments(&self) -> &BTreeMap<SpiffeId, Assignment> {
        &self.assignments
    }

    /// The identity that this agent may hold for `workload`.
    pub(crate) fn assignment_of(&self, workload: &QualifiedName) -> Option<&Assignment> {
        self.assignments
            .values()
            .find(|entry| entry.workload == *workload)
    }

    /// The shortest life that the registry asks for.
    pub(crate) fn shortest_ttl(&self) -> Option<Duration> {
        let lives = self.assignments.values().map(|entry| entry.ttl);
        lives.filter(|ttl| !ttl.is_zero()).min()
    }

    pub(crate) fn bundle(&self) -> &mesh::Bundle {
        &self.bundle
    }

    /// Who is refused although the certificate verifies.
    pub(crate) fn denied(&self) -> &DenyList {
        self.denials.list()
    }

    pub(crate) fn endpoints(&self) -> &BTreeMap<String, mesh::ServiceEndpoints> {
        &self.endpoints
    }

    /// The Service object of this name, in its JSON form.
    pub(crate) fn service_json(&self, service: &QualifiedName) -> Option<&str> {
        let key = (
            "Service".to_owned(),
            service.namespace.to_string(),
            service.name.to_string(),
        );
        self.objects.get(&key).map(|object| object.json.as_str())
    }

    /// Which objects are held, and of which revision each is.
    pub(crate) fn held(&self) -> Vec<wire::HeldObject> {
        let held =
            |((kind, namespace, name), object): (&ObjectKey, &mesh::Object)| wire::HeldObject {
                key: Some(mesh::ObjectKey {
                    kind: kind.clone(),
                    namespace: namespace.clone(),
                    name: name.clone(),
                }),
                revision: object.revision,
            };
        self.objects.iter().map(held).collect()
    }

    /// What proxies decide by.
    pub(crate) fn configuration(&self) -> mesh::Configuration {
        mesh::Configuration {
            revision: Some(wire_revision(self.revision)),
            engine_version: self.engine_version,
            id_template: self.id_template.clone(),
            objects: self.objects.values().cloned().collect(),
            custom_identities: self.custom_identities.clone(),
            decision_key: self.decision_key.clone(),
            unknown_services: self.unknown_services.clone(),
            denied: Some(self.denials.wire()),
        }
    }

    /// The snapshot that gives this view: what the cache keeps.
    pub(crate) fn to_snapshot(&self) -> wire::Snapshot {
        wire::Snapshot {
            configuration: Some(self.configuration()),
            identities: self.assignments.values().map(Assignment::to_wire).collect(),
            bundle: Some(self.bundle.clone()),
            endpoints: self.endpoints.values().cloned().collect(),
        }
    }

    fn must_not_go_back(&self, revision: Revision) -> Result<(), ViewError> {
        if revision.epoch == self.revision.epoch && revision.number < self.revision.number {
            return Err(ViewError::WentBack {
                held: self.revision,
                offered: revision,
            });
        }
        Ok(())
    }
}

/// Why a message of the CA was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ViewError {
    #[error("the CA's message lacks `{0}`")]
    Missing(&'static str),
    #[error("the CA offers revision {offered}, behind {held} that this agent holds")]
    WentBack { held: Revision, offered: Revision },
    #[error("the CA's delta follows revision {from}, and this agent holds {held}")]
    DoesNotFollow { held: Revision, from: Revision },
    #[error("the CA's delta came before any snapshot")]
    NoSnapshotYet,
    #[error("the CA's bundle is for trust domain `{offered}`, and this agent is of `{own}`")]
    OtherTrustDomain { own: TrustDomain, offered: String },
    #[error("the CA's deny-list cannot be read")]
    DenyList(#[from] DenyListError),
    #[error("the CA's bundle cannot be used")]
    Bundle(#[source] identity::x509::BundleError),
    #[error("the CA assigned an identity that cannot be held")]
    Assignment(#[from] AssignmentError),
}

/// A bundle of the wire, judged.
pub(crate) fn judge_bundle(
    trust_domain: &TrustDomain,
    bundle: &mesh::Bundle,
) -> Result<Bundle, ViewError> {
    if bundle.trust_domain != trust_domain.as_str() {
        return Err(ViewError::OtherTrustDomain {
            own: trust_domain.clone(),
            offered: bundle.trust_domain.clone(),
        });
    }
    Bundle::new(
        trust_domain.clone(),
        bundle.sequence,
        bundle.x509_authorities.clone(),
    )
    .map_err(ViewError::Bundle)
}

/// The same without the roots that somebody else may hold the key of: what does not verify by this
/// is replaced at once.
pub(crate) fn judge_untainted(
    trust_domain: &TrustDomain,
    bundle: &mesh::Bundle,
) -> Result<Bundle, ViewError> {
    let mut untainted = bundle.clone();
    untainted.x509_authorities.retain(|root| {
        let digest = Sha256::of(root);
        let tainted = bundle.tainted_authorities.iter();
        !tainted.into_iter().any(|it| it == digest.as_bytes())
    });
    judge_bundle(trust_domain, &untainted)
}

pub(crate) fn wire_revision(revision: Revision) -> mesh::Revision {
    mesh::Revision {
        epoch: revision.epoch,
        number: revision.number,
    }
}

fn revision_of(
    revision: Option<mesh::Revision>,
    field: &'static str,
) -> Result<Revision, ViewError> {
    let revision = revision.ok_or(ViewError::Missing(field))?;
    Ok(Revision {
        epoch: revision.epoch,
        number: revision.number,
    })
}

fn assignments(
    trust_domain: &TrustDomain,
    entries: Vec<wire::AssignedIdentity>,
) -> Result<BTreeMap<SpiffeId, Assignment>, ViewError> {
    let mut parsed = BTreeMap::new();
    for entry in entries {
        match Assignment::from_wire(trust_domain, entry) {
            Ok(assignment) => {
                parsed.insert(assignment.spiffe_id.clone(), assignment);
            }
            // A newer CA's; all else of it is as good as ever.
            Err(error @ AssignmentError::Selector(..)) => {
                tracing::error!(%error, "an identity is given to nobody; upgrade this agent");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(parsed)
}

fn object_key(object: &mesh::Object) -> ObjectKey {
    (
        object.kind.clone(),
        object.namespace.clone(),
        object.name.clone(),
    )
}

fn service_key(endpoints: &mesh::ServiceEndpoints) -> String {
    format!("{}/{}", endpoints.namespace, endpoints.service)
}

#[cfg(test)]
mod tests;
