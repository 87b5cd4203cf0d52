//! Where the workloads of each Service can be reached, as their agents announce it here and at other
//! replicas: a synchronous machine, `(state, event, now) → state`, whose result is published whole.
//!
//! An announcement lives as long as the stream that carried it, and a grace after. It counts only
//! while the registry says that the Service names the workload and the workload names the agent.
//! Of what an agent says through two replicas the open stream counts, and of two the later.
//! A replica that has just started may not know what was announced to it before: it keeps silent
//! about a Service until each agent that could host it has spoken, or has had the time to.

mod elsewhere;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use identity::{QualifiedName, SpiffeId};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::presence::StreamId;
use crate::store::{AnnouncedChange, AnnouncedRow};
use elsewhere::{Elsewhere, Standing};
pub(super) use elsewhere::{Lost, Seen};

/// How long an announcement outlives its stream, and how long a new replica removes nothing.
pub(super) const GRACE: Duration = Duration::from_secs(30);

/// One mesh listener, in front of one workload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Endpoint {
    /// IP address or host name.
    pub(super) address: String,
    /// Port of the Service, by name, to the mesh listener's port.
    pub(super) ports: BTreeMap<String, u16>,
    pub(super) zone: String,
}

/// What an agent says of one workload's proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Announcement {
    pub(super) workload: QualifiedName,
    pub(super) service: QualifiedName,
    pub(super) endpoint: Endpoint,
}

/// Who may announce what, from one state of the registry.
pub(super) trait Hosting {
    /// Whether the Service names the workload and the workload's entry names the agent.
    fn permits(&self, agent: &SpiffeId, workload: &QualifiedName, service: &QualifiedName) -> bool;
    /// The Services that the agent could announce.
    fn services_of(&self, agent: &SpiffeId) -> BTreeSet<QualifiedName>;
}

/// All endpoints of one Service; `generation` grows with each change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) generation: u64,
    pub(super) endpoints: Vec<Endpoint>,
}

/// What subscribers may be told now.
#[derive(Debug, Clone, Default)]
pub(super) struct EndpointMap {
    first_generation: u64,
    services: BTreeMap<QualifiedName, Arc<Published>>,
    held: BTreeSet<QualifiedName>,
}

impl EndpointMap {
    /// The endpoints of `service`; `None` while this replica cannot know them yet.
    pub(super) fn get(&self, service: &QualifiedName) -> Option<Arc<Published>> {
        if self.held.contains(service) {
            return None;
        }
        Some(self.services.get(service).map_or_else(
            || {
                Arc::new(Published {
                    generation: self.first_generation,
                    endpoints: Vec::new(),
                })
            },
            Arc::clone,
        ))
    }
}

/// The machine.
#[derive(Debug)]
pub(super) struct AnnouncementTable {
    agents: BTreeMap<SpiffeId, Announced>,
    elsewhere: Option<Elsewhere>,
    /// Of whom other replicas must be told.
    unwritten: BTreeSet<SpiffeId>,
    unsettled: BTreeSet<SpiffeId>,
    settles_at: Instant,
    map: Arc<EndpointMap>,
}

/// What one agent says to this replica.
#[derive(Debug)]
struct Announced {
    stream: StreamId,
    connected: bool,
    said: Option<SaidList>,
    /// Under which other replicas read it; `None` until they can.
    stamp: Option<u64>,
}

#[derive(Debug)]
struct SaidList {
    list: Vec<Announcement>,
    /// Unless the agent says it again.
    ends: Option<Instant>,
}

impl AnnouncementTable {
    /// `live` are the agents that may have announced to a replica before this one;
    /// `first_generation` is above every generation that this replica's name has sent.
    pub(super) fn new(first_generation: u64, live: BTreeSet<SpiffeId>, now: Instant) -> Self {
        Self {
            agents: BTreeMap::new(),
            elsewhere: None,
            unwritten: BTreeSet::new(),
            unsettled: live,
            settles_at: now + GRACE,
            map: Arc::new(EndpointMap {
                first_generation,
                ..EndpointMap::default()
            }),
        }
    }

    /// Of a replica that is not alone: `rows` is what all of them have written, its own earlier
    /// life among them.
    pub(super) fn shared(mut self, replica: &str, rows: Vec<AnnouncedRow>, now: Instant) -> Self {
        let mut elsewhere = Elsewhere::new(replica);
        for agent in elsewhere.replace_all(rows, now) {
            self.unsettled.remove(&agent);
        }
        self.elsewhere = Some(elsewhere);
        self
    }

