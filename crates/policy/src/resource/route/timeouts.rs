//! How long a call may take.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::parse::{Node, ParseError, Shape, shown};
use crate::resource::traffic::optional;

/// Limits of a call. What is `None` is the proxy's own limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timeouts {
    /// From the request's head to the response's end, retries included; 1 ms to 1 h.
    pub request: Option<Duration>,
    /// From one try's beginning to its response head; not more than `request`. A try that takes
    /// longer counts as reset.
    pub per_try: Option<Duration>,
    /// Without a byte in either direction; 1 ms to 24 h.
    pub idle: Option<Duration>,
}

const SHAPE: Shape = Shape {
    what: "`timeout`",
    known: &["request", "perTry", "idle"],
    later: &[],
};

const SHORTEST: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Timeouts {
    pub(super) fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = node.fields(&SHAPE)?;
        let request = optional(&fields, "request", |at| at.duration(SHORTEST..=HOUR))?;
        let most = request.unwrap_or(HOUR);
        let timeouts = Self {
            request,
            per_try: optional(&fields, "perTry", |at| at.duration(SHORTEST..=most))?,
            idle: optional(&fields, "idle", |at| at.duration(SHORTEST..=DAY))?,
        };
        if timeouts == Self::default() {
            return Err(node.invalid("`timeout` must state request, perTry or idle"));
        }
        Ok(timeouts)
    }

    pub(super) fn to_json(self) -> Value {
        let limits = [
            ("request", self.request),
            ("perTry", self.per_try),
            ("idle", self.idle),
        ];
        let stated = limits
            .into_iter()
            .filter_map(|(name, limit)| Some((name.to_owned(), json!(shown(limit?)))));
        Value::Object(Map::from_iter(stated))
    }
}
