//! One revision, whole: its objects, when each last changed, and the compiled policy.

use std::collections::BTreeMap;
use std::sync::Arc;

use crypto::digest::HashKey;
use identity::{IdTemplate, QualifiedName, SpiffeId, TrustDomain};
use policy::{
    Change, MeshNames, ObjectKey, ObjectSet, Outcome, PolicySnapshot, Resource, Revision,
};

use super::{RegistryError, ServiceAddresses};
use crate::authority::PublishedRoots;
use crate::store::{Place, Staged, Store};

/// Immutable.
#[derive(Debug)]
pub struct RegistrySnapshot {
    revision: Revision,
    objects: ObjectSet,
    changed_at: BTreeMap<ObjectKey, Revision>,
    policy: PolicySnapshot,
    mesh: MeshNames,
    decision_key: HashKey,
    places: Arc<Places>,
    roots: Arc<PublishedRoots>,
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
    pub(super) async fn read(store: &Store, mesh: MeshNames) -> Result<Self, RegistryError> {
        let (revision, stored) = store.objects().await.map_err(RegistryError::Store)?;
        let mut objects = ObjectSet::new();
        let mut changed_at = BTreeMap::new();
        for object in stored {
            let key = object.key;
            let refused = |why: String| RegistryError::Object {
                key: key.clone(),
                why,
            };
            let resource =
                policy::parse_json(&object.json).map_err(|error| refused(error.to_string()))?;
            if resource.key() != key {
                return Err(refused(format!("its content names {}", resource.key())));
            }
            objects.apply(Change::Put(resource));
            changed_at.insert(key, object.revision);
        }
        // Read after the objects: a name that has a place keeps it, so none of theirs is missing.
        let places = store.places().await.map_err(RegistryError::Store)?;
        // After the revision too: roots that are newer than it are told again with theirs.
        let roots = PublishedRoots::read(store).await;
        let roots = Arc::new(roots.map_err(RegistryError::Roots)?);
        Ok(Self::compile(
            revision,
            objects,
            changed_at,
            mesh,
            store.decision_key().clone(),
            (Arc::new(places), roots),
        ))
    }

    /// What follows this snapshot when nothing but the roots has changed.
    pub(super) fn with_roots(&self, revision: Revision, roots: PublishedRoots) -> Self {
        Self::compile(
            revision,
            self.objects.clone(),
            self.changed_at.clone(),
            self.mesh.clone(),
            self.decision_key.clone(),
            (Arc::clone(&self.places), Arc::new(roots)),
        )
    }

    /// What follows this snapshot once `staged` is committed as `revision`; `places` if there
    /// are new ones.
    pub(super) fn after(
        &self,
        revision: Revision,
        staged: &Staged,
        places: Option<Places>,
    ) -> Self {
        let mut changed_at = self.changed_at.clone();
        for (key, outcome) in staged.outcomes() {
            match outcome {
                Outcome::Created | Outcome::Updated => {
                    changed_at.insert(key.clone(), revision);
                }
                Outcome::Deleted => {
                    changed_at.remove(key);
                }
                Outcome::Unchanged | Outcome::Absent => {}
            }
        }
        let objects = staged.whole().clone();
        let (mesh, decision_key) = (self.mesh.clone(), self.decision_key.clone());
        let places = places.map_or_else(|| Arc::clone(&self.places), Arc::new);
        let others = (places, Arc::clone(&self.roots));
        Self::compile(revision, objects, changed_at, mesh, decision_key, others)
    }

    /// One revision of objects that nobody stored.
    #[cfg(test)]
    pub(crate) fn of_objects(
        revision: Revision,
        objects: impl IntoIterator<Item = (Resource, Revision)>,
        mesh: MeshNames,
    ) -> Self {
        let (resources, changed_at): (Vec<_>, BTreeMap<_, _>) = objects
            .into_iter()
            .map(|(resource, changed)| (resource.clone(), (resource.key(), changed)))
            .unzip();
        let key = HashKey::from_bytes(&[7; 32]);
        let services = resources.iter().filter_map(|it| service_of(&it.key()));
        // The same name has the same place in another revision.
        let places = services.map(|name| {
            let digest = crypto::digest::Sha256::of(name.to_string().as_bytes());
            let [a, b, c, ..] = *digest.as_bytes();
            (name, Place::of_number(u32::from_be_bytes([0, a, b, c])))
        });
        let places = places.collect();
        let roots = Arc::new(PublishedRoots::none(&mesh.trust_domain));
        Self::compile(
            revision,
            resources.into_iter().collect(),
            changed_at,
            mesh,
            key,
            (Arc::new(places), roots),
        )
    }

    fn compile(
        revision: Revision,
        objects: ObjectSet,
        changed_at: BTreeMap<ObjectKey, Revision>,
        mesh: MeshNames,
        decision_key: HashKey,
        (places, roots): (Arc<Places>, Arc<PublishedRoots>),
    ) -> Self {
        // Registered custom identities are in the set itself.
        let policy = PolicySnapshot::compile(revision, &decision_key.bytes(), &mesh, &objects, &[]);
        Self {
            revision,
            objects,
            changed_at,
            policy,
            mesh,
            decision_key,
            places,
            roots,
        }
    }

    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// What the trust domain trusts.
    pub(crate) fn roots(&self) -> &Arc<PublishedRoots> {
        &self.roots
    }

    #[must_use]
    pub fn objects(&self) -> &ObjectSet {
        &self.objects
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
        let (key, revision) = self.changed_at.get_key_value(key)?;
        let resource = self.objects.get(key)?;
        Some(RegistryObject {
            key,
            resource,
            revision: *revision,
            addresses: self.addresses_of(key),
        })
    }

    /// All objects, in key order.
    pub fn iter(&self) -> impl Iterator<Item = RegistryObject<'_>> {
        self.changed_at.iter().filter_map(|(key, revision)| {
            let resource = self.objects.get(key)?;
            Some(RegistryObject {
                key,
                resource,
                revision: *revision,
                addresses: self.addresses_of(key),
            })
        })
    }

    /// The identity of a registered workload.
    #[must_use]
    pub fn identity_of(&self, name: &QualifiedName) -> Option<SpiffeId> {
        let key = ObjectKey::namespaced(policy::Kind::Workload, name);
        match self.objects.get(&key)?.as_ref() {
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
        self.objects.custom_identities()
    }

    fn addresses_of(&self, key: &ObjectKey) -> Option<ServiceAddresses> {
        let place = self.places.get(&service_of(key)?)?;
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
