//! What ends first: the root, what replicas sign with, each agent's certificate, each workload's;
//! and for how long the mesh would go on if no CA signed anything from now on.
//!
//! Invariant: made of records and of what is in force, never of what agents claim. What is not
//! renewed any more because nobody is meant to hold it does not count, and neither do agents that
//! are away: they are listed as late.

mod keeper;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::time::Duration;

use identity::x509::validity_of;
use identity::{AgentId, SpiffeId};
use runtime::Clock;
use time::OffsetDateTime;

use crate::authority::Authority;
use crate::clock_check::ClockCheck;
use crate::config::Lifetimes;
use crate::issue::{AdmittedAgents, Assignments, Directory};
use crate::spool::StoreStanding;
use crate::store::{LatestSvid, Store, StoreError};
use crate::watch::Presence;

pub(crate) use keeper::HorizonKeeper;

const PAGE: u32 = 1_000;
/// What is late is counted up to so many pages.
const MOST_PAGES: usize = 20;
/// Late ones that are named.
const NAMED: usize = 20;
/// What has less than this part of its life left should have been renewed twice.
const LATE: u32 = 4;

/// What ends first, as of `at`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Horizon {
    pub(crate) at: OffsetDateTime,
    /// The authorities in use, and of agents and workloads the first to end.
    pub(crate) endings: Vec<Ending>,
    /// Agents and workloads that should have been renewed; the first to end first.
    pub(crate) late: Vec<LatestSvid>,
    /// At least; more are not counted.
    pub(crate) late_count: usize,
}

/// One thing that ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) kind: EndingKind,
    /// A generation, a replica, or a SPIFFE ID.
    pub(crate) name: String,
    pub(crate) not_after: OffsetDateTime,
    /// Less than a quarter of its life is left: its renewal has failed.
    pub(crate) near: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndingKind {
    Root,
    /// What stands between the root and this replica, where the root is an upstream's.
    Upstream,
    Intermediate,
    Agent,
    Workload,
}

/// Looks; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Horizons {
    pub(crate) store: Store,
    pub(crate) directory: Directory,
    pub(crate) authority: Authority,
    pub(crate) admitted: AdmittedAgents,
    pub(crate) presence: Presence,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) clock: Clock,
    /// The name of this replica.
    pub(crate) replica: String,
}

/// By what a replica is judged able to serve.
#[derive(Debug, Clone)]
pub(crate) struct Vitals {
    pub(crate) horizons: Horizons,
    pub(crate) clock_check: ClockCheck,
    pub(crate) standing: StoreStanding,
}

impl Horizons {
    /// Looks now.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub(crate) async fn look(&self) -> Result<Horizon, StoreError> {
        let at = self.clock.now();
        let mut horizon = Horizon {
            at,
            endings: self.authorities(at).await?,
            late: Vec::new(),
            late_count: 0,
        };
        let judge = Judge {
            at,
            assignments: &self.directory.current(),
            admitted: &self.admitted,
            away: &self.away(at).await?,
        };
        let longest = self.lifetimes.agent.max(self.lifetimes.workload);
        let mut last: Option<LatestSvid> = None;
        for _ in 0..MOST_PAGES {
            let page = self.store.latest_svids(at, last.as_ref(), PAGE).await?;
            for svid in &page {
                horizon.add(&judge, svid);
            }
            let full = page.len() == PAGE as usize;
            last = page.into_iter().last();
            let rest_is_fresh = last
                .as_ref()
                .is_some_and(|svid| svid.not_after > at + longest / LATE);
            if !full || (rest_is_fresh && horizon.is_complete()) {
                break;
            }
        }
        Ok(horizon)
    }

    /// What this replica signs with, and when it cannot any more.
    pub(crate) fn own_intermediate(&self) -> Ending {
        let validity = self.authority.intermediate().validity();
        Ending::of(
            EndingKind::Intermediate,
            self.replica.clone(),
            (validity.not_before(), validity.not_after()),
            self.clock.now(),
        )
    }

    async fn authorities(&self, at: OffsetDateTime) -> Result<Vec<Ending>, StoreError> {
        let roots = self.authority.roots();
        let root = roots.active().map(|(generation, root)| {
            let life = (root.validity().not_before(), root.validity().not_after());
            Ending::of(EndingKind::Root, generation.to_string(), life, at)
        });
        let others = self.store.replica_ends(at).await?.into_iter();
        let others = others.filter(|end| end.replica != self.replica).map(|end| {
            let life = (end.not_before, end.not_after);
            Ending::of(EndingKind::Intermediate, end.replica, life, at)
        });
        let own = std::iter::once(self.own_intermediate());
        let upstream = self.upstream(at);
        Ok(root
            .into_iter()
            .chain(upstream)
            .chain(own)
            .chain(others)
            .collect())
    }

    /// The first to end of what an upstream has put above this replica.
    fn upstream(&self, at: OffsetDateTime) -> Option<Ending> {
        let intermediate = self.authority.intermediate();
        let lives = intermediate.above().iter().filter_map(|der| {
            let life = validity_of(der).ok()?;
            Some((life.not_before(), life.not_after()))
        });
        let first = lives.min_by_key(|(_, not_after)| *not_after)?;
        let name = intermediate.root().to_string();
        Some(Ending::of(EndingKind::Upstream, name, first, at))
    }

    /// Agents that should have renewed their own certificate, and are not connected here.
    async fn away(&self, at: OffsetDateTime) -> Result<HashSet<SpiffeId>, StoreError> {
        let agents = self.store.agents().await?.into_iter();
        let late = agents.filter(|row| row.not_after < at + self.lifetimes.agent / LATE);
        let away = late.filter(|row| self.presence.agent(&row.spiffe_id).is_none());
        Ok(away.map(|row| row.spiffe_id).collect())
    }
}

