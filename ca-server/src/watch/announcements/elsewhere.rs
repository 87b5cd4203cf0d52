//! What other replicas have written of their agents, and what this one wrote in an earlier life.
//!
//! Invariant: rows go when their replica says so, or when it was not heard of for the grace and one
//! heartbeat, as long as the store can be read; who cannot read forgets nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use identity::SpiffeId;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{Announcement, GRACE};
use crate::store::AnnouncedRow;
use crate::watch::enforcement::HEARTBEAT;

/// Longer than every pause between two reads that follow one another.
const READ_WITHIN: Duration = Duration::from_secs(20);

/// When each replica last said that it lives, by its own clock: only a change counts.
pub(in crate::watch) type Seen = BTreeMap<String, OffsetDateTime>;

/// A replica that is over, and up to which stamp its rows are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::watch) struct Lost {
    pub(in crate::watch) replica: String,
    pub(in crate::watch) seen: Option<OffsetDateTime>,
    pub(in crate::watch) stamp: u64,
}

/// Which of two lists of an agent counts: the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Standing {
    pub(super) open: bool,
    pub(super) stamp: u64,
}

#[derive(Debug)]
pub(super) struct Elsewhere {
    own: String,
    agents: BTreeMap<SpiffeId, BTreeMap<String, Row>>,
    replicas: BTreeMap<String, Other>,
    read_at: Option<Instant>,
}

#[derive(Debug)]
struct Row {
    stamp: u64,
    connected: bool,
    list: Option<Vec<Announcement>>,
    ends: Option<Instant>,
}

#[derive(Debug)]
struct Other {
    stamp: u64,
    seen: Option<OffsetDateTime>,
    /// When `seen` last changed.
    heard_at: Instant,
    live: bool,
}

impl Elsewhere {
    pub(super) fn new(own: &str) -> Self {
        Self {
            own: own.to_owned(),
            agents: BTreeMap::new(),
            replicas: BTreeMap::new(),
            read_at: None,
        }
    }

    /// Answers which agents it knows of now.
    pub(super) fn replace_all(&mut self, rows: Vec<AnnouncedRow>, now: Instant) -> Vec<SpiffeId> {
        for row in self.agents.values_mut().flat_map(BTreeMap::values_mut) {
            row.ends.get_or_insert(now + GRACE);
        }
        let first = self.read_at.is_none();
        self.read_at = Some(now);
        for other in self.replicas.values_mut() {
            // What was restored may be older.
            other.stamp = 0;
        }
        for row in rows {
            let own = row.replica == self.own;
            if own && !first {
                continue;
            }
            let (agent, replica) = (row.agent.clone(), row.replica.clone());
            self.take(row, now);
            if own && let Some(row) = self.row(&agent, &replica) {
                row.connected = false;
                row.ends = Some(now + GRACE);
            }
        }
        self.agents.keys().cloned().collect()
    }

    /// What a replica has written. An earlier word of it is not news.
    pub(super) fn put(&mut self, row: AnnouncedRow) {
        if row.replica != self.own {
            self.take(row, Instant::now());
        }
    }

    pub(super) fn met(&mut self, replica: &str, now: Instant) {
        let other = self.replicas.entry(replica.to_owned());
        let other = other.or_insert_with(|| Other::new(now));
        (other.heard_at, other.live) = (now, true);
    }

    fn take(&mut self, row: AnnouncedRow, now: Instant) {
        if row.replica != self.own {
            let other = self.replicas.entry(row.replica.clone());
            let other = other.or_insert_with(|| Other::new(now));
            other.stamp = other.stamp.max(row.stamp);
        }
        let rows = self.agents.entry(row.agent.clone()).or_default();
        let list = row.list.as_deref().and_then(|text| decode(text, &row));
        if row.connected || list.is_some() {
            let known = Row {
                stamp: row.stamp,
                connected: row.connected,
                list,
                ends: None,
            };
            rows.insert(row.replica, known);
        } else {
            rows.remove(&row.replica);
        }
        if rows.is_empty() {
            self.agents.remove(&row.agent);
        }
    }

