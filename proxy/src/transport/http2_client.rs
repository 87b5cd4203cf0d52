//! The client's side of an HTTP/2 connection, shared by many requests.

use std::cell::{Cell, OnceCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use h2::client::{self, Builder, ResponseFuture, SendRequest};
use http::Request;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::admission::Counted;
use super::body::{Incoming, Upload};
use super::fault::Fault;
use super::hop::{Attempt, Reply, source_fault};
use super::http_server::Interims;
use super::io::Io;
use super::keep_alive::KeepAlive;
use super::pipe::{Broken, Pipe, Sink, Way};
use super::turn::{Gathering, Turn};
use super::{CONNECTION_WINDOW, SEND_BUFFER, STREAM_WINDOW};
use crate::live::Stream;
use crate::worker::tasks::Tasks;

/// Another connection is opened when this many streams are open on each: half of what our own
/// proxies permit.
const STREAMS_PER_CONNECTION: usize = 128;

/// A connection; it ends when the last clone is dropped and nothing is in flight on it.
#[derive(Clone, Debug)]
pub(crate) struct Http2 {
    sender: SendRequest<Bytes>,
    streams: Rc<Streams>,
    ended: Rc<Cell<bool>>,
}

/// The streams that are open on a connection.
#[derive(Debug, Default)]
struct Streams {
    open: Cell<usize>,
    freed: OnceCell<Rc<Freed>>,
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
#[expect(dead_code, reason = "held, and counted until it is dropped")]
pub(crate) enum Lease {
    /// A stream among others.
    Stream(StreamPlace),
    /// All of it.
    Alone(Counted),
}

/// Keeps a stream counted on its connection.
#[derive(Debug)]
pub(crate) struct StreamPlace {
    streams: Rc<Streams>,
}

impl Http2 {
    /// Opens a connection over `io`.
    ///
    /// # Errors
    /// If it is not HTTP/2.
    pub(crate) async fn open(
        io: Io,
        header_bytes: u32,
        tasks: &Tasks,
        counted: Option<Counted>,
    ) -> Result<Self, Fault> {
        let (gathering, turn) = Gathering::new(io, BytesMut::new());
        let mut builder = Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(header_bytes)
            .enable_push(false);
        let (sender, mut connection) = builder.handshake(gathering).await?;
        let ended = Rc::new(Cell::new(false));
        let driver = Driver {
            keep_alive: connection.ping_pong().map(KeepAlive::new),
            connection,
            turn,
            ended: Ended(Rc::clone(&ended)),
            _counted: counted,
        };
        tasks.spawn(driver.run());
        Ok(Self {
            sender,
            streams: Rc::default(),
            ended,
        })
    }

    /// Whether it takes requests at all.
    pub(crate) fn is_usable(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        !self.ended.get() && matches!(self.sender.poll_ready(&mut context), Poll::Ready(Ok(())))
    }

    /// Whether it has room for another stream.
    pub(crate) fn is_free(&self) -> bool {
        self.streams.open.get() < STREAMS_PER_CONNECTION && self.takes_more()
    }

    /// Whether its peer takes another stream.
    pub(crate) fn takes_more(&self) -> bool {
        self.streams.open.get() < self.sender.current_max_send_streams()
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
    pub(crate) fn send<'a>(
        mut self,
        request: Request<()>,
        upload: Upload,
        stream: &'a Stream,
        interims: &'a Interims,
        lease: Lease,
    ) -> impl Future<Output = Result<Reply, Attempt>> + 'a {
        // At once, or the future would have room for the request.
        let begun = self.begin(request, upload.is_nothing());
        async move {
            let begun = match begun {
                Begun::Sent(sent) => sent,
                Begun::Waiting(request) => self.wait(*request, upload.is_nothing()).await,
            };
            let (response, sink) = match begun {
                Ok(sent) => sent,
                Err(error) => {
                    return Err(Attempt::unsent(Fault::from(error).into_failure(), upload));
                }
            };
            let mut sending = Sending {
                response,
                upload: Pipe::new(upload, sink, Way::Up),
            };
            match poll_fn(|context| sending.poll(context, stream, interims)).await {
                Ok(response) => Ok(sending.reply(response, lease)),
                Err(broken) => Err(sending.attempt(broken)),
            }
        }
    }

    /// Begins a stream, if there is room for it now.
    fn begin(&mut self, request: Request<()>, is_end: bool) -> Begun {
        let mut context = Context::from_waker(Waker::noop());
        match self.sender.poll_ready(&mut context) {
            Poll::Ready(Ok(())) => Begun::Sent(self.open_stream(request, is_end)),
            Poll::Ready(Err(error)) => Begun::Sent(Err(error)),
            Poll::Pending => Begun::Waiting(Box::new(request)),
        }
    }

    async fn wait(&mut self, request: Request<()>, is_end: bool) -> Result<Opened, h2::Error> {
        poll_fn(|context| self.sender.poll_ready(context)).await?;
        self.open_stream(request, is_end)
    }

    fn open_stream(&mut self, request: Request<()>, is_end: bool) -> Result<Opened, h2::Error> {
        let (response, stream) = self.sender.send_request(request, is_end)?;
        let sink = if is_end {
            Sink::Done
        } else {
            Sink::Http2(stream)
        };
        Ok((response, sink))
    }
}

type Opened = (ResponseFuture, Sink);

enum Begun {
    Sent(Result<Opened, h2::Error>),
    Waiting(Box<Request<()>>),
}

struct Sending {
    response: ResponseFuture,
    upload: Pipe<Upload>,
}

impl Sending {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        stream: &Stream,
        interims: &Interims,
    ) -> Poll<Result<http::Response<h2::RecvStream>, Broken>> {
        if !self.upload.is_done()
            && let Some(fault) = source_fault(self.upload.poll(context, Some(stream)))
        {
            return Poll::Ready(Err(Broken::Source(fault)));
        }
        while let Poll::Ready(Some(Ok(interim))) = self.response.poll_informational(context) {
            let (head, ()) = interim.into_parts();
            interims.push(head.status, head.headers);
        }
        let response = Pin::new(&mut self.response).poll(context);
        response.map_err(|error| Broken::Sink(error.into()))
    }

    /// Whether it goes on, or may be sent again.
    fn is_upload_wanted(&self) -> bool {
        !self.upload.is_done() || self.upload.source().outlasts()
    }

    fn reply(self, response: http::Response<h2::RecvStream>, lease: Lease) -> Reply {
        let (head, body) = response.into_parts();
        Reply {
            status: head.status,
            fields: head.headers,
            body: Incoming::http2(body),
            upload: self.is_upload_wanted().then(|| Box::new(self.upload)),
            lease: Some(lease),
            carried: None,
        }
    }

    fn attempt(mut self, broken: Broken) -> Attempt {
        match broken {
            Broken::Source(fault) => {
                self.upload.break_off(h2::Reason::CANCEL);
                Attempt::by_caller(&fault, self.upload.into_source())
            }
            Broken::Sink(fault) => Attempt::broken(fault, self.upload.into_source()),
        }
    }
}

struct Driver {
    connection: client::Connection<Gathering, Bytes>,
    turn: Turn,
    keep_alive: Option<KeepAlive>,
    ended: Ended,
    _counted: Option<Counted>,
}

/// Says that the connection has ended, however it does.
struct Ended(Rc<Cell<bool>>);

impl Driver {
    async fn run(mut self) {
        let ended = poll_fn(|context| {
            let ended = self.poll(context);
            self.turn.end(context);
            ended
        })
        .await;
        if let Err(error) = ended {
            let error = runtime::exit::one_line(&error);
            tracing::debug!(error, "connection to an upstream ended");
        }
        self.ended.0.set(true);
        let last = poll_fn(|context| self.turn.poll_send(context));
        drop(timeout(super::LAST_WORDS, last).await);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        if let Poll::Ready(ended) = Pin::new(&mut self.connection).poll(context) {
            return Poll::Ready(ended);
        }
        match &mut self.keep_alive {
            Some(keep_alive) => keep_alive.poll_vanished(context).map(Ok),
            None => Poll::Pending,
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
