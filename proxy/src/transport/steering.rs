//! What one worker knows of the ways that calls can take: balancers, compiled Routes, and its
//! share of what the process limits.
//!
//! Invariant: each pick is given back to its balancer exactly once, whatever becomes of the
//! attempt.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crypto::random::{Random, SeededRandom, SystemRandom};
use policy::Route;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::failure::Failure;
use crate::balance::{Endpoint, Zone};
use crate::discovery::{Discovery, Places, Resolved};
use crate::failure::Reason;
use crate::service_port::ServicePort;
use crate::state::{States, Target};
use crate::traffic::balancer::{Balancer, NoPick, Pick, Seat, Settings, Tried};
use crate::traffic::outcome::{self, Health};
use crate::traffic::plan::{Plan, Unusable};
use crate::traffic::settings::{Balance, Breaker};
use crate::traffic::shared::{Callee, Shared};

/// One worker's.
#[derive(Debug)]
pub(crate) struct Steering {
    shared: Shared,
    states: States,
    discovery: Discovery,
    zone: Option<Zone>,
    /// Which worker's it is.
    worker: usize,
    random: RefCell<SeededRandom>,
    ports: RefCell<HashMap<ServicePort, Rc<CalledPort>>>,
    plans: RefCell<HashMap<ServicePort, Compiled>>,
}

/// A Route, and what it was compiled to.
#[derive(Debug)]
struct Compiled {
    of: Arc<Route>,
    plan: Rc<Plan>,
}

/// One port that our workload calls.
#[derive(Debug)]
pub(crate) struct CalledPort {
    pub(crate) callee: Arc<Callee>,
    balancer: RefCell<Balancer>,
    of: RefCell<Option<Arc<Target>>>,
    places: RefCell<Places>,
    health: Cell<u64>,
}

/// Where a call goes, found once for all requests of a connection that go there.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    pub(crate) target: Arc<Target>,
    pub(crate) port: Rc<CalledPort>,
    pub(crate) plan: Option<Rc<Plan>>,
}

/// An endpoint for one attempt.
#[derive(Debug)]
pub(crate) struct Picked {
    port: Rc<CalledPort>,
    pick: Option<Pick>,
    endpoint: Arc<Endpoint>,
    began: Instant,
}

/// An answer that is still on its way: part of the load of its endpoint until it is dropped.
#[derive(Debug)]
pub(crate) struct Carried {
    port: Rc<CalledPort>,
    seat: Seat,
    /// Whether only its end tells what it is worth.
    undecided: bool,
}

impl Steering {
    pub(crate) fn new(
        shared: Shared,
        states: States,
        discovery: Discovery,
        zone: Option<Zone>,
        worker: usize,
    ) -> Self {
        Self {
            shared,
            states,
            discovery,
            zone,
            worker,
            // Drawn from the system once: what is drawn for each call is no secret.
            random: RefCell::new(SeededRandom::new(u64::from_le_bytes(SystemRandom.bytes()))),
            ports: RefCell::default(),
            plans: RefCell::default(),
        }
    }

    /// Draws something.
    pub(crate) fn draw<T>(&self, draw: impl FnOnce(&mut dyn Random) -> T) -> T {
        draw(&mut *self.random.borrow_mut())
    }

    /// The course of calls to a target.
    ///
    /// # Errors
    /// If its Route cannot be followed.
    pub(crate) fn course(&self, target: Arc<Target>, now: Instant) -> Result<Course, Failure> {
        let plan = self.plan(&target.name).map_err(|error| {
            let detail = format!("the Route of {} cannot be followed: {error}", target.name);
            Failure::new(Reason::NoRoute, detail)
        })?;
        let port = self.port(&target, now);
        Ok(Course { target, port, plan })
    }

    /// The course of calls to a target by the Route of another.
    pub(crate) fn straight(&self, target: Arc<Target>, now: Instant) -> Course {
        let port = self.port(&target, now);
        Course {
            target,
            port,
            plan: None,
        }
    }

    /// The same course, as of now.
    pub(crate) fn refresh(&self, course: &Course, now: Instant) {
        course.port.refresh(&course.target, self, now);
    }

