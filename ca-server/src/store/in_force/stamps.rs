//! Which revision last changed each object, and the digests of objects: of each, of each namespace,
//! and of the whole.
//!
//! Invariant: a digest of a namespace that is kept is that of what is in it. So the digest of the
//! whole costs what a change touches, and not what there is.

use crypto::digest::Sha256;
use identity::Namespace;
use imbl::OrdMap;
use policy::{Kind, ObjectKey, Revision};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) revision: Revision,
    /// Of the object's canonical JSON.
    pub(super) sha256: Sha256,
}

/// By key. Cloning shares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamps {
    parts: OrdMap<Part, Members>,
}

/// The objects of one kind in one namespace; neighbours in the order of keys.
type Part = (Kind, Option<Namespace>);

#[derive(Clone, Debug, Default)]
struct Members {
    stamps: OrdMap<ObjectKey, Stamp>,
    /// Over the digests of the objects, in key order; `None` since one of them changed.
    sha256: Option<Sha256>,
}

impl Stamps {
    pub(super) fn get(&self, key: &ObjectKey) -> Option<(&ObjectKey, &Stamp)> {
        let members = self.parts.get(&part_of(key))?;
        members.stamps.get_key_value(key)
    }

    /// In key order.
    pub(super) fn values(&self) -> impl Iterator<Item = &Stamp> {
        let parts = self.parts.values();
        parts.flat_map(|members| members.stamps.values())
    }

    pub(super) fn insert(&mut self, key: ObjectKey, stamp: Stamp) {
        let members = self.parts.entry(part_of(&key)).or_default();
        members.sha256 = None;
        members.stamps.insert(key, stamp);
    }

    pub(super) fn remove(&mut self, key: &ObjectKey) {
        let part = part_of(key);
        let Some(members) = self.parts.get_mut(&part) else {
            return;
        };
        members.sha256 = None;
        members.stamps.remove(key);
        if members.stamps.is_empty() {
            self.parts.remove(&part);
        }
    }

    /// SHA-256 over those of the parts, in key order.
    pub(super) fn content_sha256(&mut self) -> Sha256 {
        self.digest_parts();
        let parts = self.parts.values().filter_map(|members| members.sha256);
        over(parts)
    }

    fn digest_parts(&mut self) {
        let changed = self.parts.iter().filter(|(_, it)| it.sha256.is_none());
        let changed: Vec<Part> = changed.map(|(part, _)| part.clone()).collect();
        for part in changed {
            if let Some(members) = self.parts.get_mut(&part) {
                let objects = members.stamps.values().map(|stamp| stamp.sha256);
                members.sha256 = Some(over(objects));
            }
        }
    }
}

/// What is kept to be quick makes no difference.
impl PartialEq for Members {
    fn eq(&self, other: &Self) -> bool {
        self.stamps == other.stamps
    }
}

impl Eq for Members {}

fn part_of(key: &ObjectKey) -> Part {
    (key.kind, key.namespace.clone())
}

fn over(digests: impl Iterator<Item = Sha256>) -> Sha256 {
    let bytes: Vec<u8> = digests.flat_map(|digest| *digest.as_bytes()).collect();
    Sha256::of(&bytes)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn key(number: u8) -> ObjectKey {
        ObjectKey {
            kind: if number.is_multiple_of(2) {
                Kind::Workload
            } else {
                Kind::Service
            },
            namespace: Some(format!("n{}", number / 2 % 3).parse().unwrap()),
            name: format!("o{number}").parse().unwrap(),
        }
    }

    fn stamp(content: u8) -> Stamp {
        Stamp {
            revision: Revision {
                epoch: 1,
                number: u64::from(content),
            },
            sha256: Sha256::of(&[content]),
        }
    }

    #[test]
    fn a_change_that_is_taken_back_gives_the_digest_from_before() {
        let mut stamps = Stamps::default();
        stamps.insert(key(1), stamp(1));
        let before = stamps.content_sha256();
        stamps.insert(key(2), stamp(2));
        assert_ne!(stamps.content_sha256(), before);
        stamps.remove(&key(2));
        assert_eq!(stamps.content_sha256(), before);
    }

    proptest! {
        #[test]
        fn the_digest_is_of_what_there_is_however_it_came_to_be(
            changes in vec((0_u8..12, proptest::option::of(any::<u8>()), any::<bool>()), 0..40),
        ) {
            let mut followed = Stamps::default();
            let mut last = std::collections::BTreeMap::new();
            for (number, content, look) in changes {
                match content {
                    Some(content) => {
                        followed.insert(key(number), stamp(content));
                        last.insert(key(number), stamp(content));
                    }
                    None => {
                        followed.remove(&key(number));
                        last.remove(&key(number));
                    }
                }
                if look {
                    followed.content_sha256();
                }
            }
            let mut anew = Stamps::default();
            last.iter().for_each(|(key, stamp)| anew.insert(key.clone(), *stamp));
            prop_assert_eq!(followed.content_sha256(), anew.content_sha256());
            prop_assert!(followed.values().eq(last.values()));
        }
    }
}
