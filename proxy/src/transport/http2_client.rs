//! The client's side of an HTTP/2 connection, shared by many requests.

use std::cell::{Cell, OnceCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use http2::{Config, Connection, Outgoing, Reader, Requests, Response};
use tokio::sync::Notify;

use super::admission::Counted;
use super::body::{Incoming, Upload};
use super::fault::Fault;
use super::hop::{Attempt, Reply, is_turned_away, source_fault};
use super::http_server::Interims;
use super::http2_driver::Driver;
use super::io::Io;
use super::pipe::{Broken, Pipe, Sink, Way};
use super::{CONNECTION_WINDOW, STREAM_WINDOW};
use crate::failure::Reason;
use crate::live::{Bond, Stream};
use crate::worker::tasks::Tasks;

/// Another connection is opened when this many streams are open on each: half of what our own
/// proxies permit.
const STREAMS_PER_CONNECTION: usize = 128;

/// A connection; it ends when the last clone is dropped and nothing is in flight on it.
#[derive(Clone, Debug)]
pub(crate) struct Http2 {
    requests: Requests,
    streams: Rc<Streams>,
    ended: Rc<Cell<bool>>,
}

/// The streams that are open on a connection.
#[derive(Debug, Default)]
struct Streams {
    open: Cell<usize>,
    /// The other proxy takes no calls on it any more.
    left: Cell<bool>,
    freed: OnceCell<Rc<Freed>>,
    /// Of a connection to another proxy.
    bond: Option<Bond>,
}

/// Where calls wait for a stream.
#[derive(Debug, Default)]
pub(crate) struct Freed {
    waiting: Cell<usize>,
    notify: Notify,
}

/// A call that waits for a stream, until it is dropped.
#[derive(Debug)]
pub(crate) struct WaitsForStream<'a> {
    freed: &'a Freed,
}

/// What a call holds of the connection to its upstream, until it ends.
#[derive(Debug)]
pub(crate) enum Lease {
    /// A stream among others.
    Stream(StreamPlace),
    /// All of it.
    Alone(#[expect(dead_code, reason = "counted until it is dropped")] Counted),
}

/// Keeps a stream counted on its connection.
#[derive(Debug)]
pub(crate) struct StreamPlace {
    streams: Rc<Streams>,
}

impl Http2 {
    /// Begins a connection over `io`.
    pub(crate) fn open(io: Io, header_bytes: u32, tasks: &Tasks, counted: Option<Counted>) -> Self {
        Self::begun(io, header_bytes, tasks, counted, None)
    }

    /// The same to another proxy: it ends with the bond.
    pub(crate) fn bound(
        io: Io,
        header_bytes: u32,
        tasks: &Tasks,
        counted: Option<Counted>,
        bond: Bond,
    ) -> Self {
        Self::begun(io, header_bytes, tasks, counted, Some(bond))
    }

    fn begun(
        io: Io,
        header_bytes: u32,
        tasks: &Tasks,
        counted: Option<Counted>,
        bond: Option<Bond>,
    ) -> Self {
        let (connection, requests) = Connection::client(Config {
            stream_window: STREAM_WINDOW,
            connection_window: CONNECTION_WINDOW,
            streams: 0,
            header_bytes,
        });
        let ended = Rc::new(Cell::new(false));
        let on_end = Ended(Rc::clone(&ended));
        let streams = Rc::new(Streams {
            bond,
            ..Streams::default()
        });
        let driver = Driver::new(io, connection);
        tasks.spawn(drive(driver, on_end, counted, Rc::clone(&streams)));
        Self {
            requests,
            streams,
            ended,
        }
    }

    /// Whether it takes requests at all.
    pub(crate) fn is_usable(&self) -> bool {
        !self.ended.get() && !self.streams.left.get() && self.requests.is_usable()
    }

    /// Whether it has room for another stream.
    pub(crate) fn is_free(&self) -> bool {
        self.streams.open.get() < STREAMS_PER_CONNECTION && self.takes_more()
    }

    /// Whether its peer takes another stream.
    pub(crate) fn takes_more(&self) -> bool {
        self.streams.open.get() < self.requests.most_streams()
    }

    /// Whether no stream is open on it.
    pub(crate) fn is_idle(&self) -> bool {
        self.streams.open.get() == 0
    }

    /// Each stream that ends wakes one that waits here.
    pub(crate) fn frees(&self, freed: &Rc<Freed>) {
        // A connection belongs to one group.
        let _first = self.streams.freed.get_or_init(|| Rc::clone(freed));
    }

    /// A place for one more stream.
    pub(crate) fn lease(&self) -> Lease {
        self.streams.open.set(self.streams.open.get() + 1);
        Lease::Stream(StreamPlace {
            streams: Rc::clone(&self.streams),
        })
    }

