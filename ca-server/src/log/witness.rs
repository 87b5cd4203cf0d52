//! Holds what proxies see against what was recorded: a leaf that is not in the log was signed by
//! somebody else with a key of ours, or its record was lost.
//!
//! Invariant: bounded, whoever reports. A leaf is judged only once it must be in the log if it is
//! honest, and no alarm is raised while the store cannot be asked.

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use crypto::digest::Sha256;
use identity::SpiffeId;
use runtime::{Clock, Shutdown};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::MERGE_DELAY;
use crate::metrics::Metrics;
use crate::store::{SeenLeaf, Store, StoreError};

/// Beside the merge delay, for a step that takes its time.
const GRACE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_secs(1);
/// Messages of agents that wait to be read.
const QUEUE: usize = 1_024;
/// Leaves that wait to be judged.
const MOST_PENDING: usize = 8_192;
/// Of them, those that one agent reported.
const MOST_OF_ONE_AGENT: usize = 256;
/// Leaves known to be logged, which are not asked for again.
const MOST_KNOWN: usize = 65_536;
/// Leaves in one question to the store.
const BATCH: usize = 512;

/// Where the replica's streams say what was seen. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Sightings(mpsc::Sender<Vec<SeenLeaf>>);

/// The background job.
#[derive(Debug)]
pub(crate) struct Witness {
    heard: mpsc::Receiver<Vec<SeenLeaf>>,
    docket: Docket,
    store: Store,
    clock: Clock,
    metrics: Metrics,
    /// An honest record reaches the store this late at most, from a replica that was cut off.
    spooled_for: Duration,
    /// Another instance stands above this one.
    is_nested: bool,
}

/// What is still to be judged, in the order in which it is due.
#[derive(Debug, Default)]
struct Docket {
    pending: VecDeque<(Instant, SeenLeaf)>,
    digests: HashSet<Sha256>,
    of_agent: HashMap<SpiffeId, usize>,
    logged: HashSet<Sha256>,
}

impl Sightings {
    /// What no room is left for is let go: proxies say it again.
    pub(crate) fn note(&self, seen: Vec<SeenLeaf>) {
        if self.0.try_send(seen).is_err() {
            tracing::debug!("sightings of leaves were let go: too many wait");
        }
    }
}

impl Witness {
    pub(crate) fn new(
        store: Store,
        clock: Clock,
        metrics: Metrics,
        (spooled_for, is_nested): (Duration, bool),
    ) -> (Sightings, Self) {
        let (sender, heard) = mpsc::channel(QUEUE);
        let witness = Self {
            heard,
            docket: Docket::default(),
            store,
            clock,
            metrics,
            spooled_for,
            is_nested,
        };
        (Sightings(sender), witness)
    }

    /// Runs until the shutdown begins.
    pub(crate) async fn run(mut self, shutdown: Shutdown) -> Result<(), Infallible> {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                Some(seen) = self.heard.recv() => self.hear(seen),
                _ = looks.tick() => {
                    if let Err(error) = self.judge(Instant::now()).await {
                        tracing::warn!(
                            error = %runtime::exit::one_line(&error),
                            "leaves that proxies saw cannot be looked up"
                        );
                    }
                }
            }
        }
    }

    fn hear(&mut self, seen: Vec<SeenLeaf>) {
        let due = Instant::now() + self.spooled_for + MERGE_DELAY + GRACE;
        for leaf in seen {
            // What other trust domains sign is in their logs.
            if leaf.spiffe_id.trust_domain() == self.store.trust_domain() {
                self.docket.enter(leaf, due);
            }
        }
    }

    /// Judges what is due by `now`.
    async fn judge(&mut self, now: Instant) -> Result<(), StoreError> {
        loop {
            let due = self.docket.due(now);
            if due.is_empty() {
                return Ok(());
            }
            let logged = self.store.logged_of(&due).await?;
            let unlogged = due.iter().filter(|leaf| !logged.contains(&leaf.sha256));
            let unlogged = self.without_others(unlogged.cloned().collect()).await?;
            if !unlogged.is_empty() {
                self.alarm(&unlogged).await?;
            }
            self.docket.settle(&due, &logged);
        }
    }

    /// What another instance under the same roots signs is in its own log.
    async fn without_others(&self, mut leaves: Vec<SeenLeaf>) -> Result<Vec<SeenLeaf>, StoreError> {
        if leaves.is_empty() {
            return Ok(leaves);
        }
        let below = self.store.keys_below().await?;
        leaves.retain(|leaf| !leaf.authorities.iter().any(|key| below.contains(key)));
        if self.is_nested {
            let own = self.store.mesh_authority_keys().await?;
            let is_own = |leaf: &SeenLeaf| leaf.authorities.iter().any(|key| own.contains(key));
            leaves.retain(|leaf| leaf.authorities.is_empty() || is_own(leaf));
        }
        Ok(leaves)
    }

    async fn alarm(&self, unlogged: &[SeenLeaf]) -> Result<(), StoreError> {
        let new = self.store.note_unlogged(unlogged, self.clock.now()).await?;
        self.metrics.unlogged(new.len());
        for leaf in new {
            let seen = &leaf.seen;
            tracing::error!(
                alarm = "unlogged-leaf",
                spiffe_id = %seen.spiffe_id,
                serial = %seen.serial,
                sha256 = %seen.sha256,
                reporter = %seen.agent_id,
                workload = %seen.workload,
                "a certificate is in use that this CA has not recorded: a signing key is in other \
                 hands, or records were lost"
            );
        }
        Ok(())
    }
}

impl Docket {
    fn enter(&mut self, leaf: SeenLeaf, due: Instant) {
        if self.logged.contains(&leaf.sha256) || self.digests.contains(&leaf.sha256) {
            return;
        }
        let of_agent = self.of_agent.entry(leaf.agent_id.clone()).or_default();
        if self.pending.len() >= MOST_PENDING || *of_agent >= MOST_OF_ONE_AGENT {
            return;
        }
        *of_agent += 1;
        self.digests.insert(leaf.sha256);
        self.pending.push_back((due, leaf));
    }

    /// The first of what is due; it stays until it is settled.
    fn due(&self, now: Instant) -> Vec<SeenLeaf> {
        let due = self.pending.iter().take_while(|(due, _)| *due <= now);
        due.take(BATCH).map(|(_, leaf)| leaf.clone()).collect()
    }

    /// These, which were due, were judged.
    fn settle(&mut self, judged: &[SeenLeaf], logged: &HashSet<Sha256>) {
        for leaf in judged {
            self.pending.pop_front();
            self.digests.remove(&leaf.sha256);
            if let Some(count) = self.of_agent.get_mut(&leaf.agent_id) {
                *count -= 1;
                if *count == 0 {
                    self.of_agent.remove(&leaf.agent_id);
                }
            }
        }
        if self.logged.len() + logged.len() > MOST_KNOWN {
            self.logged.clear();
        }
        self.logged.extend(logged);
    }
}

#[cfg(test)]
#[path = "witness/tests.rs"]
mod tests;
