//! Whatever a peer says, neither side of a connection panics, what it keeps is bounded, and nothing
//! is left once all handles are dropped.
#![no_main]

use std::task::{Context, Poll, Waker};

use arbitrary::Arbitrary;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http2::{Config, Connection, Outgoing, Reader, Reason, Requests, Writer};
use libfuzzer_sys::fuzz_target;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// What may wait to be written before the connection is no longer read from, and what one frame
/// that was read before may add to it.
const MOST_OUTPUT: usize = 64 * 1024 + 128 * 1024;

#[derive(Arbitrary, Debug)]
struct Input {
    is_client: bool,
    /// Without the frames that a well-formed peer begins with.
    begins_anyhow: bool,
    split: u8,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Bytes(Vec<u8>),
    Frame { kind: u8, flags: u8, stream: u8, payload: Vec<u8> },
    Head { stream: u8, flags: u8, names: Vec<u8> },
    Data { stream: u8, flags: u8, length: u16 },
    Window { stream: u8, by: u32 },
    Setting { id: u8, value: u32 },
    Reset { stream: u8, code: u8 },
    Leave { last: u8 },
    /// The peer takes so much of what waits.
    Write(u16),
    Accept,
    Request { ends: bool, head: bool },
    Respond { at: u8, status: u8, ends: bool },
    Read { at: u8, held: bool },
    Send { at: u8, length: u16, last: bool },
    Finish { at: u8, trailers: bool },
    ResetOurs { at: u8 },
    DropReader { at: u8 },
    DropWriter { at: u8 },
    DropRequests,
    LeaveOurs,
    Ping,
    Tick,
}

struct World {
    connection: Connection,
    requests: Option<Requests>,
    readers: Vec<Reader>,
    writers: Vec<Writer>,
    split: usize,
}

fuzz_target!(|input: Input| {
    let config = Config {
        stream_window: 65_535,
        connection_window: 100_000,
        streams: 8,
        header_bytes: 2048,
    };
    let (connection, requests) = if input.is_client {
        let (connection, requests) = Connection::client(config);
        (connection, Some(requests))
    } else {
        (Connection::server(config), None)
    };
    let mut world = World {
        connection,
        requests,
        readers: Vec::new(),
        writers: Vec::new(),
        split: usize::from(input.split) + 1,
    };
    if !input.begins_anyhow {
        if !input.is_client {
            world.receive(PREFACE);
        }
        world.receive(&SETTINGS);
    }
    for step in input.steps {
        world.connection.begin_turn(&context());
        world.take(step);
        world.connection.end_turn(false);
        assert!(waiting(&world.connection) <= MOST_OUTPUT);
    }
    world.end();
});

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn waiting(connection: &Connection) -> usize {
    connection.write(|bytes| (0, bytes.len()))
}

