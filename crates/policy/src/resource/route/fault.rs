//! Faults injected on purpose, so that callers can be tried.

use std::time::Duration;

use serde_json::{Value, json};

use crate::parse::{Node, ParseError, Shape, shown};
use crate::resource::Fraction;
use crate::resource::traffic::optional;

/// At least one of the two; a request may be both delayed and aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Held up before it is sent.
    pub delay: Option<FaultDelay>,
    /// Answered instead of sent.
    pub abort: Option<FaultAbort>,
}

/// Requests that are held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultDelay {
    /// How many of them.
    pub percent: Fraction,
    /// For how long; 1 ms to 5 min.
    pub by: Duration,
}

/// Requests that are answered by the caller's proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultAbort {
    /// How many of them.
    pub percent: Fraction,
    /// 400 to 599.
    pub status: u16,
}

const SHAPE: Shape = Shape {
    what: "`fault`",
    known: &["delay", "abort"],
    later: &[],
};

const DELAY: Shape = Shape {
    what: "`delay`",
    known: &["percent", "by"],
    later: &[],
};

const ABORT: Shape = Shape {
    what: "`abort`",
    known: &["percent", "status"],
    later: &[],
};

const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(300);

impl Fault {
    pub(super) fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = node.fields(&SHAPE)?;
        let fault = Self {
            delay: optional(&fields, "delay", FaultDelay::read)?,
            abort: optional(&fields, "abort", FaultAbort::read)?,
        };
        if fault.delay.is_none() && fault.abort.is_none() {
            return Err(node.invalid("`fault` must state delay or abort"));
        }
        Ok(fault)
    }

    pub(super) fn to_json(&self) -> Value {
        let mut fault = json!({});
        if let Some(delay) = self.delay {
            fault["delay"] = json!({"percent": delay.percent.to_percent(), "by": shown(delay.by)});
        }
        if let Some(abort) = self.abort {
            fault["abort"] = json!({"percent": abort.percent.to_percent(), "status": abort.status});
        }
        fault
    }
}

impl FaultDelay {
    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = node.fields(&DELAY)?;
        Ok(Self {
            percent: fields.required("percent")?.percent()?,
            by: fields.required("by")?.duration(SHORTEST..=LONGEST)?,
        })
    }
}

impl FaultAbort {
    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = node.fields(&ABORT)?;
        let status = fields.required("status")?;
        Ok(Self {
            percent: fields.required("percent")?.percent()?,
            status: status
                .number(400)
                .ok()
                .filter(|status| *status < 600)
                .ok_or_else(|| status.invalid("`status` must be a status from 400 to 599"))?,
        })
    }
}
