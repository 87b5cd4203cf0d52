//! Whom writes are to wait for at one replica, as it tells the others: who has not acknowledged what
//! is in force, and whose agents and proxies could not obey what a newer engine means.
//!
//! Invariant: what is left out for its number is counted. It is what a replica has heard some seconds
//! ago, never a ground for a decision about an identity.

use std::collections::BTreeMap;

use identity::SpiffeId;
use policy::ENGINE_VERSION;
use serde::{Deserialize, Serialize};

use super::presence::ConnectedAgent;

/// So many are named of each; more are counted.
const MOST_NAMED: usize = 100;

/// What one replica knows of its own agents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HoldUps {
    /// The number of the revision that `pending` is about.
    revision: u64,
    pending: Named<Pending>,
    /// How many proxies have which policy engine.
    engines: BTreeMap<u32, u64>,
    /// Those older than the replica's own build.
    old_proxies: Named<OldProxy>,
    /// Agents that tell their proxies of no deny-list.
    deaf: Named<SpiffeId>,
}

/// A part of them by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Named<T> {
    some: Vec<T>,
    count: u64,
}

/// An agent that has not acknowledged all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Pending {
    agent: SpiffeId,
    /// The number of the last that it did acknowledge; 0 without any.
    acknowledged: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OldProxy {
    /// In words.
    name: String,
    engine: u32,
}

impl HoldUps {
    pub(super) fn of<'a>(
        agents: impl Iterator<Item = &'a ConnectedAgent>,
        head: policy::Revision,
    ) -> Self {
        let mut told = Self {
            revision: head.number,
            ..Self::default()
        };
        for agent in agents {
            if !agent.has(head) {
                let known = agent.acknowledged.filter(|known| known.epoch == head.epoch);
                told.pending.push(|| Pending {
                    agent: agent.agent.clone(),
                    acknowledged: known.map_or(0, |known| known.number),
                });
            }
            if !agent.introduction.obeys_deny_lists {
                told.deaf.push(|| agent.agent.clone());
            }
            for proxies in agent.engines() {
                *told.engines.entry(proxies.engine).or_default() += 1;
                if proxies.engine < ENGINE_VERSION {
                    told.old_proxies.push(|| OldProxy {
                        name: proxies.to_string(),
                        engine: proxies.engine,
                    });
                }
            }
        }
        told
    }

    /// The agents known to lack a revision, and how many there are; `None`: the replica has said
    /// nothing of it yet.
    pub(crate) fn pending(&self, number: u64) -> Option<(Vec<&SpiffeId>, u64)> {
        if self.revision < number {
            return None;
        }
        let lacks = |it: &&Pending| it.acknowledged < number;
        let named: Vec<_> = self.pending.some.iter().filter(lacks).collect();
        let unnamed = self.pending.unnamed();
        let count = named.len() as u64 + unnamed;
        Some((named.into_iter().map(|it| &it.agent).collect(), count))
    }

    /// The proxies whose engine is older than `needed`: some by name, and how many there are.
    pub(crate) fn behind(&self, needed: u32) -> (Vec<&str>, u64) {
        let old = self.old_proxies.some.iter();
        let old = old.filter(|proxy| proxy.engine < needed);
        let count = self.engines.range(..needed).map(|(_, count)| count).sum();
        (old.map(|proxy| &*proxy.name).collect(), count)
    }

    /// The agents that tell their proxies of no deny-list.
    pub(crate) fn deaf(&self) -> (&[SpiffeId], u64) {
        (&self.deaf.some, self.deaf.count)
    }
}

impl<T> Named<T> {
    fn push(&mut self, one: impl FnOnce() -> T) {
        self.count += 1;
        if self.some.len() < MOST_NAMED {
            self.some.push(one());
        }
    }

    fn unnamed(&self) -> u64 {
        self.count.saturating_sub(self.some.len() as u64)
    }
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self {
            some: Vec::new(),
            count: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use policy::Revision;
    use proptest::prelude::*;

    use super::*;
    use crate::issue::AdmittedAgents;
    use crate::watch::{AttachedProxy, Introduction, Presence};

    const HEAD: Revision = Revision {
        epoch: 1,
        number: 9,
    };

    fn agent(number: usize) -> SpiffeId {
        let id = format!("spiffe://td.test/countersign/agent/join-token/web-{number}");
        id.parse().unwrap()
    }

    fn presence() -> Presence {
        Presence::new(AdmittedAgents::default())
    }

    fn introduction(engine_version: u32) -> Introduction {
        Introduction {
            product: "countersign-agent/0.1.0".to_owned(),
            engine_version,
            clock_offset: time::Duration::ZERO,
            obeys_deny_lists: engine_version > 1,
        }
    }

    fn told(presence: &Presence) -> HoldUps {
        let json = serde_json::to_string(&presence.hold_ups(HEAD)).unwrap();
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn nothing_is_said_of_a_revision_after_the_one_that_was_in_force() {
        let presence = presence();
        let _live = presence.connect(&agent(1), introduction(ENGINE_VERSION));
        let told = told(&presence);
        assert_eq!(told.pending(10), None);
        assert_eq!(told.pending(9), Some((vec![&agent(1)], 1)));
    }

    #[test]
    fn an_agent_that_has_an_earlier_revision_is_pending_for_the_later_only() {
        let presence = presence();
        let live = presence.connect(&agent(1), introduction(ENGINE_VERSION));
        live.acknowledged(Revision {
            epoch: 1,
            number: 7,
        });
        let told = told(&presence);
        assert_eq!(told.pending(7), Some((vec![], 0)));
        assert_eq!(told.pending(8), Some((vec![&agent(1)], 1)));
    }

    #[test]
    fn proxies_of_an_older_engine_and_agents_that_tell_no_deny_list_are_named() {
        let presence = presence();
        let _deaf = presence.connect(&agent(1), introduction(1));
        let live = presence.connect(&agent(2), introduction(ENGINE_VERSION));
        live.attached(vec![AttachedProxy {
            workload: "shop/checkout".parse().unwrap(),
            product: "countersign-proxy/0.1.0".to_owned(),
            engine_version: 2,
        }]);
        let told = told(&presence);
        assert_eq!(told.behind(1), (vec![], 0));
        let (named, count) = told.behind(2);
        assert!(named[0].contains("web-1 (engine 1)"), "{named:?}");
        assert_eq!((named.len(), count), (1, 1));
        assert_eq!(told.behind(3).1, 2);
        assert_eq!(told.deaf(), (&[agent(1)][..], 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn whoever_is_not_named_is_counted(agents in 0_usize..300) {
            let presence = presence();
            let live: Vec<_> = (0..agents)
                .map(|number| presence.connect(&agent(number), introduction(1)))
                .collect();
            let told = told(&presence);
            let named = agents.min(MOST_NAMED);
            let (pending, count) = told.pending(9).unwrap();
            prop_assert_eq!((pending.len(), count), (named, agents as u64));
            let (old, count) = told.behind(2);
            prop_assert_eq!((old.len(), count), (named, agents as u64));
            let (deaf, count) = told.deaf();
            prop_assert_eq!((deaf.len(), count), (named, agents as u64));
            drop(live);
        }
    }
}