    /// The agent's stream has begun. What it said before stands until it speaks, or for the grace.
    pub(super) fn connected(&mut self, agent: &SpiffeId, stream: StreamId, now: Instant) {
        if let Some(known) = self.agents.get_mut(agent) {
            if known.stream < stream {
                known.stream = stream;
                known.connected = true;
                known.said.iter_mut().for_each(|said| said.end(now));
                self.must_write(agent);
            }
            return;
        }
        let earlier = self.elsewhere.as_mut();
        let earlier = earlier.and_then(|it| it.take_own(agent));
        let said = earlier.map(|(list, ends)| SaidList {
            list,
            ends: Some(ends),
        });
        self.insert(agent, stream, said);
    }

    /// The agent's stream says what it serves; replaces what it said before.
    pub(super) fn announced(
        &mut self,
        agent: &SpiffeId,
        stream: StreamId,
        list: Vec<Announcement>,
    ) {
        let known = self.agents.get(agent);
        if known.is_some_and(|known| known.stream > stream) {
            return;
        }
        self.unsettled.remove(agent);
        self.insert(agent, stream, Some(SaidList { list, ends: None }));
    }

    /// The stream ended; a newer one of the same agent has taken over what it said.
    pub(super) fn closed(&mut self, agent: &SpiffeId, stream: StreamId, now: Instant) {
        if let Some(known) = self.agents.get_mut(agent)
            && known.stream <= stream
            && known.connected
        {
            known.connected = false;
            known.said.iter_mut().for_each(|said| said.end(now));
            self.must_write(agent);
        }
    }

    /// At most so many of the changes that other replicas must be told of.
    pub(super) fn take_unwritten(&mut self, most: usize) -> Vec<AnnouncedChange> {
        let agents: Vec<_> = self.unwritten.iter().take(most).cloned().collect();
        for agent in &agents {
            self.unwritten.remove(agent);
        }
        agents.into_iter().map(|it| self.change(it)).collect()
    }

    pub(super) fn has_unwritten(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// Other replicas can read this; `None`: they cannot, and it must be written again.
    pub(super) fn written(&mut self, changes: &[AnnouncedChange], stamp: Option<u64>) {
        for AnnouncedChange { agent, .. } in changes {
            match (stamp, self.agents.get_mut(agent)) {
                (None, _) => self.must_write(agent),
                (Some(_), Some(known)) if !self.unwritten.contains(agent) => known.stamp = stamp,
                (Some(_), _) => {}
            }
        }
    }

    /// Whatever was written may be lost.
    pub(super) fn write_all(&mut self) {
        let agents = self.agents.keys().cloned();
        self.unwritten.extend(agents);
    }

    /// What other replicas have written since.
    pub(super) fn heard(&mut self, rows: Vec<AnnouncedRow>) {
        if let Some(elsewhere) = &mut self.elsewhere {
            rows.into_iter().for_each(|row| elsewhere.put(row));
        }
    }

    /// Everything that is written. What is missing of what was known ends after the grace.
    pub(super) fn heard_all(&mut self, rows: Vec<AnnouncedRow>, now: Instant) {
        if let Some(elsewhere) = &mut self.elsewhere {
            elsewhere.replace_all(rows, now);
        }
    }

    /// Another replica has arrived.
    pub(super) fn met(&mut self, replica: &str, now: Instant) {
        if let Some(elsewhere) = &mut self.elsewhere {
            elsewhere.met(replica, now);
        }
    }

    /// When the replicas last said that they live. Answers which are over.
    pub(super) fn seen(&mut self, seen: &Seen, now: Instant) -> Vec<Lost> {
        let elsewhere = self.elsewhere.as_mut();
        elsewhere.map_or_else(Vec::new, |it| it.seen(seen, now))
    }

    /// The others that live, as far as is known.
    pub(super) fn others(&self) -> impl Iterator<Item = &str> {
        self.elsewhere.iter().flat_map(Elsewhere::others)
    }

    /// Up to which stamp everything of each other replica is known.
    pub(super) fn known(&self) -> BTreeMap<String, u64> {
        self.elsewhere
            .as_ref()
            .map(Elsewhere::known)
            .unwrap_or_default()
    }

    /// Whose stream another replica holds.
    pub(super) fn connected_elsewhere(&self) -> BTreeMap<SpiffeId, String> {
        let rows = self.elsewhere.iter().flat_map(Elsewhere::connected);
        rows.map(|(agent, replica)| (agent.clone(), replica.to_owned()))
            .collect()
    }

    /// When something changes by time alone.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let settles = (!self.unsettled.is_empty()).then_some(self.settles_at);
        let ends = self.agents.values().filter_map(Announced::ends);
        let elsewhere = self.elsewhere.iter().filter_map(Elsewhere::next_end);
        ends.chain(settles).chain(elsewhere).min()
    }

