//! From what people wrote, a Route and the traffic settings of a port, to what the machines take.
//!
//! Invariant: a plan holds all that its Route says. What cannot be expressed is an error, and the
//! calls of that Route are refused: nothing of it is left out silently.

use std::fmt;

use http::{HeaderName, HeaderValue, StatusCode};
use policy::{Fraction, RetryOn, Route, RouteRule, RouteRules};

use super::backends::{Backends, Mirror};
use super::chance::Percent;
use super::changes::NotChangeable;
use super::settings::{
    Backoff, Balance, Breaker, Budget, Bulkhead, Conditions, Fault, HeaderChanges, Hedge, Rate,
    RateLimit, Retry, SuccessRate, Timeout,
};
use crate::service_port::ServicePort;

/// A Route, compiled.
#[derive(Debug)]
pub(crate) struct Plan {
    pub rules: RouteRules<Rule>,
}

/// What is done with the calls that follow one rule.
#[derive(Debug)]
pub(crate) struct Rule {
    pub backends: Backends<ServicePort>,
    pub timeout: Timeout,
    pub retry: Option<Retry>,
    pub hedge: Option<Hedge>,
    /// What hedges spend where no retry says otherwise.
    pub budget: Budget,
    pub fault: Fault,
    pub mirror: Option<Mirror<ServicePort>>,
    pub headers: HeaderChanges,
}

/// Something in a Route that the proxy cannot express.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("{0:?} cannot be a header or a status")]
    Word(String),
    #[error(transparent)]
    NotChangeable(#[from] NotChangeable),
    #[error("no backend of a rule has a weight")]
    NoBackend,
}

impl Plan {
    /// # Errors
    /// The first thing that the proxy cannot express.
    pub(crate) fn compile(route: &Route) -> Result<Self, Unusable> {
        let rules = route.rules.iter();
        let rules = rules.map(|rule| Ok((rule.matches.clone(), Rule::compile(route, rule)?)));
        Ok(Self {
            rules: RouteRules::new(rules.collect::<Result<Vec<_>, Unusable>>()?),
        })
    }
}

impl Rule {
    fn compile(route: &Route, rule: &RouteRule) -> Result<Self, Unusable> {
        let on_same_port = |service| ServicePort {
            service: route.service_of(service),
            port: route.port.clone(),
        };
        let backends = rule.backends.iter();
        let backends = backends.map(|it| (on_same_port(&it.service), it.weight));
        let retry = rule.retry.as_ref().map(retry).transpose()?;
        Ok(Self {
            backends: Backends::new(backends).ok_or(Unusable::NoBackend)?,
            timeout: Timeout {
                request: rule.timeouts.request,
                per_try: rule.timeouts.per_try,
                idle: rule.timeouts.idle,
            },
            budget: retry.as_ref().map_or_else(Budget::default, |it| it.budget),
            retry,
            hedge: rule.hedge.map(|it| Hedge {
                after: it.after,
                limit: it.limit,
            }),
            fault: rule
                .fault
                .as_ref()
                .map(fault)
                .transpose()?
                .unwrap_or_default(),
            mirror: rule.mirror.as_ref().map(|it| Mirror {
                to: on_same_port(&it.service),
                share: percent(it.percent),
            }),
            headers: header_changes(&rule.headers)?,
        })
    }
}

fn retry(retry: &policy::Retry) -> Result<Retry, Unusable> {
    let statuses = retry.on.iter().filter_map(|it| match it {
        RetryOn::Status(status) => Some(self::status(*status)),
        RetryOn::ConnectFailure | RetryOn::Reset => None,
    });
    Ok(Retry {
        limit: retry.limit,
        on: Conditions {
            connect_failure: retry.on.contains(&RetryOn::ConnectFailure),
            reset: retry.on.contains(&RetryOn::Reset),
            statuses: statuses.collect::<Result<_, Unusable>>()?,
        },
        methods: retry.methods.clone(),
        backoff: Backoff {
            base: retry.backoff.base,
            max: retry.backoff.max,
        },
        budget: Budget {
            ratio: retry.budget.ratio.as_f64(),
            min_per_second: retry.budget.min_per_second,
        },
    })
}

fn fault(fault: &policy::Fault) -> Result<Fault, Unusable> {
    let abort = match &fault.abort {
        Some(abort) => Some((percent(abort.percent), status(abort.status)?)),
        None => None,
    };
    Ok(Fault {
        delay: fault.delay.map(|it| (percent(it.percent), it.by)),
        abort,
    })
}

fn header_changes(changes: &policy::HeaderChanges) -> Result<HeaderChanges, Unusable> {
    let set = changes.set.iter().map(|(name, value)| {
        let name = word::<HeaderName>(name.as_str())?;
        Ok((name, word::<HeaderValue>(value.as_str())?))
    });
    let remove = changes.remove.iter().map(|it| word(it.as_str()));
    let changes = HeaderChanges {
        set: set.collect::<Result<_, Unusable>>()?,
        remove: remove.collect::<Result<_, Unusable>>()?,
    };
    changes.check()?;
    Ok(changes)
}

impl From<&policy::Balance> for Balance {
    fn from(balance: &policy::Balance) -> Self {
        match balance {
            policy::Balance::Ewma => Self::Ewma,
            policy::Balance::LeastRequest => Self::LeastRequest,
            policy::Balance::RoundRobin => Self::RoundRobin,
            policy::Balance::Random => Self::Random,
            // A header that no request can have is a header that every call is without.
            policy::Balance::Hash(header) => word(header.as_str()).map_or(Self::Random, Self::Hash),
        }
    }
}

impl From<&policy::Breaker> for Breaker {
    fn from(breaker: &policy::Breaker) -> Self {
        Self {
            consecutive_failures: breaker.consecutive_failures,
            success_rate: breaker.success_rate.as_ref().map(|it| SuccessRate {
                below: it.below.as_f64(),
                over: it.over,
                min_requests: it.min_requests,
            }),
            eject_for: breaker.eject_for,
            max_ejected: breaker.max_ejected.as_f64(),
        }
    }
}

impl From<&policy::Bulkhead> for Bulkhead {
    fn from(bulkhead: &policy::Bulkhead) -> Self {
        Self {
            connections: bulkhead.connections,
            pending: bulkhead.pending,
            in_flight: bulkhead.in_flight,
            per_caller_in_flight: bulkhead.per_caller_in_flight,
        }
    }
}

impl From<&policy::RateLimit> for RateLimit {
    fn from(limit: &policy::RateLimit) -> Self {
        let rate = |rate: policy::Rate| Rate {
            requests_per_second: rate.requests_per_second,
            burst: rate.burst,
        };
        Self {
            all: limit.total.map(rate),
            per_caller: limit.per_caller.map(rate),
        }
    }
}

fn percent(fraction: Fraction) -> Percent {
    Percent::new(fraction.as_f64() * 100.0).unwrap_or_default()
}

fn status(status: u16) -> Result<StatusCode, Unusable> {
    StatusCode::from_u16(status).map_err(|_| Unusable::Word(status.to_string()))
}

fn word<'a, T: TryFrom<&'a str>>(text: &'a str) -> Result<T, Unusable>
where
    T::Error: fmt::Debug,
{
    T::try_from(text).map_err(|_| Unusable::Word(text.to_owned()))
}

#[cfg(test)]
mod tests;
