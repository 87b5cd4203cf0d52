//! `Route`: how callers' proxies carry calls to one port of a Service. It belongs to the
//! Service's owner, and says nothing about who may call.

use identity::{Name, QualifiedName};
use serde_json::{Value, json};

use super::traffic::optional;
use super::{Fraction, HttpMatch, Kind, ObjectKey, PortName, http_match};
use crate::parse::{Node, ParseError, Shape};

mod fault;
mod headers;
mod retry;
mod timeouts;

pub use fault::{Fault, FaultAbort, FaultDelay};
pub use headers::HeaderChanges;
pub use retry::{Backoff, GrpcMethod, Hedge, Retry, RetryBudget, RetryMethods, RetryOn};
pub use timeouts::Timeouts;

/// The rules of one port. Each port of a Service has at most one Route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Namespace and name; its Service and backends are of the same namespace.
    pub name: QualifiedName,
    /// The Service that callers say.
    pub service: Name,
    /// Its port; never of protocol `tcp`.
    pub port: PortName,
    /// At least one. The most specific match decides; a request that none matches goes to the
    /// Service itself.
    pub rules: Vec<RouteRule>,
}

/// What is done with the requests that match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteRule {
    /// One of these must match. Empty: every request.
    pub matches: Vec<HttpMatch>,
    /// At least one, of which one at least has a weight above 0.
    pub backends: Vec<Backend>,
    /// How long a call may take.
    pub timeouts: Timeouts,
    /// `None`: sent again only if no server can have seen it.
    pub retry: Option<Retry>,
    /// A second try beside a slow first one.
    pub hedge: Option<Hedge>,
    /// Injected on purpose.
    pub fault: Option<Fault>,
    /// Copies of requests, whose answers are thrown away.
    pub mirror: Option<Mirror>,
    /// Changes to the request's fields.
    pub headers: HeaderChanges,
}

/// A Service of the Route's namespace, called on the port of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// The Service's name.
    pub service: Name,
    /// Its share is this over the sum; 0 to 1,000,000, by default 1.
    pub weight: u32,
}

/// Where copies go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// A Service of the Route's namespace.
    pub service: Name,
    /// Of the matching requests; all by default.
    pub percent: Fraction,
}

const SPEC: Shape = Shape {
    what: "the spec of a Route",
    known: &["service", "port", "rules"],
    later: &[],
};

const RULE: Shape = Shape {
    what: "a rule of a Route",
    known: &[
        "match", "backends", "timeout", "retry", "hedge", "fault", "mirror", "headers",
    ],
    later: &[],
};

const BACKEND: Shape = Shape {
    what: "a backend",
    known: &["service", "weight"],
    later: &["port", "namespace"],
};

const MIRROR: Shape = Shape {
    what: "`mirror`",
    known: &["service", "percent"],
    later: &[],
};

const MOST_WEIGHT: u32 = 1_000_000;

impl Route {
    /// The name under which it is stored.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::namespaced(Kind::Route, &self.name)
    }

    /// The Service that a name in this Route means.
    pub fn service_of(&self, name: &Name) -> QualifiedName {
        QualifiedName {
            namespace: self.name.namespace.clone(),
            name: name.clone(),
        }
    }

    /// The Service that callers say.
    pub fn target(&self) -> QualifiedName {
        self.service_of(&self.service)
    }

    /// Every Service that calls may be carried to, mirrors too; some may occur more than once.
    pub fn destinations(&self) -> impl Iterator<Item = QualifiedName> {
        let rules = self.rules.iter();
        rules
            .flat_map(|rule| {
                let backends = rule.backends.iter().map(|backend| &backend.service);
                backends.chain(rule.mirror.iter().map(|mirror| &mirror.service))
            })
            .map(|name| self.service_of(name))
    }

    pub(crate) fn read(name: QualifiedName, spec: &Node<'_>) -> Result<Self, ParseError> {
        let fields = spec.fields(&SPEC)?;
        Ok(Self {
            name,
            service: fields.required("service")?.parsed()?,
            port: fields.required("port")?.parsed()?,
            rules: fields
                .required("rules")?
                .non_empty_list("a Route without rules does nothing; delete it instead")?
                .iter()
                .map(RouteRule::read)
                .collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn spec(&self) -> Value {
        json!({
            "service": self.service.to_string(),
            "port": self.port.to_string(),
            "rules": self.rules.iter().map(RouteRule::to_json).collect::<Vec<_>>(),
        })
    }
}

impl RouteRule {
    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = node.fields(&RULE)?;
        let matches = match fields.optional("match") {
            Some(list) => http_match::read_list(&list, "an entry of `match`", "`match`")?,
            None => Vec::new(),
        };
        let hedge = fields.optional("hedge");
        if let Some(hedge) = &hedge {
            retry::refuse_unsafe_hedge(hedge, &matches)?;
        }
        Ok(Self {
            matches,
            backends: read_backends(&fields.required("backends")?)?,
            timeouts: optional(&fields, "timeout", Timeouts::read)?.unwrap_or_default(),
            retry: optional(&fields, "retry", Retry::read)?,
            hedge: hedge.map(|at| Hedge::read(&at)).transpose()?,
            fault: optional(&fields, "fault", Fault::read)?,
            mirror: optional(&fields, "mirror", Mirror::read)?,
            headers: optional(&fields, "headers", HeaderChanges::read)?.unwrap_or_default(),
        })
    }

    pub(crate) fn to_json(&self) -> Value {
        let backends = self.backends.iter().map(
            |backend| json!({"service": backend.service.to_string(), "weight": backend.weight}),
        );
        let mut rule = json!({"backends": backends.collect::<Vec<_>>()});
        if !self.matches.is_empty() {
            rule["match"] = self.matches.iter().map(HttpMatch::to_json).collect();
        }
        if self.timeouts != Timeouts::default() {
            rule["timeout"] = self.timeouts.to_json();
        }
        if let Some(retry) = &self.retry {
            rule["retry"] = retry.to_json();
        }
        if let Some(hedge) = &self.hedge {
            rule["hedge"] = hedge.to_json();
        }
        if let Some(fault) = &self.fault {
            rule["fault"] = fault.to_json();
        }
        if let Some(mirror) = &self.mirror {
            let percent = mirror.percent.to_percent();
            rule["mirror"] = json!({"service": mirror.service.to_string(), "percent": percent});
        }
        if self.headers != HeaderChanges::default() {
            rule["headers"] = self.headers.to_json();
        }
        rule
    }
}

impl Mirror {
    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = node.fields(&MIRROR)?;
        Ok(Self {
            service: fields.required("service")?.parsed()?,
            percent: optional(&fields, "percent", Node::percent)?.unwrap_or(Fraction::ALL),
        })
    }
}

fn read_backends(node: &Node<'_>) -> Result<Vec<Backend>, ParseError> {
    let mut backends: Vec<Backend> = Vec::new();
    for at in node.non_empty_list("name the Service that takes these calls")? {
        let fields = at.fields(&BACKEND)?;
        let backend = Backend {
            service: fields.required("service")?.parsed()?,
            weight: optional(&fields, "weight", |at| at.within(0..=MOST_WEIGHT))?.unwrap_or(1),
        };
        if backends
            .iter()
            .any(|other| other.service == backend.service)
        {
            return Err(at.duplicate(format!("{} is a backend already", backend.service)));
        }
        backends.push(backend);
    }
    if backends.iter().all(|backend| backend.weight == 0) {
        return Err(node.invalid("one backend at least must have a weight above 0"));
    }
    Ok(backends)
}
