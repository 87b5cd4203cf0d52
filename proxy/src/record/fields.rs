//! A record's fields by name: one vocabulary for the access log, a tap and a span.
//!
//! Names come from OpenTelemetry's semantic conventions (HTTP, network, error) where there is
//! one, and begin with `countersign.` where there is none. What is unknown is left out.

use serde::ser::{Serialize, SerializeMap, Serializer};
use time::format_description::well_known::Rfc3339;

use super::{CallRecord, NetworkProtocol};

impl Serialize for CallRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let at = self
            .at
            .format(&Rfc3339)
            .map_err(serde::ser::Error::custom)?;
        let (protocol, version) = self.protocol.name_and_version();
        let (bytes_in, bytes_out) = match self.protocol {
            NetworkProtocol::Tcp => ("countersign.bytes_in", "countersign.bytes_out"),
            _ => ("http.request.body.size", "http.response.body.size"),
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("timestamp", &at)?;
        map.serialize_entry("countersign.direction", self.direction.as_str())?;
        map.serialize_entry("countersign.verdict", self.verdict.as_str())?;
        map.serialize_entry("countersign.source", &*self.source)?;
        map.serialize_entry("countersign.target", &*self.target)?;
        map.serialize_entry("network.protocol.name", protocol)?;
        entry(&mut map, "network.protocol.version", version)?;
        let method = self.method.as_ref();
        entry(
            &mut map,
            "http.request.method",
            method.map(|it| it.as_str()),
        )?;
        entry(&mut map, "url.path", self.path.as_deref())?;
        entry(&mut map, "http.response.status_code", self.status)?;
        // The reason is an error's type: a stable word of low cardinality.
        entry(&mut map, "error.type", self.reason.map(|it| it.code()))?;
        entry(&mut map, "countersign.detail", self.detail.as_deref())?;
        entry(&mut map, "countersign.rule", self.rule.as_deref())?;
        let decision = self.decision_id.as_ref().map(ToString::to_string);
        entry(&mut map, "countersign.decision_id", decision)?;
        if let Some(link) = &self.trace {
            map.serialize_entry("trace_id", &link.trace.to_string())?;
            entry(&mut map, "span_id", link.span.map(|it| it.to_string()))?;
            entry(
                &mut map,
                "parent_span_id",
                link.parent.map(|it| it.to_string()),
            )?;
        }
        map.serialize_entry("duration", &self.duration.as_secs_f64())?;
        let upstream = self.upstream_duration.map(|it| it.as_secs_f64());
        entry(&mut map, "countersign.upstream.duration", upstream)?;
        map.serialize_entry(bytes_in, &self.bytes_in)?;
        map.serialize_entry(bytes_out, &self.bytes_out)?;
        map.serialize_entry("http.request.resend_count", &self.retries)?;
        map.end()
    }
}

fn entry<M: SerializeMap, V: Serialize>(
    map: &mut M,
    name: &'static str,
    value: Option<V>,
) -> Result<(), M::Error> {
    match value {
        Some(value) => map.serialize_entry(name, &value),
        None => Ok(()),
    }
}