/// By what a record is judged.
struct Judge<'a> {
    at: OffsetDateTime,
    assignments: &'a Assignments,
    admitted: &'a AdmittedAgents,
    away: &'a HashSet<SpiffeId>,
}

impl Judge<'_> {
    /// `None`: nobody will renew it, and nobody is meant to.
    fn kind(&self, svid: &LatestSvid) -> Option<EndingKind> {
        if !self.admitted.contains(&svid.agent_id) {
            return None;
        }
        if svid.spiffe_id == svid.agent_id {
            let is_agent = AgentId::try_from(svid.spiffe_id.clone()).is_ok();
            return is_agent.then_some(EndingKind::Agent);
        }
        self.assignments
            .assigned(&svid.spiffe_id, &svid.agent_id)
            .map(|_| EndingKind::Workload)
    }
}

impl Horizon {
    /// How long calls go on if nothing is signed from now on. `None` while there is no workload.
    pub(crate) fn survives(&self, now: OffsetDateTime) -> Option<Duration> {
        let first = self.first(EndingKind::Workload)?;
        Some(Duration::try_from(first.not_after - now).unwrap_or_default())
    }

    /// The first to end of a kind.
    pub(crate) fn first(&self, kind: EndingKind) -> Option<&Ending> {
        let all = self.endings.iter().filter(|ending| ending.kind == kind);
        all.min_by_key(|ending| ending.not_after)
    }

    /// In the order of their ends.
    fn add(&mut self, judge: &Judge<'_>, svid: &LatestSvid) {
        let Some(kind) = judge.kind(svid) else {
            return;
        };
        let life = (svid.issued_at, svid.not_after);
        let ending = Ending::of(kind, svid.spiffe_id.to_string(), life, judge.at);
        if ending.near {
            self.late_count += 1;
            if self.late.len() < NAMED {
                self.late.push(svid.clone());
            }
        }
        if !judge.away.contains(&svid.agent_id) && self.first(kind).is_none() {
            self.endings.push(ending);
        }
    }

    fn is_complete(&self) -> bool {
        let has = |kind| self.first(kind).is_some();
        has(EndingKind::Agent) && has(EndingKind::Workload)
    }
}

impl Ending {
    fn of(
        kind: EndingKind,
        name: String,
        (from, not_after): (OffsetDateTime, OffsetDateTime),
        now: OffsetDateTime,
    ) -> Self {
        Self {
            kind,
            name,
            not_after,
            near: (not_after - now) * LATE < not_after - from,
        }
    }

    pub(crate) fn has_ended(&self, now: OffsetDateTime) -> bool {
        self.not_after <= now
    }
}

impl EndingKind {
    pub(crate) const ALL: [Self; 5] = [
        Self::Root,
        Self::Upstream,
        Self::Intermediate,
        Self::Agent,
        Self::Workload,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Upstream => "upstream",
            Self::Intermediate => "intermediate",
            Self::Agent => "agent",
            Self::Workload => "workload",
        }
    }
}
