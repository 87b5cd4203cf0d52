//! What a client and a server do on a connection, and what either sees of the other.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use proptest::prelude::*;
use proptest::sample::select;

#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) calls: Vec<Call>,
    /// How many bytes are on the wire at most.
    pub(crate) wire: usize,
    /// What each side offers, where it is the other implementation.
    pub(crate) window: u32,
    /// How many streams the server takes at once.
    pub(crate) streams: u32,
    /// The window of the other implementation's streams from this call on.
    pub(crate) changes: Option<(usize, u32)>,
    /// The server leaves when it has taken up so many calls.
    pub(crate) leaves: Option<usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) request: Message,
    pub(crate) interims: usize,
    pub(crate) status: StatusCode,
    pub(crate) response: Message,
    pub(crate) server: Server,
    /// The client gives up when it has seen so many bytes of the response.
    pub(crate) gives_up: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// Reads the request first, and then answers.
    Reads,
    /// Does both at once.
    Streams,
    /// Answers without reading.
    Ignores,
    /// Resets the stream after so many pieces of its answer.
    Resets(usize),
}

#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) fields: Vec<(&'static str, String)>,
    /// Sizes of the pieces of its body.
    pub(crate) pieces: Vec<usize>,
    /// Whether its length is declared.
    pub(crate) declared: bool,
    pub(crate) trailers: Vec<(&'static str, String)>,
}

/// How a message was seen at the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// A method or a status.
    pub(crate) start: String,
    pub(crate) interims: usize,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Body,
    pub(crate) trailers: HeaderMap,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Body(pub(crate) Vec<u8>);

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What became of a call for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered(Box<Seen>),
    Reset(u32),
    GivenUp,
    /// The server promised that it did nothing.
    Unprocessed,
    Broken(String),
}

impl Message {
    pub(crate) fn length(&self) -> usize {
        self.pieces.iter().sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.trailers.is_empty()
    }

    pub(crate) fn fields(&self) -> HeaderMap {
        let mut fields = map(&self.fields);
        if self.declared {
            fields.insert("content-length", self.length().into());
        }
        fields
    }

    pub(crate) fn trailers(&self) -> Option<HeaderMap> {
        (!self.trailers.is_empty()).then(|| map(&self.trailers))
    }

    /// The pieces of its body.
    pub(crate) fn body(&self) -> Vec<Bytes> {
        let mut at = 0;
        let pieces = self.pieces.iter().map(|length| {
            at += length;
            (at - length..at).map(|at| (at % 251) as u8).collect()
        });
        pieces.collect()
    }

    fn seen(&self, start: &str, interims: usize) -> Seen {
        Seen {
            start: start.to_owned(),
            interims,
            fields: self.fields(),
            body: Body(self.body().concat()),
            trailers: map(&self.trailers),
        }
    }
}

impl Call {
    /// What its client comes to.
    pub(crate) fn outcome(&self) -> Outcome {
        match (self.gives_up, self.server) {
            (Some(_), _) => Outcome::GivenUp,
            (None, Server::Resets(_)) => Outcome::Reset(RESET),
            (None, _) => {
                let seen = self.response.seen(self.status.as_str(), self.interims);
                Outcome::Answered(Box::new(seen))
            }
        }
    }

    /// What its server sees, unless one of the two ends it early.
    pub(crate) fn request_seen(&self) -> Option<Seen> {
        let whole = matches!(self.server, Server::Reads | Server::Streams);
        let whole = whole && self.gives_up.is_none();
        whole.then(|| self.request.seen(self.method.as_str(), 0))
    }

    /// A large body in either direction.
    pub(crate) fn large() -> Self {
        let message = Message {
            fields: vec![],
            pieces: vec![100_000; 3],
            declared: true,
            trailers: vec![],
        };
        Self {
            method: Method::POST,
            request: message.clone(),
            interims: 0,
            status: StatusCode::OK,
            response: message,
            server: Server::Streams,
            gives_up: None,
        }
    }
}

/// What servers reset streams with.
pub(crate) const RESET: u32 = 11;

pub(crate) fn map(fields: &[(&'static str, String)]) -> HeaderMap {
    let fields = fields.iter().map(|(name, value)| {
        let value = HeaderValue::from_str(value).unwrap();
        (HeaderName::from_static(name), value)
    });
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(name, value);
    }
    map
}

pub(crate) fn scripts() -> impl Strategy<Value = Script> {
    let window = prop_oneof![200_u32..2000, 2000_u32..70_000, Just(65_535), Just(1 << 20)];
    let changed = prop_oneof![200_u32..1000, Just(65_535)];
    (
        prop::collection::vec(calls(), 1..10),
        prop_oneof![60_usize..100, Just(4096), Just(1 << 16)],
        window,
        1_u32..6,
        prop::option::of((0_usize..5, changed)),
        prop::option::weighted(0.2, 1_usize..5),
    )
        .prop_map(|(calls, wire, window, streams, changes, leaves)| Script {
            calls,
            wire,
            window,
            streams,
            changes,
            leaves,
        })
}

fn calls() -> impl Strategy<Value = Call> {
    let server = prop_oneof![
        3 => Just(Server::Reads),
        3 => Just(Server::Streams),
        1 => Just(Server::Ignores),
        1 => (0_usize..4).prop_map(Server::Resets),
    ];
    (
        select(vec![Method::GET, Method::POST, Method::PUT, Method::HEAD]),
        messages(),
        prop_oneof![4 => Just(0), 1 => 1_usize..5],
        select(vec![200_u16, 200, 201, 204, 304, 404, 500]),
        messages(),
        server,
        prop::option::weighted(0.15, prop_oneof![Just(0_usize), 0_usize..100_000]),
    )
        .prop_map(
            |(method, request, interims, status, response, server, gives_up)| {
                let call = Call {
                    method,
                    request,
                    interims,
                    status: StatusCode::from_u16(status).unwrap(),
                    response,
                    server,
                    gives_up,
                };
                call.without_bodies_where_none_may_be()
            },
        )
}

impl Call {
    fn without_bodies_where_none_may_be(mut self) -> Self {
        if self.method == Method::HEAD || matches!(self.status.as_u16(), 204 | 304) {
            self.response.pieces.clear();
            self.response.trailers.clear();
            self.response.declared = false;
        }
        self
    }
}

fn messages() -> impl Strategy<Value = Message> {
    let pieces = prop_oneof![
        2 => Just(vec![]),
        2 => prop::collection::vec(1_usize..2000, 1..8),
        1 => prop::collection::vec(1_usize..50_000, 1..5),
        1 => Just(vec![1; 200]),
    ];
    let trailers = prop_oneof![2 => Just(vec![]), 1 => fields()];
    (fields(), pieces, any::<bool>(), trailers).prop_map(|(fields, pieces, declared, trailers)| {
        Message {
            fields,
            pieces,
            declared,
            trailers,
        }
    })
}

/// Some that repeat from call to call, and some that do not.
fn fields() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let name = select(vec![
        "accept",
        "cookie",
        "user-agent",
        "x-request-id",
        "x-other",
    ]);
    let value = prop_oneof![
        Just("*/*".to_owned()),
        "[a-c]{0,3}",
        "[!-~]{1,80}",
        Just("long".repeat(300)),
    ];
    prop::collection::vec((name, value), 0..6)
}