    /// Follows the heartbeats of a store that can be read. Answers which replicas are over.
    pub(super) fn seen(&mut self, seen: &Seen, now: Instant) -> Vec<Lost> {
        let blind = self.read_at.is_none_or(|at| now - at > READ_WITHIN);
        self.read_at = Some(now);
        for replica in seen.keys() {
            if *replica != self.own && !self.replicas.contains_key(replica) {
                self.met(replica, now);
            }
        }
        let mut lost = Vec::new();
        self.replicas.retain(|replica, other| {
            let said = seen.get(replica).copied();
            other.live = said.is_some();
            if blind || (said.is_some() && said != other.seen) {
                other.heard_at = now;
            }
            other.seen = said.or(other.seen);
            let over = now - other.heard_at >= GRACE + HEARTBEAT;
            if over {
                lost.push(Lost {
                    replica: replica.clone(),
                    seen: said,
                    stamp: other.stamp,
                });
            }
            !over
        });
        for Lost { replica, .. } in &lost {
            self.agents.retain(|_, rows| {
                rows.remove(replica);
                !rows.is_empty()
            });
        }
        lost
    }

    /// What this replica wrote of the agent in an earlier life, if it still counts.
    pub(super) fn take_own(&mut self, agent: &SpiffeId) -> Option<(Vec<Announcement>, Instant)> {
        let rows = self.agents.get_mut(agent)?;
        let row = rows.remove(&self.own);
        if rows.is_empty() {
            self.agents.remove(agent);
        }
        let row = row?;
        Some((row.list?, row.ends?))
    }

    /// What is over by now; answers of which agents this replica has nothing more to say.
    pub(super) fn end(&mut self, now: Instant) -> Vec<SpiffeId> {
        let mut own = Vec::new();
        self.agents.retain(|agent, rows| {
            rows.retain(|replica, row| {
                let over = row.ends.is_some_and(|at| at <= now);
                if over && *replica == self.own {
                    own.push(agent.clone());
                }
                !over
            });
            !rows.is_empty()
        });
        own
    }

    pub(super) fn next_end(&self) -> Option<Instant> {
        let rows = self.agents.values().flat_map(BTreeMap::values);
        rows.filter_map(|row| row.ends).min()
    }

    pub(super) fn others(&self) -> impl Iterator<Item = &str> {
        let live = self.replicas.iter().filter(|(_, other)| other.live);
        live.map(|(replica, _)| replica.as_str())
    }

    pub(super) fn known(&self) -> BTreeMap<String, u64> {
        let others = self.replicas.iter();
        others
            .map(|(replica, other)| (replica.clone(), other.stamp))
            .collect()
    }

    pub(super) fn agents(&self) -> impl Iterator<Item = &SpiffeId> {
        self.agents.keys()
    }

    /// Agents whose stream another replica holds.
    pub(super) fn connected(&self) -> impl Iterator<Item = (&SpiffeId, &str)> {
        self.agents.iter().filter_map(|(agent, rows)| {
            let open = rows.iter().filter(|(_, row)| row.connected);
            let (replica, _) = open.max_by_key(|(_, row)| row.stamp)?;
            Some((agent, replica.as_str()))
        })
    }

    /// The list that counts among those of other replicas.
    pub(super) fn best(&self, agent: &SpiffeId) -> Option<(Standing, &[Announcement])> {
        let rows = self.agents.get(agent)?.values();
        let lists = rows.filter_map(|row| Some((row.standing(), row.list.as_deref()?)));
        lists.max_by_key(|(standing, _)| *standing)
    }

    fn row(&mut self, agent: &SpiffeId, replica: &str) -> Option<&mut Row> {
        self.agents.get_mut(agent)?.get_mut(replica)
    }
}

impl Row {
    fn standing(&self) -> Standing {
        Standing {
            open: self.connected && self.ends.is_none(),
            stamp: self.stamp,
        }
    }
}

impl Other {
    fn new(now: Instant) -> Self {
        Self {
            stamp: 0,
            seen: None,
            heard_at: now,
            live: true,
        }
    }
}

pub(super) fn encode(list: &[Announcement]) -> String {
    serde_json::to_string(list).expect("names, texts and numbers are JSON")
}

/// What cannot be read is told to nobody; a newer build may have written it.
fn decode(text: &str, row: &AnnouncedRow) -> Option<Vec<Announcement>> {
    let list = serde_json::from_str(text);
    list.inspect_err(|error| {
        tracing::warn!(
            agent = %row.agent,
            replica = row.replica,
            %error,
            "what an agent announces through another replica cannot be read"
        );
    })
    .ok()
}
