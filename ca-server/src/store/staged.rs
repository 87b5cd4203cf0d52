//! A configuration write that has been judged on the resulting whole.
//!
//! Invariant: a [`Staged`] exists only when the objects that would be in force after it obey every
//! rule together; the store commits nothing else. It holds for one base revision, and the store
//! refuses it on any other.

use std::collections::BTreeSet;

use crypto::digest::Sha256;
use policy::{Change, MeshNames, ObjectKey, ObjectSet, Outcome, Refusal, Resource, Revision};

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
    whole: ObjectSet,
    upserts: Vec<Resource>,
    deletes: Vec<ObjectKey>,
    preconditions: Vec<Precondition>,
    outcomes: Vec<(ObjectKey, Outcome)>,
}

impl Staged {
    /// Judges `changes` on top of `current`, which is what is in force at revision `base`.
    ///
    /// # Errors
    /// See [`StageError`].
    pub fn try_new(
        base: Revision,
        current: &ObjectSet,
        changes: Changes,
        mesh: &MeshNames,
    ) -> Result<Self, StageError> {
        require_distinct(&changes)?;
        let mut whole = current.clone();
        let mut outcomes = Vec::new();
        let mut upserts = Vec::new();
        for resource in changes.upserts {
            let outcome = whole.apply(Change::Put(resource.clone()));
            outcomes.push((resource.key(), outcome));
            if outcome != Outcome::Unchanged {
                upserts.push(resource);
            }
        }
        for key in &changes.deletes {
            match whole.apply(Change::Delete(key.clone())) {
                Outcome::Absent => return Err(StageError::NotFound(key.clone())),
                outcome => outcomes.push((key.clone(), outcome)),
            }
        }
        whole.validate(mesh).map_err(|refusals| {
            let written: BTreeSet<_> = upserts.iter().map(Resource::key).collect();
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
            whole,
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

    /// What would be in force.
    #[must_use]
    pub fn whole(&self) -> &ObjectSet {
        &self.whole
    }

    #[must_use]
    pub fn outcomes(&self) -> &[(ObjectKey, Outcome)] {
        &self.outcomes
    }

    pub(super) fn upserts(&self) -> &[Resource] {
        &self.upserts
    }

    pub(super) fn deletes(&self) -> &[ObjectKey] {
        &self.deletes
    }

    pub(super) fn preconditions(&self) -> &[Precondition] {
        &self.preconditions
    }

    /// SHA-256 over the canonical form of each object that would be in force, in key order, each
    /// followed by a line feed (which canonical JSON does not hold).
    pub(super) fn content_sha256(&self) -> Sha256 {
        let mut content = Vec::new();
        for (_, resource) in self.whole.iter() {
            content.extend_from_slice(resource.to_json().to_string().as_bytes());
            content.push(b'\n');
        }
        Sha256::of(&content)
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
