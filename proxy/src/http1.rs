//! HTTP/1 as applications speak it (RFC 9112): a strict reader and writer that know no socket.
//!
//! Invariant: a message has one framing, or it is refused. What this module accepts, every
//! parser that follows the RFC reads in the same way, up to the byte where the next message
//! begins; what it writes, it reads back as the same message.
//!
//! It refuses what RFC 9112 lets a recipient repair, because the next hop may repair it
//! otherwise: a bare CR or LF, folded lines, a space before the colon, Transfer-Encoding beside
//! Content-Length or in HTTP/1.0 or with another coding than `chunked`, and a Content-Length that
//! is repeated, a list or signed. [`Malformed`] names each rule.
//!
//! hyper reads more than this does. Deliberately stricter here:
//! * line ends: hyper takes a bare LF;
//! * empty lines before a request: hyper skips any number, this one;
//! * Content-Length: hyper takes several that agree, and drops it beside Transfer-Encoding;
//! * Transfer-Encoding: hyper takes `gzip, chunked`, and several fields;
//! * request targets: hyper drops a fragment and takes bytes that are not ASCII;
//! * Host: hyper leaves it to the service;
//! * chunks: hyper takes white space after the size;
//! * trailers: hyper takes fields that frame a message;
//! * responses: hyper takes 600–999, and frames that 1xx and 204 must not have;
//! * HTTP/1.0 requests: hyper keeps the connection for `keep-alive`, a proxy must not
//!   (RFC 9112 section 9.3);
//! * expectations: hyper ignores those that it does not know.

mod body;
mod chunked;
mod connection;
mod diagnosis;
mod framing;
mod lines;
mod malformed;
mod queue;
mod reader;
mod request;
mod response;
mod send;
mod write;

pub use body::{BodyReader, Piece};
pub use connection::Connection;
pub use framing::Framing;
pub use malformed::Malformed;
pub use queue::WriteQueue;
pub use reader::HeadReader;
pub use request::Request;
pub use response::Response;
pub use send::{BodyWriter, Unsendable};
pub use write::{RequestLine, write_informational, write_request_head, write_response_head};

/// How much of a message is read before it is refused. Bodies are not limited here: they stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A head, from its first byte to its empty line. The trailers of a body have at most as
    /// many bytes, and at most 8 KiB.
    pub head_bytes: usize,
    /// A request target.
    pub target_bytes: usize,
    /// The fields of a head, and the trailers of a body. At most [`Limits::MOST_FIELDS`] count.
    pub fields: usize,
}

impl Limits {
    /// What the parser has room for.
    pub const MOST_FIELDS: usize = 128;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 64 * 1024,
            target_bytes: 16 * 1024,
            fields: 100,
        }
    }
}

#[cfg(test)]
mod tests;
