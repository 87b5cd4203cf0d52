//! Who is refused at one revision although the certificate verifies, as everybody is told of it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use identity::SpiffeId;
use identity::x509::{Denied, DenyList};
use proto::agent::v1 as agent;
use proto::mesh::v1 as wire;
use time::OffsetDateTime;

use super::{HeldDenial, RegistryError};
use crate::store::Store;

/// Immutable.
#[derive(Debug, Default, Clone)]
pub(crate) struct PublishedDenials {
    /// When each leaves by itself.
    entries: BTreeMap<Denied, Option<OffsetDateTime>>,
    list: DenyList,
    /// Agents; what was issued through them is in the list.
    banned: Arc<HashSet<SpiffeId>>,
}

impl PublishedDenials {
    /// As the store has it.
    pub(super) async fn read(store: &Store, now: OffsetDateTime) -> Result<Self, RegistryError> {
        // Read first: what was issued through those that are banned here is listed.
        let bans = store.agent_bans().await.map_err(RegistryError::Store)?;
        let denied = store.denied(now).await.map_err(RegistryError::Store)?;
        let banned = bans.into_iter().map(|ban| ban.spiffe_id).collect();
        Ok(Self {
            banned: Arc::new(banned),
            ..Self::of(denied)?
        })
    }

    pub(super) fn of(
        entries: impl IntoIterator<Item = (Denied, Option<OffsetDateTime>)>,
    ) -> Result<Self, RegistryError> {
        let mut all = BTreeMap::new();
        for (entry, end) in entries {
            // Of two that name the same, the one that stays longer counts.
            let longest = match all.get(&entry) {
                Some(None) => None,
                Some(Some(known)) => end.map(|end| end.max(*known)),
                None => end,
            };
            all.insert(entry, longest);
        }
        let list = DenyList::new(all.keys().cloned()).map_err(RegistryError::Denials)?;
        Ok(Self {
            entries: all,
            list,
            banned: Arc::default(),
        })
    }

    /// With more; `None` if all of them are on it, and stay as long.
    pub(super) fn and(&self, more: &[HeldDenial]) -> Result<Option<Self>, RegistryError> {
        let longer = |(entry, end): &HeldDenial| match self.entries.get(entry) {
            None => true,
            Some(None) => false,
            Some(Some(known)) => end.is_none_or(|end| end > *known),
        };
        if !more.iter().any(longer) {
            return Ok(None);
        }
        let known = self
            .entries
            .iter()
            .map(|(entry, end)| (entry.clone(), *end));
        let with = Self::of(known.chain(more.iter().cloned()))?;
        Ok(Some(self.keeping_bans(with)))
    }

    fn keeping_bans(&self, entries: Self) -> Self {
        Self {
            banned: Arc::clone(&self.banned),
            ..entries
        }
    }

    pub(crate) fn list(&self) -> &DenyList {
        &self.list
    }

    /// Whether the agent is banned.
    pub(crate) fn bans(&self, agent: &SpiffeId) -> bool {
        self.banned.contains(agent)
    }

    #[cfg(test)]
    pub(crate) fn of_banned(agents: impl IntoIterator<Item = SpiffeId>) -> Self {
        Self {
            banned: Arc::new(agents.into_iter().collect()),
            ..Self::default()
        }
    }

    /// Without what has ended at `now`; `None` if nothing has.
    pub(super) fn without_ended(&self, now: OffsetDateTime) -> Option<Self> {
        let goes_on = |end: &Option<OffsetDateTime>| end.is_none_or(|end| end > now);
        if self.entries.values().all(goes_on) {
            return None;
        }
        let entries = self.entries.iter().filter(|(_, end)| goes_on(end));
        let entries = entries.map(|(entry, end)| (entry.clone(), *end));
        let left = Self::of(entries).expect("a part of a list is no longer than the list");
        Some(self.keeping_bans(left))
    }

    /// The list as agents and proxies get it.
    pub(crate) fn wire(&self) -> wire::DenyList {
        wire_list(self.entries.keys())
    }

