//! A peer that says exactly what a claim has it say.

use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http2::hpack::{Decoder, Field};
use http2::{Accepted, Config, Connection, Error, Outgoing, Reader, Reason, Requests, Writer};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const PRIORITIZED: u8 = 32;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "a.example"),
    (":path", "/"),
];
pub(crate) const POST: [(&str, &str); 4] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "a.example"),
    (":path", "/"),
];
pub(crate) const OK: [(&str, &str); 1] = [(":status", "200")];

/// The peer of one side that is ours.
pub(crate) struct Peer {
    pub(crate) connection: Connection,
    decoder: Decoder,
}

/// A frame that our side sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// Small, so that claims reach the bounds.
pub(crate) fn config() -> Config {
    Config {
        stream_window: 65_535,
        connection_window: 100_000,
        streams: 4,
        header_bytes: 4096,
    }
}

impl Peer {
    /// A client's, before it said anything.
    pub(crate) fn silent_client() -> Self {
        Self::of(Connection::server(config()))
    }

    /// A client's, after the settings of both.
    pub(crate) fn client() -> Self {
        let mut peer = Self::silent_client();
        peer.say_bytes(PREFACE).unwrap();
        peer.greet();
        peer
    }

    /// A server's, after the settings of both.
    pub(crate) fn server() -> (Self, Requests) {
        let (connection, requests) = Connection::client(config());
        let mut peer = Self::of(connection);
        peer.greet();
        (peer, requests)
    }

    fn of(connection: Connection) -> Self {
        let decoder = Decoder::new(4096);
        Self {
            connection,
            decoder,
        }
    }

    fn greet(&mut self) {
        self.say(SETTINGS, 0, 0, &[]).unwrap();
        self.heard();
    }

    pub(crate) fn say(&self, kind: u8, flags: u8, id: u32, payload: &[u8]) -> Result<(), Error> {
        self.say_bytes(&frame(kind, flags, id, payload))
    }

    pub(crate) fn say_bytes(&self, bytes: &[u8]) -> Result<(), Error> {
        self.connection.receive(bytes)
    }

    /// A whole head, or trailers.
    pub(crate) fn say_head(
        &self,
        id: u32,
        flags: u8,
        fields: &[(&str, &str)],
    ) -> Result<(), Error> {
        self.say(HEADERS, END_HEADERS | flags, id, &block(fields))
    }

    /// What our side sent since the last time.
    pub(crate) fn heard(&mut self) -> Vec<Sent> {
        let bytes = self.connection.write(|bytes| (bytes.len(), bytes.to_vec()));
        let mut rest = bytes.strip_prefix(PREFACE).unwrap_or(&bytes);
        let mut frames = Vec::new();
        while let Some(([a, b, c, kind, flags, stream @ ..], after)) = rest.split_first_chunk::<9>()
        {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            frames.push(Sent {
                kind: *kind,
                flags: *flags,
                stream: u32::from_be_bytes(*stream),
                payload: after[..length].to_vec(),
            });
            rest = &after[length..];
        }
        frames
    }

    /// The one reset among what our side sent.
    #[track_caller]
    pub(crate) fn heard_reset(&mut self) -> (u32, Reason) {
        let frames = self.heard();
        let resets: Vec<&Sent> = frames.iter().filter(|it| it.kind == RST_STREAM).collect();
        let [reset] = resets[..] else {
            panic!("{frames:?}")
        };
        (reset.stream, reset.code(0))
    }

    /// The last stream and the code of the one GOAWAY among what our side sent.
    #[track_caller]
    pub(crate) fn heard_goaway(&mut self) -> (u32, Reason) {
        let frames = self.heard();
        let last: Vec<&Sent> = frames.iter().filter(|it| it.kind == GOAWAY).collect();
        let [goaway] = last[..] else {
            panic!("{frames:?}")
        };
        (goaway.code(0).code(), goaway.code(4))
    }

    /// The status in a head that our side sent.
    pub(crate) fn status(&mut self, head: &Sent) -> StatusCode {
        let mut status = None;
        let decoded = self.decoder.decode(&head.payload, 4096, |field| {
            if let Field::Status(it) = field {
                status = Some(it);
            }
        });
        assert_eq!((head.kind, decoded.is_ok()), (HEADERS, true));
        status.unwrap()
    }

    /// Has our server take up a request, after those before it were taken up.
    pub(crate) fn open(&self, id: u32, flags: u8, fields: &[(&str, &str)]) -> Accepted {
        self.say_head(id, flags, fields).unwrap();
        self.connection.accept().unwrap()
    }
}

impl Sent {
    /// A number in its payload.
    pub(crate) fn code(&self, at: usize) -> Reason {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap()).into()
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length.to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields that leave no trace in tables, whatever they are.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            match u8::try_from(text.len()) {
                Ok(length @ ..127) => block.push(length),
                _ => {
                    let more = text.len() - 127;
                    let [low, high] = [more % 128 + 128, more / 128];
                    assert!(high < 128, "longer than two octets say");
                    block.extend([127, low as u8, high as u8]);
                }
            }
            block.extend(text.bytes());
        }
    }
    block
}

pub(crate) fn with<'a>(
    head: &[(&'a str, &'a str)],
    more: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    [head, more].concat()
}

/// Sends a request without fields.
pub(crate) fn request(
    requests: &Requests,
    method: &Method,
    ends: bool,
) -> Result<(Reader, Option<Writer>), Error> {
    let head = Outgoing {
        method,
        scheme: "http",
        authority: "a.example",
        path: Some("/"),
        query: None,
        fields: &HeaderMap::new(),
        te_trailers: false,
    };
    requests.send(&head, ends)
}

/// What is there now, without waiting.
#[track_caller]
pub(crate) fn now<T>(poll: impl FnOnce(&Context<'_>) -> Poll<T>) -> T {
    match poll(&Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

#[track_caller]
pub(crate) fn is_waiting<T>(poll: impl FnOnce(&Context<'_>) -> Poll<T>) -> bool {
    poll(&Context::from_waker(Waker::noop())).is_pending()
}

/// What there is of a body, and how it ended if it did.
pub(crate) fn read(reader: &mut Reader) -> (Vec<u8>, Option<Result<(), Error>>) {
    let mut body = Vec::new();
    loop {
        match reader.poll_data(&Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(data))) => {
                reader.release(data.len());
                body.extend(data);
            }
            Poll::Ready(Some(Err(error))) => return (body, Some(Err(error))),
            Poll::Ready(None) => return (body, Some(Ok(()))),
            Poll::Pending => return (body, None),
        }
    }
}

/// Sends as much of `length` bytes as there is room for.
pub(crate) fn send(writer: &mut Writer, length: usize) -> usize {
    let mut data = Bytes::from(vec![7; length]);
    match writer.poll_data(&Context::from_waker(Waker::noop()), &mut data, false) {
        Poll::Ready(taken) => taken.unwrap(),
        Poll::Pending => 0,
    }
}
