//! One revision, whole: its objects, when each last changed, and the compiled policy.

use std::collections::BTreeMap;
use std::sync::Arc;

use crypto::digest::HashKey;
use identity::{IdTemplate, QualifiedName, SpiffeId, TrustDomain};
use policy::{
    Change, MeshNames, ObjectKey, ObjectSet, Outcome, PolicySnapshot, Resource, Revision,
};

use super::RegistryError;
use crate::store::{Staged, Store};

/// Immutable.
#[derive(Debug)]
pub struct RegistrySnapshot {
    revision: Revision,
    objects: ObjectSet,
    changed_at: BTreeMap<ObjectKey, Revision>,
    policy: PolicySnapshot,
    mesh: MeshNames,
    decision_key: HashKey,
}

/// One object in force.
#[derive(Clone, Debug)]
pub struct RegistryObject<'a> {
    pub key: &'a ObjectKey,
    pub resource: &'a Arc<Resource>,
    /// The revision that last changed it.
    pub revision: Revision,
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
        Ok(Self::compile(
            revision,
            objects,
            changed_at,
            mesh,
            store.decision_key().clone(),
        ))
    }

    /// What follows this snapshot once `staged` is committed as `revision`.
    pub(super) fn after(&self, revision: Revision, staged: &Staged) -> Self {
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
        Self::compile(revision, objects, changed_at, mesh, decision_key)
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
        Self::compile(
            revision,
            resources.into_iter().collect(),
            changed_at,
            mesh,
            key,
        )
    }

    fn compile(
        revision: Revision,
        objects: ObjectSet,
        changed_at: BTreeMap<ObjectKey, Revision>,
        mesh: MeshNames,
        decision_key: HashKey,
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
        }
    }

    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
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
}
