//! What a Service's port says of traffic to it. The caller's proxy balances, ejects and limits
//! connections; the receiver's proxy limits what is in flight, and rates.
//!
//! Refused: what a port of protocol `tcp` cannot have, since it has no requests.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Fraction, HeaderName, Protocol};
use crate::parse::{Fields, Node, ParseError, Shape, shown};
use crate::path::CanonicalPath;

/// All of a port's traffic settings. What is `None` is not done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Traffic {
    /// How callers choose among endpoints.
    pub balance: Balance,
    /// When callers stop using an endpoint.
    pub breaker: Option<Breaker>,
    /// How much at once.
    pub bulkhead: Option<Bulkhead>,
    /// How much per second; the receiver's.
    pub rate_limit: Option<RateLimit>,
    /// How callers ask whether an endpoint works.
    pub health: Option<HealthCheck>,
}

/// How a caller chooses among endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Balance {
    /// Of two picked at random, the one with the lower peak-sensitive moving average of latency
    /// times load.
    #[default]
    Ewma,
    /// Of two picked at random, the one with fewer requests in flight.
    LeastRequest,
    /// In turn.
    RoundRobin,
    /// At random.
    Random,
    /// Consistent hash of a request header; without the header, at random.
    Hash(HeaderName),
}

/// Ejects endpoints that fail. Has at least one of the two conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    /// So many failures in a row; at least 1.
    pub consecutive_failures: Option<u32>,
    /// Too few successes.
    pub success_rate: Option<SuccessRate>,
    /// For how long the first time; 100 ms to 1 h, 10 s by default.
    pub eject_for: Duration,
    /// Never more than this share of the endpoints; a half by default.
    pub max_ejected: Fraction,
}

/// The share of successes over a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuccessRate {
    /// Ejected when lower than this.
    pub below: Fraction,
    /// The window; 1 s to 10 min.
    pub over: Duration,
    /// Not judged with fewer requests in the window; at least 1.
    pub min_requests: u32,
}

/// How much at once; at least one limit, each at least 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bulkhead {
    /// Connections of one caller's proxy to the port's endpoints together.
    pub connections: Option<u32>,
    /// Requests of one caller's proxy that wait for a connection.
    pub pending: Option<u32>,
    /// Requests (on `tcp`, connections) at one receiving proxy.
    pub in_flight: Option<u32>,
    /// The same for each caller identity; not more than `in_flight`.
    pub per_caller_in_flight: Option<u32>,
}

/// How many requests per second one receiving proxy takes; at least one of the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// Of all callers together.
    pub total: Option<Rate>,
    /// Of each caller identity.
    pub per_caller: Option<Rate>,
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens per second; at least 1.
    pub requests_per_second: u32,
    /// The bucket's size; at least 1, by default as many as come in a second.
    pub burst: u32,
}

/// An active check, which the peer proxy passes on to its application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// Asked with GET; a status from 200 to 299 is healthy.
    pub path: CanonicalPath,
    /// 100 ms to 1 h; 5 s by default.
    pub every: Duration,
    /// At most `every`; 1 s by default, or `every` where that is shorter.
    pub timeout: Duration,
}

const BALANCE: Shape = Shape {
    what: "`balance`",
    known: &["algorithm"],
    later: &[],
};

const HASH: Shape = Shape {
    what: "`algorithm`",
    known: &["hash"],
    later: &[],
};

const HASH_OF: Shape = Shape {
    what: "`hash`",
    known: &["header"],
    later: &[],
};

const BREAKER: Shape = Shape {
    what: "`breaker`",
    known: &[
        "consecutiveFailures",
        "successRate",
        "ejectFor",
        "maxEjected",
    ],
    later: &[],
};

const SUCCESS_RATE: Shape = Shape {
    what: "`successRate`",
    known: &["below", "over", "minRequests"],
    later: &[],
};

const BULKHEAD: Shape = Shape {
    what: "`bulkhead`",
    known: &["connections", "pending", "inFlight", "perCaller"],
    later: &[],
};

const BULKHEAD_PER_CALLER: Shape = Shape {
    what: "`perCaller` of a bulkhead",
    known: &["inFlight"],
    later: &[],
};

const RATE_LIMIT: Shape = Shape {
    what: "`rateLimit`",
    known: &["requestsPerSecond", "burst", "perCaller"],
    later: &[],
};

const RATE: Shape = Shape {
    what: "`perCaller` of a rate limit",
    known: &["requestsPerSecond", "burst"],
    later: &[],
};

const HEALTH: Shape = Shape {
    what: "`health`",
    known: &["path", "every", "timeout"],
    later: &[],
};

const SHORTEST: Duration = Duration::from_millis(100);
const HOUR: Duration = Duration::from_secs(3600);
const EJECT_FOR: Duration = Duration::from_secs(10);
const MAX_EJECTED: Fraction = Fraction::from_parts(5_000).expect("a half is a fraction");
const CHECK_EVERY: Duration = Duration::from_secs(5);
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

