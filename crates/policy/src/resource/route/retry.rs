//! When a call is tried more than once.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::parse::{Node, ParseError, Shape, shown};
use crate::resource::traffic::optional;
use crate::resource::{Fraction, HttpMatch, texts};

/// Tries after the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// So many tries after the first; 1 to 10.
    pub limit: u32,
    /// What is tried again; by default connect-failure and reset.
    pub on: BTreeSet<RetryOn>,
    /// Which requests are tried again although a server may have seen them.
    pub methods: RetryMethods,
    /// The pause before each.
    pub backoff: Backoff,
    /// What all retries to the target together may spend.
    pub budget: RetryBudget,
}

/// An outcome of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RetryOn {
    /// No connection, or no mutual TLS over it.
    ConnectFailure,
    /// The connection or stream broke, or the try took too long, before a response head.
    Reset,
    /// A response with this status: 429, or 500 to 599.
    Status(u16),
}

/// Which requests are tried again although a server may have seen them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RetryMethods {
    /// Those with an idempotent method (RFC 9110 §9.2.2).
    #[default]
    Idempotent,
    /// Calls of these gRPC methods; at least one. The port's protocol is grpc.
    Grpc(BTreeSet<GrpcMethod>),
}

/// A gRPC method, `package.Service/Method`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrpcMethod(String);

/// Exponential, with jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Before the first retry; 1 ms to 1 min, 25 ms by default.
    pub base: Duration,
    /// Never longer; `base` to 1 min, by default 250 ms or `base`.
    pub max: Duration,
}

/// Retries and hedges that a caller's proxy may send to one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBudget {
    /// Of the requests; 0.2 by default.
    pub ratio: Fraction,
    /// And so many in any case; 10 by default.
    pub min_per_second: u32,
}

/// A second try beside one that is slow. Only for GET, HEAD and OPTIONS; spends the retry budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hedge {
    /// How slow; 1 ms to 1 min.
    pub after: Duration,
    /// So many beside the first; 1 to 5, by default 1.
    pub limit: u32,
}

/// Why a text is no gRPC method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a gRPC method is written package.Service/Method")]
pub struct InvalidGrpcMethod;

const SHAPE: Shape = Shape {
    what: "`retry`",
    known: &["limit", "on", "methods", "backoff", "budget"],
    later: &[],
};

const METHODS: Shape = Shape {
    what: "`methods` of a retry",
    known: &["grpc"],
    later: &[],
};

const BACKOFF: Shape = Shape {
    what: "`backoff`",
    known: &["base", "max"],
    later: &[],
};

const BUDGET: Shape = Shape {
    what: "`budget`",
    known: &["ratio", "minPerSecond"],
    later: &[],
};

const HEDGE: Shape = Shape {
    what: "`hedge`",
    known: &["after", "limit"],
    later: &[],
};

/// RFC 9110 §9.2.2.
const IDEMPOTENT: [&str; 6] = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];
/// Safe, and answered by any server alike.
const HEDGED: [&str; 3] = ["GET", "HEAD", "OPTIONS"];
const SHORTEST: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const DEFAULT_BASE: Duration = Duration::from_millis(25);
const DEFAULT_MAX: Duration = Duration::from_millis(250);
const MOST_PER_SECOND: u32 = 1_000_000;

impl Retry {
    pub(super) fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = node.fields(&SHAPE)?;
        Ok(Self {
            limit: fields.required("limit")?.within(1..=10)?,
            on: optional(&fields, "on", read_outcomes)?.unwrap_or_else(RetryOn::defaults),
            methods: optional(&fields, "methods", RetryMethods::read)?.unwrap_or_default(),
            backoff: optional(&fields, "backoff", Backoff::read)?.unwrap_or_default(),
            budget: optional(&fields, "budget", RetryBudget::read)?.unwrap_or_default(),
        })
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "limit": self.limit,
            "on": texts(&self.on),
            "methods": self.methods.to_json(),
            "backoff": {"base": shown(self.backoff.base), "max": shown(self.backoff.max)},
            "budget": {
                "ratio": self.budget.ratio.to_ratio(),
                "minPerSecond": self.budget.min_per_second,
            },
        })
    }
}

impl RetryOn {
    fn defaults() -> BTreeSet<Self> {
        BTreeSet::from([Self::ConnectFailure, Self::Reset])
    }

    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let text = node.text()?;
        let status = || text.parse().ok().filter(|_| text.len() == 3);
        match text {
            "connect-failure" => Ok(Self::ConnectFailure),
            "reset" => Ok(Self::Reset),
            _ => status()
                .filter(|status| *status == 429 || (500..600).contains(status))
                .map(Self::Status)
                .ok_or_else(|| {
                    let rule = "an entry of `on` must be connect-failure, reset, or a status: \
                                \"429\" or from \"500\" to \"599\"";
                    node.invalid(rule)
                        .suggest_nearest(text, &["connect-failure", "reset"])
                }),
        }
    }
}

