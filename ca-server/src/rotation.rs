//! Drives the life of the roots by the machine in `authority::lifecycle`: gathers what it asks
//! about, makes the keys that it wants, and puts each step in force as one revision.
//!
//! Every replica drives: a step that somebody else has made already is refused by the store, and
//! changes nothing. So no replica is needed for it, and none that wakes late does harm.

mod keeper;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use runtime::Clock;
use time::OffsetDateTime;
use tokio::sync::Notify;

use crate::authority::lifecycle::{Action, Event, Facts, Generation, Lifecycle, Refusal, Rules};
use crate::authority::{MadeRoot, RootError, RootKeeper};
use crate::config::Lifetimes;
use crate::registry::{ApplyError, Registry, StepError};
use crate::spool::LONGEST_LIFE;
use crate::store::{
    AuthorityStep, Authorship, DownstreamRow, KeyPurpose, LiveAgent, Store, StoreError,
};

pub(crate) use keeper::RotationKeeper;

/// How often a step is tried again because somebody else made one first.
const ATTEMPTS: usize = 4;
/// Who makes the steps that nobody asked for.
const SYSTEM: &str = "system";
const ROOT: KeyPurpose = KeyPurpose::X509Root;

/// A cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    store: Store,
    registry: Registry,
    keeper: RootKeeper,
    times: Times,
    clock: Clock,
    wake: Arc<Notify>,
}

/// What the configuration says of how long things last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) lifetimes: Lifetimes,
    pub(crate) refresh_hint: Duration,
    /// A replica without the store renews for so long what the store hears of later.
    pub(crate) spooled_for: Duration,
}

/// How far it has come.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    pub(crate) lifecycle: Lifecycle,
    /// Live agents that have not acknowledged the bundle in force.
    pub(crate) pending: Vec<LiveAgent>,
    /// Instances below this one that do not follow it yet.
    pub(crate) pending_below: Vec<DownstreamRow>,
    pub(crate) rules: Rules,
    pub(crate) leaves_until: BTreeMap<Generation, OffsetDateTime>,
}

/// Why a step was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotationError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the root was not made")]
    Root(#[from] RootError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error("the authorities kept changing; try again")]
    Contended,
}

/// A step that was thought through, and not made yet.
struct Planned {
    lifecycle: Lifecycle,
    actions: Vec<Action>,
    made: Option<MadeRoot>,
}

impl Rotation {
    pub(crate) fn new(
        registry: Registry,
        store: Store,
        keeper: RootKeeper,
        times: Times,
        clock: Clock,
    ) -> Self {
        Self {
            store,
            registry,
            keeper,
            times,
            clock,
            wake: Arc::default(),
        }
    }

    /// Follows what somebody wants, as far as it goes without waiting: whoever is answered over a
    /// connection that trusts the old root is told of the new one. The rest is done in the
    /// background.
    pub(crate) async fn wish(&self, event: &Event, author: String) -> Result<(), RotationError> {
        self.step(Some(event), author).await?;
        self.advance().await?;
        self.wake.notify_one();
        Ok(())
    }

    /// Makes every step that can be made now.
    pub(crate) async fn advance(&self) -> Result<(), RotationError> {
        while self.step(None, SYSTEM.to_owned()).await? {}
        Ok(())
    }

    /// Begins to trust a root that an upstream has and nobody knows yet. Answers whether there is
    /// one.
    async fn adopt(&self, lifecycle: &Lifecycle) -> Result<bool, RotationError> {
        if lifecycle.successor().is_some() || !self.keeper.is_offered_another().await? {
            return Ok(false);
        }
        self.step(Some(&Event::Rotate), SYSTEM.to_owned()).await
    }

    /// Acknowledgements have come.
    pub(crate) fn look(&self) {
        self.wake.notify_one();
    }

    /// Where each root is in its life.
    pub(crate) async fn lifecycle(&self) -> Result<Lifecycle, RotationError> {
        Ok(self.state().await?.0)
    }