impl Traffic {
    pub(super) fn read(port: &Fields<'_>, protocol: Protocol) -> Result<Self, ParseError> {
        let balance = port.optional("balance");
        let balance = balance.map(|at| Balance::read(&at, protocol)).transpose()?;
        Ok(Self {
            balance: balance.unwrap_or_default(),
            breaker: optional(port, "breaker", Breaker::read)?,
            bulkhead: optional(port, "bulkhead", |at| Bulkhead::read(at, protocol))?,
            rate_limit: optional(port, "rateLimit", |at| RateLimit::read(at, protocol))?,
            health: optional(port, "health", |at| HealthCheck::read(at, protocol))?,
        })
    }

    /// Adds the fields to the canonical form of a port.
    pub(super) fn write(&self, port: &mut Value) {
        if self.balance != Balance::default() {
            port["balance"] = json!({"algorithm": self.balance.to_json()});
        }
        if let Some(breaker) = &self.breaker {
            port["breaker"] = breaker.to_json();
        }
        if let Some(bulkhead) = &self.bulkhead {
            port["bulkhead"] = bulkhead.to_json();
        }
        if let Some(limit) = &self.rate_limit {
            port["rateLimit"] = limit.to_json();
        }
        if let Some(health) = &self.health {
            port["health"] = json!({
                "path": health.path.as_str(),
                "every": shown(health.every),
                "timeout": shown(health.timeout),
            });
        }
    }
}

impl Balance {
    const NAMES: [&str; 4] = ["ewma", "least-request", "round-robin", "random"];

    fn read(node: &Node<'_>, protocol: Protocol) -> Result<Self, ParseError> {
        let algorithm = node.fields(&BALANCE)?.required("algorithm")?;
        if algorithm.is_mapping() {
            let hash = algorithm.fields(&HASH)?.required("hash")?;
            let header = hash.fields(&HASH_OF)?.required("header")?;
            requests_only(&hash, protocol)?;
            return Ok(Self::Hash(header.parsed()?));
        }
        let text = algorithm.text()?;
        match text {
            "ewma" => Ok(Self::Ewma),
            "least-request" => Ok(Self::LeastRequest),
            "round-robin" => Ok(Self::RoundRobin),
            "random" => Ok(Self::Random),
            "hash" => Err(algorithm
                .invalid("`hash` says which header")
                .suggest("{hash: {header: x-user}}")),
            _ => {
                let rule = "`algorithm` must be ewma, least-request, round-robin, random or \
                            {hash: {header: …}}";
                Err(algorithm.invalid(rule).suggest_nearest(text, &Self::NAMES))
            }
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Ewma => json!("ewma"),
            Self::LeastRequest => json!("least-request"),
            Self::RoundRobin => json!("round-robin"),
            Self::Random => json!("random"),
            Self::Hash(header) => json!({"hash": {"header": header.as_str()}}),
        }
    }
}

impl Breaker {
    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = node.fields(&BREAKER)?;
        let breaker = Self {
            consecutive_failures: count(&fields, "consecutiveFailures")?,
            success_rate: optional(&fields, "successRate", SuccessRate::read)?,
            eject_for: optional(&fields, "ejectFor", |at| at.duration(SHORTEST..=HOUR))?
                .unwrap_or(EJECT_FOR),
            max_ejected: optional(&fields, "maxEjected", Node::ratio)?.unwrap_or(MAX_EJECTED),
        };
        if breaker.consecutive_failures.is_none() && breaker.success_rate.is_none() {
            return Err(node.invalid("`breaker` must state consecutiveFailures or successRate"));
        }
        Ok(breaker)
    }

    fn to_json(&self) -> Value {
        let mut breaker = json!({
            "ejectFor": shown(self.eject_for),
            "maxEjected": self.max_ejected.to_ratio(),
        });
        if let Some(failures) = self.consecutive_failures {
            breaker["consecutiveFailures"] = json!(failures);
        }
        if let Some(rate) = &self.success_rate {
            breaker["successRate"] = json!({
                "below": rate.below.to_ratio(),
                "over": shown(rate.over),
                "minRequests": rate.min_requests,
            });
        }
        breaker
    }
}

impl SuccessRate {
    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = node.fields(&SUCCESS_RATE)?;
        let window = Duration::from_secs(1)..=Duration::from_secs(600);
        Ok(Self {
            below: fields.required("below")?.ratio()?,
            over: fields.required("over")?.duration(window)?,
            min_requests: fields.required("minRequests")?.number(1)?,
        })
    }
}

