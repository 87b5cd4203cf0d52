//! One revision, whole: its objects, when each last changed, and the compiled policy.

use std::collections::BTreeMap;
use std::sync::Arc;

use crypto::digest::HashKey;
use identity::{IdTemplate, QualifiedName, SpiffeId, TrustDomain};
use policy::{MeshNames, ObjectKey, ObjectSet, PolicySnapshot, Resource, Revision};
use time::OffsetDateTime;

use super::{HeldDenial, PublishedDenials, RegistryError, ServiceAddresses};
use crate::authority::PublishedRoots;
use crate::store::{InForce, Place, Staged, Store};

/// Immutable.
#[derive(Debug)]
pub struct RegistrySnapshot {
    in_force: InForce,
    policy: PolicySnapshot,
    mesh: MeshNames,
    decision_key: HashKey,
    others: Others,
}

/// What is of one revision without being an object.
#[derive(Clone, Debug)]
struct Others {
    places: Arc<Places>,
    roots: Arc<PublishedRoots>,
    denials: Arc<PublishedDenials>,
}

/// Of every name that ever was a Service's.
pub(super) type Places = BTreeMap<QualifiedName, Place>;

/// One object in force.
#[derive(Clone, Debug)]
pub struct RegistryObject<'a> {
    pub key: &'a ObjectKey,
    pub resource: &'a Arc<Resource>,
    /// The revision that last changed it.
    pub revision: Revision,
    /// A Service's.
    pub addresses: Option<ServiceAddresses>,
}

impl RegistrySnapshot {
    pub(super) async fn read(
        store: &Store,
        mesh: MeshNames,
        now: OffsetDateTime,
    ) -> Result<Self, RegistryError> {
        let in_force = store.in_force().await?;
        // Read after the objects: a name that has a place keeps it, so none of theirs is missing.
        let places = store.places().await.map_err(RegistryError::Store)?;
        // After the revision too: roots that are newer than it are told again with theirs.
        let roots = PublishedRoots::read(store).await;
        let roots = Arc::new(roots.map_err(RegistryError::Roots)?);
        let denials = PublishedDenials::read(store, now).await?;
        let decision_key = store.decision_key().clone();
        let others = Others {
            places: Arc::new(places),
            roots,
            denials: Arc::new(denials),
        };
        Ok(Self::compile(in_force, mesh, decision_key, others))
    }

    /// What follows this snapshot: reads what other replicas have written since.
    pub(super) async fn read_on(
        &self,
        store: &Store,
        now: OffsetDateTime,
    ) -> Result<Self, RegistryError> {
        let in_force = store.in_force_since(&self.in_force).await?;
        let known = {
            let mut services = in_force.objects().services();
            services.all(|service| self.others.places.contains_key(&service.name))
        };
        let places = match known {
            true => Arc::clone(&self.others.places),
            false => Arc::new(store.places().await.map_err(RegistryError::Store)?),
        };
        let roots = PublishedRoots::read(store).await;
        let roots = Arc::new(roots.map_err(RegistryError::Roots)?);
        let denials = PublishedDenials::read(store, now).await?;
        let others = Others {
            places,
            roots,
            denials: Arc::new(denials),
        };
        Ok(self.followed_by(in_force, others))
    }

    /// What follows this snapshot when nothing but the roots has changed.
    pub(super) fn with_roots(&self, revision: Revision, roots: PublishedRoots) -> Self {
        let others = Others {
            roots: Arc::new(roots),
            ..self.others.clone()
        };
        self.followed_by(self.in_force.at(revision), others)
    }

    /// What follows this snapshot when nothing but the deny-list has changed.
    pub(super) fn with_denials(&self, revision: Revision, denials: PublishedDenials) -> Self {
        let others = Others {
            denials: Arc::new(denials),
            ..self.others.clone()
        };
        self.followed_by(self.in_force.at(revision), others)
    }

    /// Refuses more than the store says.
    pub(super) fn refuse_too(&mut self, more: &[HeldDenial]) -> Result<(), RegistryError> {
        if let Some(denials) = self.others.denials.and(more)? {
            self.others.denials = Arc::new(denials);
        }
        Ok(())
    }

    /// Lets go of denials that have ended.
    pub(super) fn leave_out_ended(&mut self, now: OffsetDateTime) {
        if let Some(denials) = self.others.denials.without_ended(now) {
            self.others.denials = Arc::new(denials);
        }
    }

    /// What follows this snapshot once `staged` is committed; `places` if there are new ones.
    pub(super) fn after(&self, staged: &Staged, places: Option<Places>) -> Self {
        let mut others = self.others.clone();
        if let Some(places) = places {
            others.places = Arc::new(places);
        }
        self.followed_by(staged.next().clone(), others)
    }