    pub(crate) async fn progress(&self) -> Result<Progress, RotationError> {
        let (lifecycle, _) = self.state().await?;
        let now = self.clock.now();
        let sequence = lifecycle.sequence();
        let rules = self.rules();
        let mut pending = self.live_agents(&rules, now).await?;
        pending.retain(|agent| agent.bundle_sequence < sequence);
        let mut pending_below = self.store.live_downstreams(now).await?;
        pending_below.retain(|it| it.bundle_sequence < sequence);
        Ok(Progress {
            lifecycle,
            pending,
            pending_below,
            rules,
            leaves_until: self.leaves_until(now).await?,
        })
    }

    /// With those that may live although the store does not know it yet: what a replica has renewed
    /// without it.
    async fn live_agents(
        &self,
        rules: &Rules,
        now: OffsetDateTime,
    ) -> Result<Vec<LiveAgent>, StoreError> {
        let unknown = match rules.unheard {
            Duration::ZERO => Duration::ZERO,
            unheard => unheard + rules.longest_leaf.min(LONGEST_LIFE),
        };
        self.store.live_agents(now - unknown).await
    }

    fn rules(&self) -> Rules {
        let snapshot = self.registry.snapshot();
        let entries = snapshot.objects().workloads();
        let longest = entries.filter_map(|entry| entry.ttl).max();
        let Lifetimes {
            agent, workload, ..
        } = self.times.lifetimes;
        let longest_leaf = longest.into_iter().fold(agent.max(workload), Duration::max);
        let settle = self.times.refresh_hint * 3;
        Rules {
            settle,
            // An agent whose host is down must find a root that it knows when it comes back.
            settle_on_schedule: settle.max(self.times.lifetimes.reattest_within),
            longest_leaf: longest_leaf.min(self.times.lifetimes.intermediate),
            unheard: self.times.spooled_for,
            margin: self.times.lifetimes.margin,
        }
    }

    async fn state(&self) -> Result<(Lifecycle, u64), RotationError> {
        let state = self.store.authority_state(ROOT).await?;
        let state = state.ok_or(RootError::Absent)?;
        let lifecycle = serde_json::from_str(&state.json).map_err(RootError::State)?;
        Ok((lifecycle, state.version))
    }

    /// What the machine asks about in this state, and in no later one; nothing while it has nothing
    /// to wait for.
    async fn facts(
        &self,
        lifecycle: &Lifecycle,
        rules: &Rules,
        now: OffsetDateTime,
    ) -> Result<Facts, RotationError> {
        if lifecycle.is_settled() {
            return Ok(Facts::default());
        }
        let live = self.live_agents(rules, now).await?;
        let below = self.store.live_downstreams(now).await?;
        let agents = live.iter().map(|agent| agent.bundle_sequence);
        let acknowledged = agents
            .chain(below.iter().map(|it| it.bundle_sequence))
            .min();
        Ok(Facts {
            acknowledged,
            successor_cannot_sign: match lifecycle.successor() {
                Some(successor) => !self.keeper.can_sign(successor.generation, now).await?,
                None => false,
            },
            leaves_until: self.leaves_until(now).await?,
            kept_above: self.kept_above(lifecycle),
        })
    }

    fn kept_above(&self, lifecycle: &Lifecycle) -> BTreeSet<Generation> {
        let snapshot = self.registry.snapshot();
        let kept = lifecycle.bundled().filter(|member| {
            let root = snapshot.roots().certificate(member.generation);
            root.is_some_and(|root| self.keeper.is_kept_above(root))
        });
        kept.map(|member| member.generation).collect()
    }

    async fn leaves_until(
        &self,
        now: OffsetDateTime,
    ) -> Result<BTreeMap<Generation, OffsetDateTime>, RotationError> {
        let until = self.store.leaves_until(now).await?.into_iter();
        let until = until.filter_map(|(number, at)| Some((Generation::of_number(number)?, at)));
        Ok(until.collect())
    }

