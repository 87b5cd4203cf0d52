//! `[limits]`: what every listener bounds.
//!
//! Refused is a zero, which would refuse everything.

use std::time::Duration;

use runtime::Span;
use serde::Deserialize;

use super::InvalidConfig;

/// How long, how many and how large, on every listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// From the first byte of a TLS handshake to its end.
    pub handshake: Span,
    pub connect: Span,
    /// A request's head; also how long an HTTP/1 connection may wait for its next request.
    pub header_read: Span,
    /// A stream or connection without a byte in either direction.
    pub idle: Span,
    /// A stream or connection altogether.
    pub total: Span,
    /// The first call to a name waits this long for the agent's answer.
    pub want: Span,
    pub header_bytes: u32,
    pub headers: usize,
    /// Open at once, for each listener.
    pub connections: usize,
    /// Open at once at all mesh listeners from one address (of IPv6, the first 64 bits), and as
    /// one identity; and at all listeners of Gateways from one address.
    pub connections_per_source: usize,
    /// At once on one HTTP/2 connection.
    pub streams: u32,
}

impl Limits {
    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        let spans = [
            ("handshake", self.handshake),
            ("connect", self.connect),
            ("header_read", self.header_read),
            ("idle", self.idle),
            ("total", self.total),
        ];
        let counts = [
            ("header_bytes", self.header_bytes as usize),
            ("headers", self.headers),
            ("connections", self.connections),
            ("connections_per_source", self.connections_per_source),
            ("streams", self.streams as usize),
        ];
        let zero = spans
            .iter()
            .find(|(_, span)| Duration::from(*span).is_zero())
            .map(|(field, _)| *field)
            .or_else(|| {
                counts
                    .iter()
                    .find(|(_, count)| *count == 0)
                    .map(|(field, _)| *field)
            });
        match zero {
            Some(field) => Err(InvalidConfig::ZeroLimit { field }),
            None => Ok(()),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Span::from(Duration::from_secs(5)),
            connect: Span::from(Duration::from_secs(2)),
            header_read: Span::from(Duration::from_secs(30)),
            idle: Span::from(Duration::from_secs(300)),
            total: Span::from(Duration::from_secs(24 * 3600)),
            want: Span::from(Duration::from_secs(2)),
            header_bytes: 64 * 1024,
            headers: 100,
            connections: 4096,
            connections_per_source: 1024,
            streams: 256,
        }
    }
}
