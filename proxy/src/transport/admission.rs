//! What the caller's bulkhead lets a call do: open a connection to a port, or wait for one.
//!
//! Invariant: a connection to another proxy holds a place among those of its port for as long as
//! it is open. A call for which there is neither a stream nor a place waits only among as many as
//! `pending` says, and a bounded time; then it is refused.

use std::sync::Arc;
use std::time::Duration;

use super::failure::Failure;
use crate::failure::Reason;
use crate::state::Target;
use crate::telemetry::OpenConnection;
use crate::traffic::bulkhead::{Full, Place};
use crate::traffic::connections::{OpenPlace, Waiting};
use crate::traffic::shared::Callee;

/// What holds for one attempt of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission<'a> {
    callee: &'a Arc<Callee>,
    target: &'a Target,
    /// Whether the call has no other endpoint to go to instead of waiting.
    patient: bool,
    /// It waits no longer than this.
    wait: Duration,
}

/// A connection to an upstream, counted while it is open, and among those of its port if it has
/// one.
#[derive(Debug)]
#[expect(dead_code, reason = "held, and counted until it is dropped")]
pub(crate) struct Counted {
    open: OpenConnection,
    place: Option<OpenPlace>,
}

impl Counted {
    pub(crate) fn new(open: OpenConnection, place: Option<OpenPlace>) -> Self {
        Self { open, place }
    }
}

impl<'a> Admission<'a> {
    pub(crate) fn new(
        callee: &'a Arc<Callee>,
        target: &'a Target,
        patient: bool,
        wait: Duration,
    ) -> Self {
        Self {
            callee,
            target,
            patient,
            wait,
        }
    }

    /// The port that it is for.
    pub(crate) fn target(&self) -> &'a Target {
        self.target
    }

    pub(crate) fn callee(&self) -> &'a Arc<Callee> {
        self.callee
    }

    pub(crate) fn is_patient(&self) -> bool {
        self.patient
    }

    pub(crate) fn most_wait(&self) -> Duration {
        self.wait
    }

    /// A place for one more connection.
    ///
    /// # Errors
    /// If as many are open as may be.
    pub(crate) fn open(&self) -> Result<OpenPlace, Full> {
        self.callee.connections.open(self.most_connections())
    }

    /// Whether as many are open as may be.
    pub(crate) fn is_full(&self) -> bool {
        let open = || self.callee.connections.inside();
        self.most_connections().is_some_and(|most| open() >= most)
    }

    /// A place among the calls that wait.
    ///
    /// # Errors
    /// If as many wait as may.
    pub(crate) fn queue(&self) -> Result<Place, Failure> {
        let bulkhead = self.target.traffic.bulkhead.as_ref();
        let most = bulkhead.and_then(|it| it.pending);
        self.callee.pending.enter(most).map_err(|full| {
            let name = &self.target.name;
            let detail = format!("{} calls wait for a connection to {name}", full.limit);
            Failure::new(Reason::BulkheadFull, detail)
        })
    }

    /// For a place that another connection gives back.
    pub(crate) fn wait(&self) -> Waiting<'a> {
        self.callee.connections.wait()
    }

    pub(crate) fn refusal(&self, full: Full) -> Failure {
        let name = &self.target.name;
        let detail = format!("{} connections to {name} are open", full.limit);
        Failure::new(Reason::BulkheadFull, detail)
    }

    fn most_connections(&self) -> Option<u32> {
        self.target.traffic.bulkhead.as_ref()?.connections
    }
}
