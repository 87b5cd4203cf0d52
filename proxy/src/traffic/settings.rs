//! What a Service's port and a Route say about traffic, as the machines take it.
//!
//! These are plain values: whoever makes them (the compiler of the objects) has checked their
//! ranges, and a machine that is given another value still keeps its invariant.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use policy::RetryMethods;

use super::chance::Percent;

/// `balance`: how a caller chooses among endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Balance {
    /// Of two drawn at random, the one with the lower peak-EWMA cost.
    #[default]
    Ewma,
    /// Of two drawn at random, the one with fewer calls in flight.
    LeastRequest,
    RoundRobin,
    Random,
    /// The endpoint that the value of this field falls to; at random for a call without it.
    Hash(HeaderName),
}

/// `breaker`: when a caller stops using an endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Breaker {
    /// Ejected after this many failures without a success between.
    pub consecutive_failures: Option<u32>,
    pub success_rate: Option<SuccessRate>,
    /// The first ejection; each one soon after another lasts twice as long.
    pub eject_for: Duration,
    /// The largest share of endpoints, from 0 to 1, that may be missing. When more are, for
    /// whatever cause, all are used: then it is the judgement that is not trusted.
    pub max_ejected: f64,
}

/// `breaker.successRate`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SuccessRate {
    /// Ejected below this share of successes, from 0 to 1.
    pub below: f64,
    pub over: Duration,
    /// Fewer requests than this in the window say nothing.
    pub min_requests: u32,
}

/// `bulkhead` of a port. Absent means unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bulkhead {
    /// Caller: connections to all endpoints of the port.
    pub connections: Option<u32>,
    /// Caller: calls that wait for a connection or a stream.
    pub pending: Option<u32>,
    /// Receiver: calls that the application works on.
    pub in_flight: Option<u32>,
    /// Receiver: the same for each caller's identity.
    pub per_caller_in_flight: Option<u32>,
}

/// `rateLimit` of a port. Absent means unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RateLimit {
    pub all: Option<Rate>,
    pub per_caller: Option<Rate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub requests_per_second: u32,
    /// How many may come at once after a pause; at least 1.
    pub burst: u32,
}

/// `timeout` of a Route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timeout {
    /// The whole call, from its head to its last byte, retries and pauses included.
    pub request: Option<Duration>,
    /// One attempt, until the head of its response.
    pub per_try: Option<Duration>,
    /// No byte in either direction.
    pub idle: Option<Duration>,
}

/// `retry` of a Route.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Retry {
    /// How often after the first attempt.
    pub limit: u32,
    pub on: Conditions,
    /// Which requests may be repeated though an upstream may have seen them.
    pub methods: RetryMethods,
    pub backoff: Backoff,
    pub budget: Budget,
}

/// What counts as worth another attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    /// No connection, or no mutual TLS over it.
    pub connect_failure: bool,
    /// The stream broke before the head of a response, or `perTry` ran out.
    pub reset: bool,
    pub statuses: Vec<StatusCode>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    pub base: Duration,
    pub max: Duration,
}

/// Retries and hedges may be this share of the calls, and a few a second besides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Budget {
    pub ratio: f64,
    pub min_per_second: u32,
}

/// `hedge` of a Route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hedge {
    pub after: Duration,
    /// How many besides the first attempt.
    pub limit: u32,
}

/// `fault` of a Route.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Fault {
    pub delay: Option<(Percent, Duration)>,
    pub abort: Option<(Percent, StatusCode)>,
}

/// `headers` of a Route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeaderChanges {
    pub set: Vec<(HeaderName, HeaderValue)>,
    pub remove: Vec<HeaderName>,
}

impl Default for Breaker {
    /// Never ejects by itself; half of the endpoints may be missing by health.
    fn default() -> Self {
        Self {
            consecutive_failures: None,
            success_rate: None,
            eject_for: Duration::from_secs(10),
            max_ejected: 0.5,
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(25),
            max: Duration::from_millis(250),
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            ratio: 0.2,
            min_per_second: 10,
        }
    }
}
