//! W3C Trace Context, level 2: who a call belongs to, as `traceparent` and `tracestate` say.
//!
//! Pure. A header that the specification calls invalid is no context at all: nothing of it is
//! repaired or passed on by whoever takes part in the trace.

use std::fmt;

use data_encoding::HEXLOWER;

/// Bytes of a `traceparent` of version 00.
const LENGTH: usize = 55;
/// "There can be a maximum of 32 list-members in a list" (section 3.3.1.1).
const MOST_MEMBERS: usize = 32;
/// Vendors "SHOULD propagate at least 512 characters of a combined header" (section 3.3.1.5).
const MOST_CHARACTERS: usize = 512;
/// Entries longer than this go first (section 3.3.1.5).
const LARGE_MEMBER: usize = 128;

const SAMPLED: u8 = 0b01;
const RANDOM: u8 = 0b10;

/// Never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// Never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

/// What `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub trace: TraceId,
    /// The span of whoever sent it.
    pub parent: SpanId,
    flags: u8,
}

/// What `tracestate` says, within the specification's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceState(String);

/// Why a `traceparent` is none (section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTraceParent {
    #[error("traceparent has another length than its version")]
    Length,
    #[error("traceparent has something else than hyphens between its parts")]
    Hyphens,
    #[error("traceparent version ff is forbidden")]
    Version,
    #[error("traceparent has something else than lower-case hexadecimal digits")]
    Digits,
    #[error("traceparent has a trace-id of zeros")]
    ZeroTrace,
    #[error("traceparent has a parent-id of zeros")]
    ZeroParent,
}

/// Why a `tracestate` is dropped (section 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTraceState {
    #[error("tracestate has more than 32 members")]
    TooMany,
    #[error("tracestate has a member without a key")]
    Key,
    #[error("tracestate has a member without a value")]
    Value,
    #[error("tracestate has a key twice")]
    Twice,
}

impl TraceContext {
    /// A trace that begins here.
    pub fn root(trace: TraceId, parent: SpanId, is_sampled: bool) -> Self {
        let sampled = if is_sampled { SAMPLED } else { 0 };
        Self {
            trace,
            parent,
            flags: sampled | RANDOM,
        }
    }

    /// Reads the value of the one `traceparent` field.
    ///
    /// # Errors
    /// The first rule that it breaks. A later version is read as section 4 says: by its first
    /// four parts.
    pub fn parse(value: &[u8]) -> Result<Self, InvalidTraceParent> {
        use InvalidTraceParent as Invalid;
        if value.len() < LENGTH {
            return Err(Invalid::Length);
        }
        if [2, 35, 52].into_iter().any(|at| value[at] != b'-') {
            return Err(Invalid::Hyphens);
        }
        match hex::<1>(&value[..2])? {
            [0xff] => return Err(Invalid::Version),
            [0] if value.len() != LENGTH => return Err(Invalid::Length),
            _ if value.get(LENGTH).is_some_and(|byte| *byte != b'-') => {
                return Err(Invalid::Hyphens);
            }
            _ => {}
        }
        let trace = TraceId::new(hex(&value[3..35])?).ok_or(Invalid::ZeroTrace)?;
        let parent = SpanId::new(hex(&value[36..52])?).ok_or(Invalid::ZeroParent)?;
        let [flags] = hex(&value[53..55])?;
        Ok(Self {
            trace,
            parent,
            // Others must be zero when a version 00 is sent on (section 3.2.2.5).
            flags: flags & (SAMPLED | RANDOM),
        })
    }

    /// The same trace, as the span `parent` sends it on.
    pub fn through(self, parent: SpanId) -> Self {
        Self { parent, ..self }
    }

    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// As OTLP has them.
    pub fn flags(self) -> u8 {
        self.flags
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.parent, self.flags)
    }
}

impl TraceState {
    /// Reads the values of all `tracestate` fields, in order; `None` if there is no member.
    ///
    /// # Errors
    /// The first rule that they break; then no member counts.
    pub fn parse<'a>(
        fields: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Option<Self>, InvalidTraceState> {
        let mut members: Vec<(&str, &str)> = Vec::new();
        for field in fields {
            for member in field.split(|byte| *byte == b',') {
                let member = trim(member);
                if member.is_empty() {
                    continue;
                }
                let (key, value) = key_and_value(member)?;
                if members.len() == MOST_MEMBERS {
                    return Err(InvalidTraceState::TooMany);
                }
                if members.iter().any(|(known, _)| *known == key) {
                    return Err(InvalidTraceState::Twice);
                }
                members.push((key, value));
            }
        }
        Ok(Self::within_limits(members))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn within_limits(mut members: Vec<(&str, &str)>) -> Option<Self> {
        let length = |(key, value): &(&str, &str)| key.len() + value.len() + 1;
        let whole = |members: &[(&str, &str)]| {
            members.iter().map(length).sum::<usize>() + members.len().saturating_sub(1)
        };
        while whole(&members) > MOST_CHARACTERS {
            let large = members.iter().rposition(|it| length(it) > LARGE_MEMBER);
            members.remove(large.unwrap_or(members.len() - 1));
        }
        let members: Vec<String> = members.iter().map(|(k, v)| format!("{k}={v}")).collect();
        (!members.is_empty()).then(|| Self(members.join(",")))
    }
}

impl TraceId {
    /// `None` for zeros.
    pub fn new(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    pub fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl SpanId {
    /// `None` for zeros.
    pub fn new(bytes: [u8; 8]) -> Option<Self> {
        (bytes != [0; 8]).then_some(Self(bytes))
    }

    pub fn bytes(self) -> [u8; 8] {
        self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceId({self})")
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpanId({self})")
    }
}

fn hex<const N: usize>(digits: &[u8]) -> Result<[u8; N], InvalidTraceParent> {
    let mut bytes = [0; N];
    match HEXLOWER.decode_mut(digits, &mut bytes) {
        Ok(length) if length == N => Ok(bytes),
        _ => Err(InvalidTraceParent::Digits),
    }
}

/// Optional white space around members (section 3.3.1.2).
fn trim(mut member: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = member {
        member = rest;
    }
    member
}

fn key_and_value(member: &[u8]) -> Result<(&str, &str), InvalidTraceState> {
    use InvalidTraceState as Invalid;
    let at = member.iter().position(|byte| *byte == b'=');
    let at = at.ok_or(Invalid::Value)?;
    let (key, value) = (&member[..at], &member[at + 1..]);
    let is_first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_key = |byte: &u8| is_first(*byte) || b"_-*/@".contains(byte);
    if key.is_empty() || key.len() > 256 || !is_first(key[0]) || !key.iter().all(is_key) {
        return Err(Invalid::Key);
    }
    let is_value = |byte: &u8| matches!(byte, b' '..=b'~') && !b",=".contains(byte);
    if value.is_empty() || value.len() > 256 || !value.iter().all(is_value) {
        return Err(Invalid::Value);
    }
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| Invalid::Value);
    Ok((text(key)?, text(value)?))
}

#[cfg(test)]
mod tests;