    /// The Route of a port, if it has one.
    ///
    /// # Errors
    /// If it says something that this proxy cannot express.
    fn plan(&self, port: &ServicePort) -> Result<Option<Rc<Plan>>, Unusable> {
        let state = self.states.current();
        let Some(route) = state.routes.get(port) else {
            return Ok(None);
        };
        if let Some(known) = self.plans.borrow().get(port)
            && Arc::ptr_eq(&known.of, route)
        {
            return Ok(Some(Rc::clone(&known.plan)));
        }
        let plan = Rc::new(Plan::compile(route)?);
        let kept = Compiled {
            of: Arc::clone(route),
            plan: Rc::clone(&plan),
        };
        self.plans.borrow_mut().insert(port.clone(), kept);
        Ok(Some(plan))
    }

    /// What is known of a target, as of now.
    fn port(&self, target: &Arc<Target>, now: Instant) -> Rc<CalledPort> {
        let known = self.ports.borrow().get(&target.name).map(Rc::clone);
        let port = known.unwrap_or_else(|| {
            let port = Rc::new(CalledPort {
                callee: self.shared.called(&target.name),
                balancer: RefCell::new(Balancer::new(Settings::default())),
                of: RefCell::default(),
                places: RefCell::default(),
                health: Cell::new(0),
            });
            let kept = Rc::clone(&port);
            self.ports.borrow_mut().insert(target.name.clone(), kept);
            port
        });
        port.refresh(target, self, now);
        port
    }

    /// Chooses for the next attempt of a call.
    ///
    /// # Errors
    /// If there is no endpoint, or all are ejected.
    pub(crate) fn pick(
        &self,
        port: &Rc<CalledPort>,
        tried: &Tried,
        hash: Option<u64>,
        now: Instant,
    ) -> Result<Picked, Failure> {
        let mut balancer = port.balancer.borrow_mut();
        let pick = self.draw(|random| balancer.pick(tried, hash, now, random));
        let pick = pick.map_err(|why| no_pick(why, now))?;
        Ok(Picked {
            port: Rc::clone(port),
            endpoint: Arc::clone(&pick.endpoint),
            began: pick.began(),
            pick: Some(pick),
        })
    }

    /// The endpoints of a target that calls may go to, each once.
    pub(crate) fn places(&self, target: &Target) -> Places {
        Places::of(&target.endpoints, &self.discovery)
    }

    /// Changes with each change of a host's addresses.
    pub(crate) fn moves(&self) -> watch::Receiver<u64> {
        self.discovery.changes()
    }

    /// Waits until the names among a port's endpoints are answered for, `most` at the longest.
    pub(crate) async fn settle(&self, port: &CalledPort, target: &Arc<Target>, most: Duration) {
        let names = port.places.borrow().names();
        let answered = async {
            for mut name in names {
                let known = name.wait_for(|it| *it != Resolved::Pending);
                // One that nobody answers for any more is not waited for.
                drop(known.await);
            }
        };
        drop(timeout(most, answered).await);
        port.places.borrow_mut().outdate();
        port.refresh(target, self, Instant::now());
    }

    /// Changes when a port is called that none of the workers has called before.
    pub(crate) fn called(&self) -> watch::Receiver<usize> {
        self.shared.subscribe()
    }

    /// The ports that any worker has called.
    pub(crate) fn all_called(&self) -> Vec<(ServicePort, Arc<Callee>)> {
        self.shared.all_called()
    }

    /// What all workers together know of a port.
    pub(crate) fn callee(&self, port: &ServicePort) -> Arc<Callee> {
        self.shared.called(port)
    }

    /// Lets go of what no configuration names any more, and tells how the rest is.
    pub(crate) fn sweep(&self) {
        let state = self.states.current();
        self.plans
            .borrow_mut()
            .retain(|port, _| state.routes.contains_key(port));
        self.ports.borrow_mut().retain(|name, port| {
            let target = state.target_named(name);
            if let Some(target) = target {
                port.refresh(target, self, Instant::now());
            }
            let counts = target.map(|_| port.balancer.borrow().counts());
            port.callee.note(self.worker, counts);
            target.is_some()
        });
    }
}