    fn followed_by(&self, in_force: InForce, others: Others) -> Self {
        let (mesh, decision_key) = (self.mesh.clone(), self.decision_key.clone());
        Self::compile(in_force, mesh, decision_key, others)
    }

    /// One revision of objects that nobody stored.
    #[cfg(test)]
    pub(crate) fn of_objects(
        revision: Revision,
        objects: impl IntoIterator<Item = (Resource, Revision)>,
        mesh: MeshNames,
    ) -> Self {
        let mut in_force = InForce::nothing(revision);
        for (resource, changed) in objects {
            let json = resource.to_json().to_string();
            in_force.put(changed, resource, &json);
        }
        let key = HashKey::from_bytes(&[7; 32]);
        let keys = in_force.objects().iter().map(|(key, _)| key);
        // The same name has the same place in another revision.
        let places = keys.filter_map(service_of).map(|name| {
            let digest = crypto::digest::Sha256::of(name.to_string().as_bytes());
            let [a, b, c, ..] = *digest.as_bytes();
            (name, Place::of_number(u32::from_be_bytes([0, a, b, c])))
        });
        let places = Arc::new(places.collect());
        let roots = Arc::new(PublishedRoots::none(&mesh.trust_domain));
        let others = Others {
            places,
            roots,
            denials: Arc::default(),
        };
        Self::compile(in_force, mesh, key, others)
    }

    fn compile(in_force: InForce, mesh: MeshNames, decision_key: HashKey, others: Others) -> Self {
        let (revision, objects) = (in_force.revision(), in_force.objects());
        // Registered custom identities are in the set itself.
        let policy = PolicySnapshot::compile(revision, &decision_key.bytes(), &mesh, objects, &[]);
        Self {
            in_force,
            policy,
            mesh,
            decision_key,
            others,
        }
    }

    #[must_use]
    pub fn revision(&self) -> Revision {
        self.in_force.revision()
    }

    /// What a change is judged on.
    pub(crate) fn in_force(&self) -> &InForce {
        &self.in_force
    }

    /// What the trust domain trusts.
    pub(crate) fn roots(&self) -> &Arc<PublishedRoots> {
        &self.others.roots
    }

    /// Who is refused although the certificate verifies.
    pub(crate) fn denials(&self) -> &Arc<PublishedDenials> {
        &self.others.denials
    }

    #[must_use]
    pub fn objects(&self) -> &ObjectSet {
        self.in_force.objects()
    }

    #[must_use]
    pub fn policy(&self) -> &PolicySnapshot {
        &self.policy
    }

    #[must_use]
    pub fn mesh(&self) -> &MeshNames {
        &self.mesh
    }

    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.mesh.trust_domain
    }

    #[must_use]
    pub fn id_template(&self) -> &IdTemplate {
        &self.mesh.template
    }

    /// Keys the hash that decision ids are made of.
    #[must_use]
    pub fn decision_key(&self) -> &HashKey {
        &self.decision_key
    }

    #[must_use]
    pub fn object(&self, key: &ObjectKey) -> Option<RegistryObject<'_>> {
        self.in_force.get(key).map(|object| self.described(object))
    }

    /// All objects, in key order.
    pub fn iter(&self) -> impl Iterator<Item = RegistryObject<'_>> {
        self.in_force.iter().map(|object| self.described(object))
    }

    fn described<'a>(
        &self,
        (key, resource, revision): (&'a ObjectKey, &'a Arc<Resource>, Revision),
    ) -> RegistryObject<'a> {
        RegistryObject {
            key,
            resource,
            revision,
            addresses: self.addresses_of(key),
        }
    }

    /// The identity of a registered workload.
    #[must_use]
    pub fn identity_of(&self, name: &QualifiedName) -> Option<SpiffeId> {
        let key = ObjectKey::namespaced(policy::Kind::Workload, name);
        match self.objects().get(&key)?.as_ref() {
            Resource::Workload(workload) => Some(
                workload
                    .spiffe_id
                    .clone()
                    .unwrap_or_else(|| self.mesh.id(name)),
            ),
            _ => None,
        }
    }

    /// Workloads whose identity does not follow the template.
    #[must_use]
    pub fn custom_identities(&self) -> Vec<(QualifiedName, SpiffeId)> {
        self.objects().custom_identities()
    }

    fn addresses_of(&self, key: &ObjectKey) -> Option<ServiceAddresses> {
        let place = self.others.places.get(&service_of(key)?)?;
        Some(ServiceAddresses::of(self.trust_domain(), *place))
    }
}

fn service_of(key: &ObjectKey) -> Option<QualifiedName> {
    let (policy::Kind::Service, Some(namespace)) = (key.kind, &key.namespace) else {
        return None;
    };
    Some(QualifiedName {
        namespace: namespace.clone(),
        name: key.name.clone(),
    })
}
