//! The deny-list as the CA last told it: what proxies are sent, and what this agent itself obeys.
//!
//! Invariant: both forms say the same. A change that cannot be read whole is not taken.

use std::collections::BTreeSet;

use identity::x509::{DenyList, DenyListError};
use proto::agent::v1 as wire;
use proto::mesh::v1 as mesh;

/// Immutable.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct HeldDenials {
    identities: BTreeSet<String>,
    serials: BTreeSet<Vec<u8>>,
    authorities: BTreeSet<Vec<u8>>,
    list: DenyList,
}

impl HeldDenials {
    pub(super) fn of(list: mesh::DenyList) -> Result<Self, DenyListError> {
        Self::parsed(
            list.identities.into_iter().collect(),
            list.serials.into_iter().collect(),
            list.authorities.into_iter().collect(),
        )
    }

    pub(super) fn changed(&self, change: wire::DenyListChange) -> Result<Self, DenyListError> {
        let (added, removed) = (
            change.added.unwrap_or_default(),
            change.removed.unwrap_or_default(),
        );
        let kept = |keep: bool| keep && !change.whole;
        let identities = self.identities.iter();
        let identities = identities.filter(|it| kept(!removed.identities.contains(it)));
        let (gone_serials, gone_keys): (BTreeSet<_>, BTreeSet<_>) = (
            removed.serials.into_iter().collect(),
            removed.authorities.into_iter().collect(),
        );
        let serials = self.serials.iter();
        let serials = serials.filter(|it| kept(!gone_serials.contains(*it)));
        let authorities = self.authorities.iter();
        let authorities = authorities.filter(|it| kept(!gone_keys.contains(*it)));
        Self::parsed(
            identities.cloned().chain(added.identities).collect(),
            serials.cloned().chain(added.serials).collect(),
            authorities.cloned().chain(added.authorities).collect(),
        )
    }

    fn parsed(
        identities: BTreeSet<String>,
        serials: BTreeSet<Vec<u8>>,
        authorities: BTreeSet<Vec<u8>>,
    ) -> Result<Self, DenyListError> {
        let list = DenyList::parse(
            &identities.iter().collect::<Vec<_>>(),
            &serials.iter().collect::<Vec<_>>(),
            &authorities.iter().collect::<Vec<_>>(),
        )?;
        Ok(Self {
            identities,
            serials,
            authorities,
            list,
        })
    }

    /// In an order of its own, so that equal lists are equal messages.
    pub(super) fn wire(&self) -> mesh::DenyList {
        mesh::DenyList {
            identities: self.identities.iter().cloned().collect(),
            serials: self.serials.iter().cloned().collect(),
            authorities: self.authorities.iter().cloned().collect(),
        }
    }

    pub(crate) fn list(&self) -> &DenyList {
        &self.list
    }
}

#[cfg(test)]
mod tests {
    use identity::SpiffeIdError;
    use proptest::prelude::*;

    use super::*;

    fn serials(numbers: &[u8]) -> mesh::DenyList {
        mesh::DenyList {
            serials: numbers.iter().map(|number| vec![*number]).collect(),
            ..mesh::DenyList::default()
        }
    }

    #[test]
    fn a_change_that_cannot_be_read_is_not_taken() {
        let held = HeldDenials::of(serials(&[7])).unwrap();
        let change = wire::DenyListChange {
            added: Some(mesh::DenyList {
                identities: vec!["orders".to_owned()],
                ..mesh::DenyList::default()
            }),
            ..wire::DenyListChange::default()
        };
        assert_eq!(
            held.changed(change),
            Err(DenyListError::Identity(SpiffeIdError::Scheme))
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn changes_lead_where_the_whole_list_leads(
            first in prop::collection::vec(1u8..16, 0..8),
            steps in prop::collection::vec(
                (prop::collection::vec(1u8..16, 0..4), prop::collection::vec(1u8..16, 0..4), any::<bool>()),
                0..6,
            ),
        ) {
            let mut held = HeldDenials::of(serials(&first)).unwrap();
            let mut model: BTreeSet<u8> = first.into_iter().collect();
            for (added, removed, whole) in steps {
                if whole {
                    model.clear();
                }
                model.retain(|number| !removed.contains(number));
                model.extend(&added);
                held = held.changed(wire::DenyListChange {
                    whole,
                    added: Some(serials(&added)),
                    removed: Some(serials(&removed)),
                }).unwrap();
                let wanted: Vec<u8> = model.iter().copied().collect();
                prop_assert_eq!(held.wire(), serials(&wanted));
                prop_assert_eq!(held.list().len(), model.len());
            }
        }
    }
}
