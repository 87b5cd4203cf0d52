//! A configuration write that has been judged on the resulting whole.
//!
//! Invariant: a [`Staged`] exists only when the objects that would be in force after it obey every
//! rule together; the store commits nothing else. It holds for one base revision, and the store
//! refuses it on any other.

use std::collections::BTreeSet;

use crypto::digest::Sha256;
use policy::{MeshNames, ObjectKey, Outcome, Refusal, Resource, Revision};

use super::InForce;

/// What somebody wants to change, all of it or nothing.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub upserts: Vec<Resource>,
    pub deletes: Vec<ObjectKey>,
    pub preconditions: Vec<Precondition>,
}

/// What must hold of one object when the change is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precondition {
    pub key: ObjectKey,
    pub expected: Expected,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    Absent,
    Present,
    /// It was last changed by one of these revisions.
    AnyOf(Vec<Revision>),
}

impl Expected {
    /// `found`: the revision that last changed the object, if there is one.
    #[must_use]
    pub fn holds(&self, found: Option<Revision>) -> bool {
        match (self, found) {
            (Self::Absent, None) | (Self::Present, Some(_)) => true,
            (Self::AnyOf(revisions), Some(found)) => revisions.contains(&found),
            _ => false,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StageError {
    #[error("{0} is in this change twice")]
    Twice(ObjectKey),
    #[error("there is no {0}")]
    NotFound(ObjectKey),
    /// `of_others`: no object of the change itself is wrong; those that stay do not go with it.
    #[error("the resulting configuration is refused")]
    Refused {
        refusals: Vec<Refusal>,
        of_others: bool,
    },
}

/// Evidence that a change may be committed on top of one revision.
#[derive(Clone, Debug)]
pub struct Staged {
    base: Revision,
    next: InForce,
    upserts: Vec<Upsert>,
    deletes: Vec<ObjectKey>,
    preconditions: Vec<Precondition>,
    outcomes: Vec<(ObjectKey, Outcome)>,
    content_sha256: Sha256,
}

/// An object that is new or differs.
#[derive(Clone, Debug)]
pub(super) struct Upsert {
    pub(super) key: ObjectKey,
    /// Canonical.
    pub(super) json: String,
}

impl Staged {
    /// Judges `changes` on top of what is in force, which was judged the same way.
    ///
    /// # Errors
    /// See [`StageError`].
    pub fn try_new(
        current: &InForce,
        changes: Changes,
        mesh: &MeshNames,
    ) -> Result<Self, StageError> {
        require_distinct(&changes)?;
        let base = current.revision();
        let revision = Revision {
            number: base.number + 1,
            ..base
        };
        let mut next = current.at(revision);
        let mut outcomes = Vec::new();
        let mut upserts = Vec::new();
        for resource in changes.upserts {
            let (key, json) = (resource.key(), resource.to_json().to_string());
            let outcome = next.put(revision, resource, &json);
            outcomes.push((key.clone(), outcome));
            if outcome != Outcome::Unchanged {
                upserts.push(Upsert { key, json });
            }
        }
        for key in &changes.deletes {
            match next.delete(key) {
                Outcome::Absent => return Err(StageError::NotFound(key.clone())),
                outcome => outcomes.push((key.clone(), outcome)),
            }
        }
        let judged = next.objects().validate_after(current.objects(), mesh);
        judged.map_err(|refusals| {
            let written: BTreeSet<_> = upserts.iter().map(|upsert| &upsert.key).collect();
            let of_others = !refusals
                .iter()
                .any(|refusal| written.contains(&refusal.key));
            StageError::Refused {
                refusals,
                of_others,
            }
        })?;
        let (deletes, preconditions) = (changes.deletes, changes.preconditions);
        Ok(Self {
            base,
            content_sha256: next.content_sha256(),
            next,
            upserts,
            deletes,
            preconditions,
            outcomes,
        })
    }

    /// The revision that this was judged on top of.
    #[must_use]
    pub fn base(&self) -> Revision {
        self.base
    }

    /// Whether a commit makes a new revision.
    #[must_use]
    pub fn changes_anything(&self) -> bool {
        !(self.upserts.is_empty() && self.deletes.is_empty())
    }

    /// What is in force once it is committed, if it changes anything.
    #[must_use]
    pub fn next(&self) -> &InForce {
        &self.next
    }

    #[must_use]
    pub fn outcomes(&self) -> &[(ObjectKey, Outcome)] {
        &self.outcomes
    }

    pub(super) fn upserts(&self) -> &[Upsert] {
        &self.upserts
    }

    pub(super) fn deletes(&self) -> &[ObjectKey] {
        &self.deletes
    }

    pub(super) fn preconditions(&self) -> &[Precondition] {
        &self.preconditions
    }

    /// Of what would be in force.
    pub(super) fn content_sha256(&self) -> Sha256 {
        self.content_sha256
    }
}

fn require_distinct(changes: &Changes) -> Result<(), StageError> {
    let mut seen = BTreeSet::new();
    let upserts = changes.upserts.iter().map(Resource::key);
    for key in upserts.chain(changes.deletes.iter().cloned()) {
        if !seen.insert(key.clone()) {
            return Err(StageError::Twice(key));
        }
    }
    Ok(())
}