impl CalledPort {
    /// Whether there is an endpoint that a call has not tried.
    pub(crate) fn has_untried(&self, tried: &Tried) -> bool {
        self.balancer.borrow().has_untried(tried)
    }

    /// Whether calls should wait for [`Steering::settle`]: none of the names among the endpoints is
    /// answered for, and there is nobody else.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.places.borrow().are_unsettled()
    }

    fn refresh(&self, target: &Arc<Target>, steering: &Steering, now: Instant) {
        let same = |of: &Arc<Target>| Arc::ptr_eq(of, target);
        let changed = !self.of.borrow().as_ref().is_some_and(same);
        let moved = changed || self.places.borrow().are_outdated(&steering.discovery);
        let board = &self.callee.health;
        let version = board.version();
        if !moved && self.health.get() == version {
            return;
        }
        let mut balancer = self.balancer.borrow_mut();
        if changed {
            balancer.configure(settings(target, steering.zone.clone()));
            *self.of.borrow_mut() = Some(Arc::clone(target));
        }
        if moved {
            // The old ones are let go of last, so that no name is forgotten meanwhile.
            let places = steering.places(target);
            balancer.update(places.iter().cloned(), now);
            drop(self.places.replace(places));
        }
        for (endpoint, _) in self.places.borrow().iter() {
            balancer.set_health(endpoint, board.is_fit(endpoint), now);
        }
        self.health.set(version);
    }
}

fn settings(target: &Target, own_zone: Option<Zone>) -> Settings {
    let traffic = &target.traffic;
    let breaker = traffic.breaker.as_ref();
    Settings {
        balance: Balance::from(&traffic.balance),
        breaker: breaker.map_or_else(Breaker::default, Into::into),
        own_zone,
    }
}

impl Picked {
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn remember(&self, tried: &mut Tried) {
        if let Some(pick) = &self.pick {
            tried.add(pick);
        }
    }

    /// The head of an answer came; `None` if only its end tells what it is worth.
    pub(crate) fn answered(mut self, health: Option<Health>, now: Instant) -> Option<Carried> {
        let took = now.saturating_duration_since(self.began);
        let pick = self.pick.take()?;
        let seat = self
            .port
            .balancer
            .borrow_mut()
            .answered(pick, health, took, now);
        Some(Carried {
            port: Rc::clone(&self.port),
            seat,
            undecided: health.is_none(),
        })
    }

    /// The attempt ended without an answer.
    pub(crate) fn end(mut self, health: Health, now: Instant) {
        self.finish(health, now);
    }

    fn finish(&mut self, health: Health, now: Instant) {
        if let Some(pick) = self.pick.take() {
            let took = now.saturating_duration_since(self.began);
            let mut balancer = self.port.balancer.borrow_mut();
            balancer.finish(pick, health, took, now);
        }
    }
}

/// An attempt that nobody waited for says nothing of the endpoint.
impl Drop for Picked {
    fn drop(&mut self) {
        self.finish(Health::Unknown, Instant::now());
    }
}

impl Carried {
    /// The last byte came, with this gRPC status in the trailers.
    pub(crate) fn delivered(mut self, grpc_status: Option<u8>) {
        self.tell(outcome::of_trailers(grpc_status));
    }

    /// The other side broke it off.
    pub(crate) fn broken(mut self, reason: Reason) {
        self.tell(outcome::of_broken(reason));
    }

    fn tell(&mut self, health: Health) {
        if std::mem::take(&mut self.undecided) {
            let mut balancer = self.port.balancer.borrow_mut();
            balancer.judge_late(self.seat, health, Instant::now());
        }
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.port.balancer.borrow_mut().leave(self.seat);
    }
}

fn no_pick(why: NoPick, now: Instant) -> Failure {
    match why {
        NoPick::NoEndpoints => Failure::new(Reason::NoEndpoints, "no endpoint to try"),
        NoPick::BreakerOpen(until) => {
            let wait = until.map(|at| at.saturating_duration_since(now));
            let failure = Failure::new(Reason::BreakerOpen, "every endpoint is ejected");
            failure.retry_after(wait.unwrap_or(Duration::from_secs(1)))
        }
    }
}