    /// What turns `before` into this; `None` if nothing is to be done.
    pub(crate) fn since(&self, before: &Self) -> Option<agent::DenyListChange> {
        let missing = |from: &Self, of: &Self| {
            let entries = of.entries.keys();
            wire_list(entries.filter(|entry| !from.entries.contains_key(*entry)))
        };
        (self.list != before.list).then(|| agent::DenyListChange {
            whole: false,
            added: Some(missing(before, self)),
            removed: Some(missing(self, before)),
        })
    }

    /// For somebody who may hold anything.
    pub(crate) fn whole(&self) -> agent::DenyListChange {
        agent::DenyListChange {
            whole: true,
            added: Some(self.wire()),
            removed: None,
        }
    }
}

fn wire_list<'a>(entries: impl Iterator<Item = &'a Denied>) -> wire::DenyList {
    let mut list = wire::DenyList::default();
    for entry in entries {
        match entry {
            Denied::Identity(id) => list.identities.push(id.to_string()),
            Denied::Serial(serial) => list.serials.push(serial.as_bytes().to_vec()),
            Denied::Authority(key) => list.authorities.push(key.as_bytes().to_vec()),
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use identity::SerialNumber;
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2030-01-01 00:00 UTC);

    fn serial(number: u8) -> Denied {
        Denied::Serial(SerialNumber::from_bytes(&[number]).unwrap())
    }

    fn denials(entries: &[(u8, Option<i64>)]) -> PublishedDenials {
        let entries = entries.iter().map(|(number, end)| {
            let end = end.map(|minutes| NOW + time::Duration::minutes(minutes));
            (serial(*number), end)
        });
        PublishedDenials::of(entries).unwrap()
    }

    #[test]
    fn what_has_ended_leaves_and_what_has_no_end_stays() {
        let all = denials(&[(1, Some(0)), (2, Some(1)), (3, None)]);
        let left = all.without_ended(NOW).unwrap();
        assert!(!left.list().contains(&serial(1)));
        assert_eq!(left.list().len(), 2);
        assert!(left.without_ended(NOW).is_none());
        let later = left.without_ended(NOW + Duration::from_secs(3600)).unwrap();
        assert_eq!(later.list(), denials(&[(3, None)]).list());
    }

    #[test]
    fn of_two_that_name_the_same_the_longer_counts() {
        for entries in [[(1, Some(0)), (1, Some(1))], [(1, Some(0)), (1, None)]] {
            assert!(denials(&entries).without_ended(NOW).is_none());
            let [first, second] = entries;
            assert!(denials(&[second, first]).without_ended(NOW).is_none());
        }
    }

    /// What an agent does with a change.
    fn applied(held: &BTreeSet<Vec<u8>>, change: &agent::DenyListChange) -> BTreeSet<Vec<u8>> {
        let serials = |list: &Option<wire::DenyList>| -> BTreeSet<Vec<u8>> {
            list.iter().flat_map(|it| it.serials.clone()).collect()
        };
        let held = if change.whole {
            BTreeSet::new()
        } else {
            held.clone()
        };
        let (added, removed) = (serials(&change.added), serials(&change.removed));
        held.difference(&removed).cloned().chain(added).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn a_change_turns_the_list_before_into_this_one(
            before in prop::collection::vec(1u8..20, 0..12),
            after in prop::collection::vec(1u8..20, 0..12),
        ) {
            let of = |numbers: &[u8]| {
                let entries: Vec<_> = numbers.iter().map(|number| (*number, None)).collect();
                denials(&entries)
            };
            let (before, after) = (of(&before), of(&after));
            let held: BTreeSet<_> = before.wire().serials.into_iter().collect();
            let wanted: BTreeSet<_> = after.wire().serials.into_iter().collect();
            match after.since(&before) {
                None => prop_assert_eq!(&held, &wanted),
                Some(change) => prop_assert_eq!(&applied(&held, &change), &wanted),
            }
            prop_assert_eq!(applied(&held, &after.whole()), wanted);
        }
    }
}
