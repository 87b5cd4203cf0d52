//! A call's record as an OpenTelemetry span.
//!
//! The hop at the caller's proxy is a client span, the one at the receiver's a server span; the
//! latter's parent is the former. Attributes are the fields of the access log.

use identity::QualifiedName;
use proto::otlp::v1::any_value::Value;
use proto::otlp::v1::{AnyValue, InstrumentationScope, KeyValue, Resource, Span, Status};

use crate::record::{CallRecord, Direction, NetworkProtocol};

const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const ERROR: i32 = 2;

/// Who the spans are of.
pub(super) fn resource(workload: &QualifiedName) -> Resource {
    let text = |name: &str, value: &str| attribute(name, Value::StringValue(value.to_owned()));
    Resource {
        attributes: vec![
            text("service.namespace", workload.namespace.as_str()),
            text("service.name", workload.name.as_str()),
            text("telemetry.sdk.name", "countersign-proxy"),
            text("telemetry.sdk.language", "rust"),
            text("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        ],
    }
}

pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "countersign-proxy".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// The span of a call that is recorded in a trace.
pub(super) fn of(record: &CallRecord) -> Option<Span> {
    let link = record.trace.as_ref()?;
    let start = u64::try_from(record.at.unix_timestamp_nanos()).ok()?;
    let took = u64::try_from(record.duration.as_nanos()).ok()?;
    let parent = link.parent.map(|it| it.bytes().to_vec());
    let name = match &record.method {
        Some(method) => format!("{method} {}", record.target),
        None => record.target.to_string(),
    };
    Some(Span {
        trace_id: link.trace.bytes().to_vec(),
        span_id: link.span?.bytes().to_vec(),
        parent_span_id: parent.unwrap_or_default(),
        trace_state: link
            .state
            .as_ref()
            .map_or_else(String::new, |it| it.as_str().to_owned()),
        flags: u32::from(link.flags),
        name,
        kind: match record.direction {
            Direction::Inbound => SERVER,
            Direction::Outbound => CLIENT,
        },
        start_time_unix_nano: start,
        end_time_unix_nano: start.saturating_add(took),
        attributes: attributes(record),
        status: status(record),
    })
}

fn attributes(record: &CallRecord) -> Vec<KeyValue> {
    let (protocol, version) = record.protocol.name_and_version();
    let decision = record.decision_id.map(|it| it.to_string());
    let texts = [
        ("countersign.direction", Some(record.direction.as_str())),
        ("countersign.verdict", Some(record.verdict.as_str())),
        ("countersign.source", Some(&*record.source)),
        ("countersign.target", Some(&*record.target)),
        ("countersign.rule", record.rule.as_deref()),
        ("countersign.decision_id", decision.as_deref()),
        ("error.type", record.reason.map(|it| it.code())),
        (
            "http.request.method",
            record.method.as_ref().map(http::Method::as_str),
        ),
        ("url.path", record.path.as_deref()),
        ("network.protocol.name", Some(protocol)),
        ("network.protocol.version", version),
    ];
    let (bytes_in, bytes_out) = match record.protocol {
        NetworkProtocol::Tcp => ("countersign.bytes_in", "countersign.bytes_out"),
        _ => ("http.request.body.size", "http.response.body.size"),
    };
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let retries = (record.retries > 0).then_some(i64::from(record.retries));
    let numbers = [
        ("http.response.status_code", record.status.map(i64::from)),
        ("http.request.resend_count", retries),
        (bytes_in, Some(number(record.bytes_in))),
        (bytes_out, Some(number(record.bytes_out))),
    ];
    let texts = texts
        .into_iter()
        .filter_map(|(name, value)| Some(attribute(name, Value::StringValue(value?.to_owned()))));
    let numbers = numbers
        .into_iter()
        .filter_map(|(name, value)| Some(attribute(name, Value::IntValue(value?))));
    texts.chain(numbers).collect()
}

/// Semantic conventions for HTTP spans: a server's 4xx is no error, a client's is.
fn status(record: &CallRecord) -> Option<Status> {
    let least = match record.direction {
        Direction::Inbound => 500,
        Direction::Outbound => 400,
    };
    let is_error = record.reason.is_some() || record.status.is_some_and(|it| it >= least);
    is_error.then(|| Status {
        code: ERROR,
        message: record.reason.map_or("", |it| it.code()).to_owned(),
    })
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Reason;
    use crate::record::{TraceLink, tests::record};
    use crate::trace_context::{SpanId, TraceId};

    fn traced(direction: Direction, status: u16, reason: Option<Reason>) -> CallRecord {
        CallRecord {
            direction,
            status: Some(status),
            reason,
            trace: Some(TraceLink {
                trace: TraceId::new([1; 16]).unwrap(),
                span: SpanId::new([2; 8]),
                parent: None,
                flags: 1,
                state: None,
            }),
            ..record()
        }
    }

    #[test]
    fn a_call_that_is_not_recorded_has_no_span() {
        assert_eq!(of(&record()), None);
    }

    #[test]
    fn a_404_is_the_clients_error_and_not_the_servers() {
        let code = |direction| {
            of(&traced(direction, 404, None))
                .unwrap()
                .status
                .map(|it| it.code)
        };
        assert_eq!(code(Direction::Inbound), None);
        assert_eq!(code(Direction::Outbound), Some(ERROR));
    }

    #[test]
    fn a_denied_call_is_an_error_of_its_reason() {
        let span = of(&traced(Direction::Inbound, 403, Some(Reason::PolicyDenied))).unwrap();
        assert_eq!(span.status.unwrap().message, "policy-denied");
        let kind = span
            .attributes
            .iter()
            .find(|it| it.key == "error.type")
            .unwrap();
        let text = Value::StringValue("policy-denied".to_owned());
        assert_eq!(kind.value.as_ref().unwrap().value, Some(text));
    }
}