    /// What may be told now; the same `Arc` when nothing changed.
    pub(super) fn publish(&mut self, hosting: &impl Hosting, now: Instant) -> Arc<EndpointMap> {
        self.end(now);
        if now >= self.settles_at {
            self.unsettled.clear();
        }
        let held = self
            .unsettled
            .iter()
            .flat_map(|agent| hosting.services_of(agent))
            .collect::<BTreeSet<_>>();
        let mut live = self.live_endpoints(hosting);
        live.retain(|service, _| !held.contains(service));

        let services = self.advance(live);
        if services != self.map.services || held != self.map.held {
            self.map = Arc::new(EndpointMap {
                first_generation: self.map.first_generation,
                services,
                held,
            });
        }
        Arc::clone(&self.map)
    }

    fn insert(&mut self, agent: &SpiffeId, stream: StreamId, said: Option<SaidList>) {
        if let Some(elsewhere) = &mut self.elsewhere {
            drop(elsewhere.take_own(agent));
        }
        let announced = Announced {
            stream,
            connected: true,
            said,
            stamp: None,
        };
        self.agents.insert(agent.clone(), announced);
        self.must_write(agent);
    }

    fn must_write(&mut self, agent: &SpiffeId) {
        if self.elsewhere.is_some() {
            self.unwritten.insert(agent.clone());
        }
    }

    fn change(&self, agent: SpiffeId) -> AnnouncedChange {
        let known = self.agents.get(&agent);
        let said = known.and_then(|known| known.said.as_ref());
        AnnouncedChange {
            connected: known.is_some_and(|known| known.connected),
            list: said.map(|said| elsewhere::encode(&said.list)),
            agent,
        }
    }

    /// What is over by now.
    fn end(&mut self, now: Instant) {
        let mut ended = Vec::new();
        self.agents.retain(|agent, known| {
            if known.ends().is_some_and(|at| at <= now) {
                known.said = None;
                ended.push(agent.clone());
            }
            known.connected || known.said.is_some()
        });
        if let Some(elsewhere) = &mut self.elsewhere {
            ended.extend(elsewhere.end(now));
        }
        ended.iter().for_each(|agent| self.must_write(agent));
    }

    fn live_endpoints(
        &self,
        hosting: &impl Hosting,
    ) -> BTreeMap<QualifiedName, BTreeSet<Endpoint>> {
        let mut live: BTreeMap<QualifiedName, BTreeSet<Endpoint>> = BTreeMap::new();
        let mut add = |agent: &SpiffeId, list: &[Announcement]| {
            for Announcement {
                workload,
                service,
                endpoint,
            } in list
            {
                if hosting.permits(agent, workload, service) {
                    let endpoints = live.entry(service.clone()).or_default();
                    endpoints.insert(endpoint.clone());
                }
            }
        };
        for (agent, known) in &self.agents {
            let elsewhere = self.elsewhere.as_ref().and_then(|it| it.best(agent));
            match (known.standing(), elsewhere) {
                (Some((own, list)), Some((other, theirs))) => {
                    add(agent, if own >= other { list } else { theirs });
                }
                (Some((_, list)), None) | (None, Some((_, list))) => add(agent, list),
                (None, None) => {}
            }
        }
        for agent in self.elsewhere.iter().flat_map(Elsewhere::agents) {
            let elsewhere = self.elsewhere.as_ref().and_then(|it| it.best(agent));
            if !self.agents.contains_key(agent)
                && let Some((_, list)) = elsewhere
            {
                add(agent, list);
            }
        }
        live
    }

    /// Services that lost their last endpoint stay, empty, so that their generation goes on.
    fn advance(
        &self,
        mut live: BTreeMap<QualifiedName, BTreeSet<Endpoint>>,
    ) -> BTreeMap<QualifiedName, Arc<Published>> {
        for service in self.map.services.keys() {
            live.entry(service.clone()).or_default();
        }
        live.into_iter()
            .map(|(service, endpoints)| {
                let endpoints: Vec<_> = endpoints.into_iter().collect();
                let published = match self.map.services.get(&service) {
                    Some(before) if before.endpoints == endpoints => Arc::clone(before),
                    before => Arc::new(Published {
                        generation: before
                            .map_or(self.map.first_generation, |before| before.generation)
                            + 1,
                        endpoints,
                    }),
                };
                (service, published)
            })
            .collect()
    }
}

impl Announced {
    fn ends(&self) -> Option<Instant> {
        self.said.as_ref()?.ends
    }

    /// How it compares with what the agent says elsewhere.
    fn standing(&self) -> Option<(Standing, &[Announcement])> {
        let said = self.said.as_ref()?;
        let standing = Standing {
            open: self.connected,
            stamp: self.stamp.unwrap_or(u64::MAX),
        };
        Some((standing, &said.list))
    }
}

impl SaidList {
    fn end(&mut self, now: Instant) {
        self.ends.get_or_insert(now + GRACE);
    }
}

#[cfg(test)]
#[path = "announcements/tests.rs"]
mod tests;
