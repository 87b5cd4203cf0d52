//! Whether a call that failed is tried again, and when.
//!
//! Invariant: a request that the upstream may have seen is sent again only if a Route says so, its
//! method bears it, its body is still here whole, and the budget pays for it. A request that the
//! upstream cannot have seen is sent again without asking, on another endpoint, a bounded number
//! of times.

use std::time::Duration;

use crypto::random::Random;
use http::{Method, StatusCode};
use tokio::time::Instant;

use super::budget::Budget;
use super::outcome::Ending;
use super::settings::{Conditions, Retry};

/// Attempts without asking, whatever the Route says.
const MOST_UNSEEN: u32 = 3;

/// One call's attempts so far.
#[derive(Debug)]
pub(crate) struct Retries<'a> {
    policy: Option<(&'a Retry, &'a Budget)>,
    /// Whether the method may be repeated by the Route's leave.
    method_bears_it: bool,
    made: u32,
    unseen: u32,
}

/// What there is for another attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left {
    /// The request's body, whole.
    pub body: bool,
    /// An endpoint that the call has not tried.
    pub others: bool,
}

/// What to do after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Pass the outcome on.
    Finish(Why),
    /// Try again after this pause.
    Again(Duration),
}

/// Why a call is not tried again; for logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// No rule names this outcome.
    NotMeant,
    /// The method may not be repeated.
    Method,
    /// Part of the request's body is gone.
    BodyGone,
    Limit,
    Budget,
    /// The endpoint asks for more time than the Route gives.
    AskedForLonger,
}

impl<'a> Retries<'a> {
    /// A call begins; one that could be repeated earns its share of the budget.
    pub(crate) fn new(
        policy: Option<(&'a Retry, &'a Budget)>,
        (method, path): (&Method, &str),
        now: Instant,
    ) -> Self {
        let method_bears_it =
            policy.is_some_and(|(retry, _)| retry.methods.permit(method.as_str(), path));
        if let Some((_, budget)) = policy {
            budget.earn(now);
        }
        Self {
            policy,
            method_bears_it,
            made: 0,
            unseen: 0,
        }
    }

    pub(crate) fn after(
        &mut self,
        ending: &Ending,
        left: Left,
        now: Instant,
        random: &mut dyn Random,
    ) -> Next {
        let unseen = match ending {
            Ending::Unsent(_) => left.others,
            // A server that leaves a connection takes the call on the next one.
            Ending::Unprocessed(_) => true,
            _ => false,
        };
        if unseen && left.body && self.unseen + 1 < MOST_UNSEEN {
            self.unseen += 1;
            return Next::Again(Duration::ZERO);
        }
        match self.by_leave(ending, left.body, now, random) {
            Ok(pause) => Next::Again(pause),
            Err(why) => Next::Finish(why),
        }
    }

    fn by_leave(
        &mut self,
        ending: &Ending,
        replayable: bool,
        now: Instant,
        random: &mut dyn Random,
    ) -> Result<Duration, Why> {
        let Some((retry, budget)) = self.policy.filter(|(it, _)| it.on.mean(ending)) else {
            return Err(Why::NotMeant);
        };
        if !self.method_bears_it && !matches!(ending, Ending::Unsent(_) | Ending::Unprocessed(_)) {
            return Err(Why::Method);
        }
        if !replayable {
            return Err(Why::BodyGone);
        }
        if self.made >= retry.limit {
            return Err(Why::Limit);
        }
        let pause = match ending.retry_after() {
            Some(asked) => retry.backoff.pause_as_asked(asked, self.made, random),
            None => Some(retry.backoff.pause(self.made, random)),
        };
        let pause = pause.ok_or(Why::AskedForLonger)?;
        // Last, for what is spent is gone.
        if !budget.spend(&retry.budget, now) {
            return Err(Why::Budget);
        }
        self.made += 1;
        Ok(pause)
    }
}

impl Conditions {
    pub(crate) fn mean(&self, ending: &Ending) -> bool {
        match ending {
            Ending::Unsent(_) => self.connect_failure,
            Ending::Unprocessed(_) => self.connect_failure || self.reset,
            Ending::Broken(_) | Ending::TimedOut => self.reset,
            Ending::Answered {
                status,
                grpc_status,
                ..
            } => {
                let said = grpc_status.and_then(http_status_of);
                self.statuses.contains(&said.unwrap_or(*status))
            }
            Ending::Abandoned => false,
        }
    }
}

/// What a gRPC status is over HTTP, where it is a failure of the server (google/rpc/code.proto).
fn http_status_of(grpc_status: u8) -> Option<StatusCode> {
    match grpc_status {
        2 | 13 | 15 => Some(StatusCode::INTERNAL_SERVER_ERROR),
        4 => Some(StatusCode::GATEWAY_TIMEOUT),
        8 => Some(StatusCode::TOO_MANY_REQUESTS),
        14 => Some(StatusCode::SERVICE_UNAVAILABLE),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