    /// By what somebody wants, or else by what the world looks like. Answers whether anything has
    /// changed.
    async fn step(&self, wish: Option<&Event>, author: String) -> Result<bool, RotationError> {
        for _ in 0..ATTEMPTS {
            let (before, version) = self.state().await?;
            let (rules, now) = (self.rules(), self.clock.now());
            let event = match wish {
                Some(wish) => wish.clone(),
                None => Event::Tick(self.facts(&before, &rules, now).await?),
            };
            let planned = self.plan(before.clone(), &event, (&rules, now)).await?;
            if planned.lifecycle == before {
                return Ok(false);
            }
            let step = AuthorityStep {
                purpose: ROOT,
                from: version,
                json: serde_json::to_string(&planned.lifecycle).map_err(RootError::State)?,
                destroyed: planned.destroyed(),
                made: planned.made.as_ref().map(|made| made.row.clone()),
            };
            let authorship = Authorship {
                author: author.clone(),
                reason: reason(&event, &planned.actions),
                at: now,
            };
            match self.registry.step_authority(step, authorship).await {
                Ok(_) => {
                    alarm(&planned.actions);
                    return Ok(true);
                }
                Err(StepError::Moved) => self.unmake(planned.made).await,
                Err(StepError::Apply(error)) => return Err(error.into()),
            }
        }
        Err(RotationError::Contended)
    }

    /// A root that somebody else was faster to make is of no use. What a token keeps of it all the
    /// same is destroyed with its generation.
    async fn unmake(&self, made: Option<MadeRoot>) {
        let Some(made) = made else { return };
        if let Err(error) = self.keeper.unmake(made).await {
            let error = runtime::exit::one_line(&error);
            tracing::warn!(error, "a root's key that is not used is still in the token");
        }
    }

    async fn plan(
        &self,
        before: Lifecycle,
        event: &Event,
        (rules, now): (&Rules, OffsetDateTime),
    ) -> Result<Planned, RotationError> {
        let (mut lifecycle, actions) = before.step(event, now, rules)?;
        let mut made = None;
        for action in &actions {
            if let Action::Make(generation, trigger) = *action {
                let root = match self.keeper.make(generation, now).await {
                    // Nobody but the upstream makes one; it is adopted when it is there.
                    Err(RootError::SameRoot) if *event != Event::Rotate => continue,
                    made => made?,
                };
                let event = Event::Made {
                    generation,
                    validity: root.validity,
                    trigger,
                };
                lifecycle = lifecycle.step(&event, now, rules)?.0;
                made = Some(root);
            }
        }
        Ok(Planned {
            lifecycle,
            actions,
            made,
        })
    }
}

impl Planned {
    fn destroyed(&self) -> Vec<u32> {
        let removed = self.actions.iter().filter_map(|action| match action {
            Action::Remove(generation) => Some(generation.number()),
            _ => None,
        });
        removed.collect()
    }
}

/// What the revision says.
fn reason(event: &Event, actions: &[Action]) -> String {
    let marked = match event {
        Event::Compromised { generation, .. } => {
            Some(format!("root {generation} is marked as compromised"))
        }
        _ => None,
    };
    let done = actions.iter().map(|action| match action {
        Action::Make(generation, _) => format!("root {generation} is prepared"),
        Action::Publish(generation) => format!("root {generation} is published"),
        Action::Activate(generation) => format!("root {generation} is active"),
        Action::Reissue(generation) => {
            format!("what leads to root {generation} is replaced")
        }
        Action::Remove(generation) => format!("root {generation} is removed"),
        Action::AlarmForced(generation, phase) => {
            format!("not all have acknowledged that root {generation} becomes {phase}")
        }
    });
    marked
        .into_iter()
        .chain(done)
        .collect::<Vec<_>>()
        .join("; ")
}

fn alarm(actions: &[Action]) {
    for action in actions {
        if let Action::AlarmForced(generation, phase) = action {
            tracing::error!(
                alarm = "rotation-forced",
                root = %generation,
                %phase,
                "time was up: a root changed although live agents have not acknowledged"
            );
        }
    }
}
