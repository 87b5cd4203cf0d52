//! One HTTP connection, served until it ends, is asked to leave, or is forced to end.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::BytesMut;
use http::header;
use http::request::Parts;
use http::{HeaderMap, StatusCode};

use super::body::{Incoming, Upload};
use super::call::Call;
use super::io::Io;
use super::pipe::Pipe;
use super::{http1_server, http2_server};
use crate::config::Limits;
use crate::head::fields;
use crate::record::NetworkProtocol;
use crate::worker::leaving::Leave;
use crate::worker::tasks::Tasks;

/// Which version is spoken on a connection; it is known before the first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Http1,
    Http2,
}

impl Wire {
    /// As records have it.
    pub(crate) fn protocol(self) -> NetworkProtocol {
        match self {
            Self::Http1 => NetworkProtocol::Http1,
            Self::Http2 => NetworkProtocol::Http2,
        }
    }
}

/// Answers the requests of a connection, in two steps: what is asked is read at once, so that a
/// request on its way has no room for the head as it came.
pub(crate) trait Handler: 'static {
    /// What a head came to.
    type Begun;

    fn begin(&self, head: Parts) -> Self::Begun;

    /// Whoever drops the future has lost the caller.
    async fn finish(&self, begun: Self::Begun, upload: Upload, interims: &Interims) -> Answer;
}

/// What a caller is answered. Its call ends when the last byte has been passed on.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Incoming,
    /// What is still on its way to the upstream.
    pub(crate) upload: Option<Box<Pipe<Upload>>>,
    pub(crate) call: Box<Call>,
}

/// Informational responses on their way to the caller, before the final one.
#[derive(Debug, Default)]
pub(crate) struct Interims {
    waiting: RefCell<Vec<(StatusCode, HeaderMap)>>,
}

/// What every connection is served with.
#[derive(Debug)]
pub(crate) struct Serving<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) tasks: &'a Tasks,
    pub(crate) leave: Leave,
}

/// Serves until the connection ends; `received` was read from it before. When it is asked to
/// leave, the peer is told (GOAWAY, or `Connection: close`), and what is in flight finishes.
pub(crate) async fn serve<H: Handler>(
    io: Io,
    received: BytesMut,
    wire: Wire,
    handler: Rc<H>,
    serving: Serving<'_>,
) {
    // On the heap, so that a connection has room for its own version alone.
    match wire {
        Wire::Http1 => Box::pin(http1_server::serve(io, received, &*handler, serving)).await,
        Wire::Http2 => Box::pin(http2_server::serve(io, received, handler, serving)).await,
    }
}

impl Answer {
    /// How long its body is, if that is known.
    pub(crate) fn length(&self) -> Option<u64> {
        match &self.body {
            Incoming::Words(words) => Some(words.len() as u64),
            Incoming::Empty | Incoming::Onward(_) => {
                Some(content_length(&self.fields).unwrap_or(0))
            }
            Incoming::Http1(_) | Incoming::Http2(_) => content_length(&self.fields),
        }
    }
}

/// More informational responses than this do not wait: they are a courtesy.
const MOST_INTERIMS: usize = 8;

impl Interims {
    /// Keeps one for the caller, less what ends at this hop and what only a proxy may say.
    pub(crate) fn push(&self, status: StatusCode, mut fields: HeaderMap) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() < MOST_INTERIMS {
            fields::remove_hop_by_hop(&mut fields);
            fields::remove_reserved(&mut fields);
            waiting.push((status, fields));
        }
    }

    pub(super) fn take(&self) -> Vec<(StatusCode, HeaderMap)> {
        self.waiting.take()
    }
}

/// The one declared length.
pub(crate) fn content_length(fields: &HeaderMap) -> Option<u64> {
    let mut lengths = fields.get_all(header::CONTENT_LENGTH).iter();
    let length = lengths.next()?.to_str().ok()?.parse().ok()?;
    lengths.next().is_none().then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interim_says_nothing_in_the_name_of_a_proxy() {
        let mut fields = HeaderMap::new();
        for name in [
            "x_forwarded-client-cert",
            "countersign-decision",
            "connection",
            "link",
        ] {
            fields.insert(name, "close".parse().unwrap());
        }
        let interims = Interims::default();
        interims.push(StatusCode::EARLY_HINTS, fields);
        let (_, fields) = interims.take().remove(0);
        assert_eq!(
            fields.keys().map(|it| it.as_str()).collect::<Vec<_>>(),
            ["link"]
        );
    }

    #[test]
    fn interims_that_nobody_takes_do_not_grow() {
        let interims = Interims::default();
        for _ in 0..100 {
            interims.push(StatusCode::EARLY_HINTS, HeaderMap::new());
        }
        assert_eq!(interims.take().len(), MOST_INTERIMS);
    }
}