    /// Sends a request. The upload goes on beside the response.
    ///
    /// # Errors
    /// An [`Attempt`] that says how far it got.
    pub(crate) async fn send(
        self,
        head: Outgoing<'_>,
        upload: Upload,
        stream: &Stream,
        interims: &Interims,
        lease: Lease,
    ) -> Result<Reply, Attempt> {
        if !self.requests.has_room() {
            poll_fn(|context| self.requests.poll_room(context)).await;
        }
        let (response, sink) = match self.begin(&head, upload.is_nothing()) {
            Ok(begun) => begun,
            Err(error) => return Err(Attempt::unsent(Fault::from(error).into_failure(), upload)),
        };
        let mut sending = Sending {
            response,
            upload: Pipe::new(upload, sink, Way::Up),
        };
        match poll_fn(|context| sending.poll(context, stream, interims)).await {
            Ok(response) => {
                let turned_away = self.streams.bond.is_some()
                    && is_turned_away(response.status, &response.fields);
                if turned_away {
                    self.streams.left.set(true);
                }
                Ok(sending.reply(response, lease, turned_away))
            }
            Err(broken) => Err(sending.attempt(broken, lease.ended_by())),
        }
    }

    fn begin(&self, head: &Outgoing<'_>, is_end: bool) -> Result<(Reader, Sink), http2::Error> {
        let (response, writer) = self.requests.send(head, is_end)?;
        Ok((response, writer.map_or(Sink::Done, Sink::Http2)))
    }
}

struct Sending {
    response: Reader,
    upload: Pipe<Upload>,
}

impl Sending {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        stream: &Stream,
        interims: &Interims,
    ) -> Poll<Result<Response, Broken>> {
        if !self.upload.is_done()
            && let Some(fault) = source_fault(self.upload.poll(context, Some(stream)))
        {
            return Poll::Ready(Err(Broken::Source(fault)));
        }
        let push = |interim: Response| interims.push(interim.status, interim.fields);
        let response = self.response.poll_head(context, push);
        response.map_err(|error| Broken::Sink(error.into()))
    }

    /// Whether it goes on, or may be sent again.
    fn is_upload_wanted(&self) -> bool {
        !self.upload.is_done() || self.upload.source().outlasts()
    }

    fn reply(self, response: Response, lease: Lease, turned_away: bool) -> Reply {
        let again = turned_away && self.upload.source().can_begin();
        let upload = again || self.is_upload_wanted();
        Reply {
            status: response.status,
            fields: response.fields,
            body: Incoming::http2(self.response),
            upload: upload.then(|| Box::new(self.upload)),
            lease: Some(lease),
            carried: None,
        }
    }

    fn attempt(mut self, broken: Broken, ended_by: Option<Reason>) -> Attempt {
        match broken {
            Broken::Source(fault) => {
                self.upload.break_off(http2::Reason::CANCEL);
                Attempt::by_caller(&fault, self.upload.into_source())
            }
            Broken::Sink(fault) => {
                let attempt = Attempt::broken(fault, self.upload.into_source());
                attempt.because(ended_by)
            }
        }
    }
}

/// Says that the connection has ended, however it does.
struct Ended(Rc<Cell<bool>>);

async fn drive(mut driver: Driver, ended: Ended, _counted: Option<Counted>, streams: Rc<Streams>) {
    let lost = poll_fn(|context| {
        let bond = streams.bond.as_ref();
        if bond.is_some_and(|it| it.poll_ended(context).is_ready()) {
            return Poll::Ready(true);
        }
        // A server that pushes is refused before it comes to this.
        driver.poll(context, drop).map(|()| false)
    });
    let lost = lost.await;
    drop(ended);
    // Nothing more is said to a peer that is trusted no more.
    match lost {
        true => driver.connection().close(),
        false => driver.finish().await,
    }
}

impl Lease {
    /// Why the connection was ended from outside, if it was.
    pub(crate) fn ended_by(&self) -> Option<Reason> {
        match self {
            Self::Stream(place) => place.streams.bond.as_ref()?.reason(),
            Self::Alone(_) => None,
        }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.streams.open.set(self.streams.open.get() - 1);
        if let Some(freed) = self.streams.freed.get()
            && freed.waiting.get() > 0
        {
            freed.notify.notify_one();
        }
    }
}

impl Freed {
    /// To be called before the look that may fail, so that no stream is missed.
    pub(crate) fn wait(&self) -> WaitsForStream<'_> {
        self.waiting.set(self.waiting.get() + 1);
        WaitsForStream { freed: self }
    }
}

impl WaitsForStream<'_> {
    /// Resolves when a stream may be free.
    pub(crate) async fn freed(&self) {
        self.freed.notify.notified().await;
    }
}

impl Drop for WaitsForStream<'_> {
    fn drop(&mut self) {
        self.freed.waiting.set(self.freed.waiting.get() - 1);
    }
}