impl Bulkhead {
    fn read(node: &Node<'_>, protocol: Protocol) -> Result<Self, ParseError> {
        let fields = node.fields(&BULKHEAD)?;
        if let Some(pending) = fields.optional("pending") {
            requests_only(&pending, protocol)?;
        }
        let per_caller = optional(&fields, "perCaller", |at| {
            at.fields(&BULKHEAD_PER_CALLER)?
                .required("inFlight")?
                .number(1)
        })?;
        let bulkhead = Self {
            connections: count(&fields, "connections")?,
            pending: count(&fields, "pending")?,
            in_flight: count(&fields, "inFlight")?,
            per_caller_in_flight: per_caller,
        };
        if fields.keys().next().is_none() {
            let rule = "`bulkhead` must state connections, pending, inFlight or perCaller";
            return Err(node.invalid(rule));
        }
        match (bulkhead.in_flight, per_caller) {
            (Some(all), Some(one)) if one > all => {
                Err(node.invalid("`perCaller.inFlight` must not exceed `inFlight`"))
            }
            _ => Ok(bulkhead),
        }
    }

    fn to_json(&self) -> Value {
        let mut map = Map::new();
        let limits = [
            ("connections", self.connections),
            ("pending", self.pending),
            ("inFlight", self.in_flight),
        ];
        for (name, limit) in limits {
            if let Some(limit) = limit {
                map.insert(name.to_owned(), json!(limit));
            }
        }
        if let Some(limit) = self.per_caller_in_flight {
            map.insert("perCaller".to_owned(), json!({"inFlight": limit}));
        }
        Value::Object(map)
    }
}

impl RateLimit {
    fn read(node: &Node<'_>, protocol: Protocol) -> Result<Self, ParseError> {
        let fields = node.fields(&RATE_LIMIT)?;
        requests_only(node, protocol)?;
        let per_caller = optional(&fields, "perCaller", |at| {
            let fields = at.fields(&RATE)?;
            fields.required("requestsPerSecond")?;
            Rate::read(&fields)
        })?;
        let limit = Self {
            total: Rate::read(&fields)?,
            per_caller: per_caller.flatten(),
        };
        if limit.total.is_none() && limit.per_caller.is_none() {
            return Err(node.invalid("`rateLimit` must state requestsPerSecond or perCaller"));
        }
        Ok(limit)
    }

    fn to_json(&self) -> Value {
        let mut limit = self.total.map_or_else(|| json!({}), Rate::to_json);
        if let Some(per_caller) = self.per_caller {
            limit["perCaller"] = per_caller.to_json();
        }
        limit
    }
}

impl Rate {
    fn read(fields: &Fields<'_>) -> Result<Option<Self>, ParseError> {
        let (rate, burst) = (count(fields, "requestsPerSecond")?, count(fields, "burst")?);
        match (rate, burst) {
            (Some(rate), burst) => Ok(Some(Self {
                requests_per_second: rate,
                burst: burst.unwrap_or(rate),
            })),
            (None, None) => Ok(None),
            (None, Some(_)) => fields.required("requestsPerSecond").map(|_| None),
        }
    }

    fn to_json(self) -> Value {
        json!({"requestsPerSecond": self.requests_per_second, "burst": self.burst})
    }
}

impl HealthCheck {
    fn read(node: &Node<'_>, protocol: Protocol) -> Result<Self, ParseError> {
        let fields = node.fields(&HEALTH)?;
        requests_only(node, protocol)?;
        let every = optional(&fields, "every", |at| at.duration(SHORTEST..=HOUR))?;
        let every = every.unwrap_or(CHECK_EVERY);
        let timeout = optional(&fields, "timeout", |at| {
            at.duration(Duration::from_millis(1)..=every)
        })?;
        Ok(Self {
            path: read_path(&fields.required("path")?)?,
            every,
            timeout: timeout.unwrap_or_else(|| CHECK_TIMEOUT.min(every)),
        })
    }
}

fn read_path(node: &Node<'_>) -> Result<CanonicalPath, ParseError> {
    let text = node.text()?;
    let path = CanonicalPath::parse(text)
        .map_err(|error| node.invalid(format!("`path` is refused: {error}")))?;
    if path.as_str() == text {
        return Ok(path);
    }
    let rule = "`path` must be in the form that requests have";
    Err(node.invalid(rule).suggest(path.as_str()))
}

fn requests_only(node: &Node<'_>, protocol: Protocol) -> Result<(), ParseError> {
    if protocol.is_http() {
        return Ok(());
    }
    let rule = format!(
        "a tcp port has no requests, so it cannot have `{}`",
        node.label()
    );
    Err(node.invalid(rule))
}

fn count(fields: &Fields<'_>, key: &str) -> Result<Option<u32>, ParseError> {
    optional(fields, key, |at| at.number(1))
}

pub(super) fn optional<'a, T>(
    fields: &Fields<'a>,
    key: &str,
    read: impl Fn(&Node<'a>) -> Result<T, ParseError>,
) -> Result<Option<T>, ParseError> {
    fields.optional(key).map(|at| read(&at)).transpose()
}