impl fmt::Display for RetryOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectFailure => f.write_str("connect-failure"),
            Self::Reset => f.write_str("reset"),
            Self::Status(status) => write!(f, "{status}"),
        }
    }
}

impl RetryMethods {
    /// Whether such a request may be sent again although a server may have seen it. `path` is
    /// without the query.
    pub fn permit(&self, method: &str, path: &str) -> bool {
        match self {
            Self::Idempotent => IDEMPOTENT.contains(&method),
            Self::Grpc(methods) => {
                method == "POST"
                    && path
                        .strip_prefix('/')
                        .is_some_and(|it| methods.contains(it))
            }
        }
    }

    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        if !node.is_mapping() {
            return match node.text()? {
                "idempotent" => Ok(Self::Idempotent),
                _ => Err(node
                    .invalid("`methods` must be idempotent, or {grpc: [package.Service/Method]}")
                    .suggest("idempotent")),
            };
        }
        let list = node.fields(&METHODS)?.required("grpc")?;
        let mut methods = BTreeSet::new();
        for at in list.non_empty_list("name a method, or write `methods: idempotent`")? {
            if !methods.insert(at.parsed()?) {
                return Err(at.duplicate("this method is already in the list"));
            }
        }
        Ok(Self::Grpc(methods))
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Idempotent => json!("idempotent"),
            Self::Grpc(methods) => json!({"grpc": texts(methods)}),
        }
    }
}

impl GrpcMethod {
    /// `package.Service/Method`; the path of a call is `/` and this.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Lets a method be looked up by a request's path. The order of a method is its text's.
impl std::borrow::Borrow<str> for GrpcMethod {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for GrpcMethod {
    type Err = InvalidGrpcMethod;

    fn from_str(text: &str) -> Result<Self, InvalidGrpcMethod> {
        let identifier = |part: &str| {
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            part.bytes().all(legal)
                && part
                    .bytes()
                    .next()
                    .is_some_and(|first| !first.is_ascii_digit())
        };
        match text.split_once('/') {
            Some((service, method)) if service.split('.').all(identifier) && identifier(method) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(InvalidGrpcMethod),
        }
    }
}

impl fmt::Display for GrpcMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Backoff {
    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = node.fields(&BACKOFF)?;
        let base = optional(&fields, "base", |at| at.duration(SHORTEST..=MINUTE))?;
        let base = base.unwrap_or(DEFAULT_BASE);
        let max = optional(&fields, "max", |at| at.duration(base..=MINUTE))?;
        Ok(Self {
            base,
            max: max.unwrap_or_else(|| DEFAULT_MAX.max(base)),
        })
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: DEFAULT_BASE,
            max: DEFAULT_MAX,
        }
    }
}

impl RetryBudget {
    const DEFAULT_RATIO: Fraction = Fraction::from_parts(2_000).expect("a fifth is a fraction");

    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = node.fields(&BUDGET)?;
        let default = Self::default();
        let least = optional(&fields, "minPerSecond", |at| at.within(0..=MOST_PER_SECOND))?;
        Ok(Self {
            ratio: optional(&fields, "ratio", Node::ratio)?.unwrap_or(default.ratio),
            min_per_second: least.unwrap_or(default.min_per_second),
        })
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            ratio: Self::DEFAULT_RATIO,
            min_per_second: 10,
        }
    }
}

impl Hedge {
    /// Whether requests with this method are hedged.
    pub fn permits(method: &str) -> bool {
        HEDGED.contains(&method)
    }

    pub(super) fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = node.fields(&HEDGE)?;
        Ok(Self {
            after: fields.required("after")?.duration(SHORTEST..=MINUTE)?,
            limit: optional(&fields, "limit", |at| at.within(1..=5))?.unwrap_or(1),
        })
    }

    pub(super) fn to_json(self) -> Value {
        json!({"after": shown(self.after), "limit": self.limit})
    }
}

/// A match that names an unsafe method would promise a hedge that is never sent.
pub(super) fn refuse_unsafe_hedge(
    hedge: &Node<'_>,
    matches: &[HttpMatch],
) -> Result<(), ParseError> {
    let mut named = matches.iter().flat_map(|entry| &entry.methods);
    match named.find(|method| !Hedge::permits(method.as_str())) {
        Some(method) => Err(hedge.invalid(format!(
            "only GET, HEAD and OPTIONS are hedged, and this rule matches {method}"
        ))),
        None => Ok(()),
    }
}

fn read_outcomes(node: &Node<'_>) -> Result<BTreeSet<RetryOn>, ParseError> {
    let mut outcomes = BTreeSet::new();
    for at in node.non_empty_list("name an outcome, or leave `on` out")? {
        if !outcomes.insert(RetryOn::read(&at)?) {
            return Err(at.duplicate("this outcome is already in the list"));
        }
    }
    Ok(outcomes)
}
