//! Where the workloads of each Service can be reached, as their agents announce it: a synchronous
//! machine, `(state, event, now) → state`, whose result is published whole.
//!
//! An announcement lives as long as the stream that carried it, and a grace after. It counts only
//! while the registry says that the Service names the workload and the workload names the agent.
//! A replica that has just started knows nothing of what others announced before: it keeps silent
//! about a Service until each agent that could host it has spoken, or has had the time to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use identity::{QualifiedName, SpiffeId};
use tokio::time::Instant;

use super::presence::StreamId;

/// How long an announcement outlives its stream, and how long a new replica removes nothing.
pub(super) const GRACE: Duration = Duration::from_secs(30);

/// One mesh listener, in front of one workload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Endpoint {
    /// IP address or host name.
    pub(super) address: String,
    /// Port of the Service, by name, to the mesh listener's port.
    pub(super) ports: BTreeMap<String, u16>,
    pub(super) zone: String,
}

/// What an agent says of one workload's proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    unsettled: BTreeSet<SpiffeId>,
    settles_at: Instant,
    map: Arc<EndpointMap>,
}

#[derive(Debug)]
struct Announced {
    stream: StreamId,
    list: Vec<Announcement>,
    expires: Option<Instant>,
}

impl AnnouncementTable {
    /// `live` are the agents that may have announced to a replica before this one;
    /// `first_generation` is above every generation that this replica's name has sent.
    pub(super) fn new(first_generation: u64, live: BTreeSet<SpiffeId>, now: Instant) -> Self {
        Self {
            agents: BTreeMap::new(),
            unsettled: live,
            settles_at: now + GRACE,
            map: Arc::new(EndpointMap {
                first_generation,
                ..EndpointMap::default()
            }),
        }
    }

    /// The agent's stream says what it serves; replaces what it said before.
    pub(super) fn announced(
        &mut self,
        agent: &SpiffeId,
        stream: StreamId,
        list: Vec<Announcement>,
    ) {
        if self
            .agents
            .get(agent)
            .is_some_and(|known| known.stream > stream)
        {
            return;
        }
        self.unsettled.remove(agent);
        let announced = Announced {
            stream,
            list,
            expires: None,
        };
        self.agents.insert(agent.clone(), announced);
    }

    /// The stream ended; a newer one of the same agent has taken over what it said.
    pub(super) fn closed(&mut self, agent: &SpiffeId, stream: StreamId, now: Instant) {
        if let Some(known) = self.agents.get_mut(agent)
            && known.stream <= stream
            && known.expires.is_none()
        {
            known.expires = Some(now + GRACE);
        }
    }

    /// When something changes by time alone.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let settles = (!self.unsettled.is_empty()).then_some(self.settles_at);
        let expiries = self.agents.values().filter_map(|known| known.expires);
        expiries.chain(settles).min()
    }

    /// What may be told now; the same `Arc` when nothing changed.
    pub(super) fn publish(&mut self, hosting: &impl Hosting, now: Instant) -> Arc<EndpointMap> {
        self.agents
            .retain(|_, known| known.expires.is_none_or(|at| now < at));
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

    fn live_endpoints(
        &self,
        hosting: &impl Hosting,
    ) -> BTreeMap<QualifiedName, BTreeSet<Endpoint>> {
        let mut live: BTreeMap<QualifiedName, BTreeSet<Endpoint>> = BTreeMap::new();
        for (agent, known) in &self.agents {
            for Announcement {
                workload,
                service,
                endpoint,
            } in &known.list
            {
                if hosting.permits(agent, workload, service) {
                    live.entry(service.clone())
                        .or_default()
                        .insert(endpoint.clone());
                }
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

#[cfg(test)]
#[path = "announcements/tests.rs"]
mod tests;