impl World {
    fn receive(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(self.split.max(bytes.len() / 64)) {
            // Like the one that drives it: it writes before it reads more.
            if self.connection.is_full() {
                self.connection.write(|bytes| (bytes.len(), ()));
            }
            if self.connection.receive(piece).is_err() {
                return;
            }
        }
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
        let mut frame = length.to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.receive(&frame);
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Bytes(bytes) => self.receive(&bytes),
            Step::Frame { kind, flags, stream, payload } => {
                self.frame(kind % 11, flags, stream.into(), &payload);
            }
            Step::Head { stream, flags, names } => {
                let block: Vec<u8> = names.iter().flat_map(|name| field(*name)).collect();
                self.frame(1, flags & 0x25 | 4, (stream % 24).into(), &block);
            }
            Step::Data { stream, flags, length } => {
                let data = vec![0; usize::from(length % 16_385)];
                self.frame(0, flags & 9, (stream % 24).into(), &data);
            }
            Step::Window { stream, by } => {
                self.frame(8, 0, (stream % 24).into(), &by.to_be_bytes());
            }
            Step::Setting { id, value } => {
                let [a, b, c, d] = value.to_be_bytes();
                self.frame(4, 0, 0, &[0, id % 8, a, b, c, d]);
            }
            Step::Reset { stream, code } => {
                self.frame(3, 0, (stream % 24).into(), &[0, 0, 0, code]);
            }
            Step::Leave { last } => self.frame(7, 0, 0, &[0, 0, 0, last % 24, 0, 0, 0, 0]),
            Step::Write(most) => self.connection.write(|bytes| {
                (bytes.len().min(most.into()), ())
            }),
            other => self.use_handles(other),
        }
    }

    fn use_handles(&mut self, step: Step) {
        match step {
            Step::Accept => {
                while let Some(accepted) = self.connection.accept() {
                    self.readers.extend(accepted.body);
                    self.writers.push(accepted.respond);
                }
            }
            Step::Request { ends, head } => self.request(ends, head),
            Step::Respond { at, status, ends } => {
                let status = [100, 103, 200, 204, 304][usize::from(status) % 5];
                let status = StatusCode::from_u16(status).expect("one of those");
                if let Some(writer) = pick(&mut self.writers, at) {
                    let _ = writer.respond(status, &HeaderMap::new(), ends);
                }
            }
            Step::Read { at, held } => {
                if let Some(reader) = pick(&mut self.readers, at) {
                    read(reader, held);
                }
            }
            Step::Send { at, length, last } => {
                if let Some(writer) = pick(&mut self.writers, at) {
                    let mut data = Bytes::from(vec![0; length.into()]);
                    let _ = writer.poll_data(&context(), &mut data, last);
                }
            }
            Step::Finish { at, trailers } => self.finish(at, trailers),
            Step::ResetOurs { at } => {
                if let Some(writer) = pick(&mut self.writers, at) {
                    writer.reset(Reason::CANCEL);
                }
            }
            Step::DropReader { at } => drop_one(&mut self.readers, at),
            Step::DropWriter { at } => drop_one(&mut self.writers, at),
            Step::DropRequests => self.requests = None,
            Step::LeaveOurs => self.connection.leave(),
            Step::Ping => self.connection.ping(),
            _ => self.connection.tick(),
        }
    }

    fn request(&mut self, ends: bool, head: bool) {
        let head = Outgoing {
            method: if head { &Method::HEAD } else { &Method::POST },
            scheme: "http",
            authority: "a",
            path: Some("/"),
            query: None,
            fields: &HeaderMap::new(),
            te_trailers: true,
        };
        let Some(requests) = &self.requests else { return };
        if self.readers.len() < 16
            && let Ok((reader, writer)) = requests.send(&head, ends)
        {
            self.readers.push(reader);
            self.writers.extend(writer);
        }
    }

    fn finish(&mut self, at: u8, trailers: bool) {
        let Some(writer) = pick(&mut self.writers, at) else { return };
        let _ = if trailers {
            let name = http::HeaderName::from_static("a");
            writer.trailers(&HeaderMap::from_iter([(name, http::HeaderValue::from_static("b"))]))
        } else {
            writer.finish()
        };
    }

    /// However it went, nothing is left.
    fn end(mut self) {
        self.connection.close();
        for reader in &mut self.readers {
            read(reader, true);
            assert!(reader.poll_data(&context()).is_ready());
        }
        for writer in &mut self.writers {
            let mut data = Bytes::from_static(b"x");
            assert!(writer.poll_data(&context(), &mut data, true).is_ready());
        }
        let World { connection, requests, readers, writers, .. } = self;
        drop((requests, readers, writers));
        assert!(connection.accept().is_none());
        assert_eq!(connection.streams(), 0);
        assert!(connection.is_over());
    }
}

/// Reads what there is, and passes it on unless it is held.
fn read(reader: &mut Reader, held: bool) {
    let _ = reader.poll_head(&context(), drop);
    while let Poll::Ready(Some(Ok(data))) = reader.poll_data(&context()) {
        assert!(!data.is_empty());
        if !held {
            reader.release(data.len());
        }
    }
    let is_end = reader.is_end();
    assert!(reader.trailers().is_none() || !is_end);
}

fn pick<T>(all: &mut [T], at: u8) -> Option<&mut T> {
    let count = all.len().max(1);
    all.get_mut(usize::from(at) % count)
}

fn drop_one<T>(all: &mut Vec<T>, at: u8) {
    if !all.is_empty() {
        all.swap_remove(usize::from(at) % all.len());
    }
}

/// A field as HPACK has it: from the tables, kept in them, or neither.
fn field(name: u8) -> Vec<u8> {
    const LITERALS: [&[u8]; 10] = [
        b"\x00\x07:status\x03200",
        b"\x00\x07:status\x03103",
        b"\x0f\x0d\x015",
        b"\x00\x02te\x08trailers",
        b"\x40\x01a\x01b",
        b"\x40\x0acontent-le\x01b",
        b"\x00\x01A\x01b",
        b"\x00\x0aconnection\x05close",
        b"\x20",
        b"\x3f\xe1\x1f",
    ];
    match name {
        0..200 => vec![0x80 | name % 70],
        _ => LITERALS[usize::from(name) % LITERALS.len()].to_vec(),
    }
}
