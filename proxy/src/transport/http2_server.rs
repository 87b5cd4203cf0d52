//! The server's side of an HTTP/2 connection: each request on a task of its own.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::server::{self, Builder, SendResponse};
use http::header::CONTENT_LENGTH;
use http::{Response, Version};
use tokio::time::timeout;

use super::body::{Incoming, Source, Upload};
use super::exchange::Exchange;
use super::http_server::{Answer, Handler, Interims, Serving, content_length};
use super::io::Io;
use super::keep_alive::KeepAlive;
use super::pipe::Sink;
use super::silence::Silence;
use super::turn::{Gathering, Turn};
use super::{CONNECTION_WINDOW, SEND_BUFFER, STREAM_WINDOW};
use crate::config::Limits;
use crate::worker::leaving::Leave;
use crate::worker::tasks::Tasks;

type Connection = server::Connection<Gathering, Bytes>;

/// Serves until the connection ends or has left.
pub(super) async fn serve<H: Handler>(
    io: Io,
    received: BytesMut,
    handler: Rc<H>,
    serving: Serving<'_>,
) {
    let (gathering, turn) = Gathering::new(io, received);
    let handshake = handshake(gathering, &turn, serving.limits);
    let limit = serving.limits.header_read.duration();
    let mut connection = match timeout(limit, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(%error, "connection ended"),
        Err(_) => return,
    };
    let keep_alive = connection.ping_pong().map(KeepAlive::new);
    let driver = Driver {
        connection,
        turn,
        keep_alive,
        leaving: false,
        silence: Silence::default(),
        handler,
        tasks: serving.tasks.clone(),
    };
    driver.run(&serving.leave).await;
}

struct Driver<H> {
    connection: Connection,
    turn: Turn,
    keep_alive: Option<KeepAlive>,
    leaving: bool,
    silence: Silence,
    handler: Rc<H>,
    tasks: Tasks,
}

/// The preface and the settings of both sides.
async fn handshake(
    gathering: Gathering,
    turn: &Turn,
    limits: &Limits,
) -> Result<Connection, h2::Error> {
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.header_bytes);
    let mut handshake = builder.handshake(gathering);
    poll_fn(|context| {
        let shaken = std::pin::Pin::new(&mut handshake).poll(context);
        // A client may wait for our settings.
        match turn.poll_send(context) {
            Poll::Ready(Err(error)) if shaken.is_pending() => Poll::Ready(Err(closed(&error))),
            _ => shaken,
        }
    })
    .await
}

/// Of a stream that broke before HTTP/2 began on it.
fn closed(error: &std::io::Error) -> h2::Error {
    tracing::debug!(%error, "connection ended");
    h2::Reason::NO_ERROR.into()
}

impl<H: Handler> Driver<H> {
    async fn run(mut self, leave: &Leave) {
        poll_fn(|context| {
            if !self.leaving && leave.poll(context).is_ready() {
                self.leaving = true;
                self.connection.graceful_shutdown();
            }
            let ended = self.poll(context);
            self.turn.end(context);
            if ended.is_pending() && self.leaving {
                return self.poll_silent(leave, context);
            }
            ended
        })
        .await;
        // What it said last, such as why it ends.
        let last = poll_fn(|context| self.turn.poll_send(context));
        drop(timeout(super::LAST_WORDS, last).await);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.connection.poll_accept(context) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    let handler = Rc::clone(&self.handler);
                    // Boxed where it is made: a task is moved several times before it runs.
                    let (head, body) = request.into_parts();
                    let length = content_length(&head.headers);
                    let upload = Upload::new(Incoming::http2(body), length);
                    let begun = handler.begin(head);
                    let exchange = Box::pin(exchange(handler, begun, upload, respond));
                    self.tasks.spawn(exchange);
                }
                Poll::Ready(Some(Err(error))) => {
                    let error = runtime::exit::one_line(&error);
                    tracing::debug!(error, "connection ended");
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        let Some(keep_alive) = &mut self.keep_alive else {
            return Poll::Pending;
        };
        ready!(keep_alive.poll_vanished(context));
        Poll::Ready(())
    }
}

impl<H> Driver<H> {
    /// Ready when a client that was told to go has nothing in flight, and does not go.
    fn poll_silent(&mut self, leave: &Leave, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.silence.poll(leave, context));
            // Each request in flight holds the handler.
            if Rc::strong_count(&self.handler) == 1 {
                return Poll::Ready(());
            }
            self.silence.breaks();
        }
    }
}

/// One request and its response.
async fn exchange<H: Handler>(
    handler: Rc<H>,
    begun: H::Begun,
    upload: Upload,
    mut respond: SendResponse<Bytes>,
) {
    let Some(answer) = answer(&*handler, begun, upload, &mut respond).await else {
        return;
    };
    let Some(mut exchange) = respond_with(answer, &mut respond) else {
        return;
    };
    poll_fn(|context| exchange.poll(context)).await;
}

/// Begins the response; nothing if the caller has gone away.
fn respond_with(mut answer: Answer, respond: &mut SendResponse<Bytes>) -> Option<Exchange> {
    let is_end = answer.body.is_end();
    let mut response = Response::new(());
    *response.status_mut() = answer.status;
    *response.version_mut() = Version::HTTP_2;
    *response.headers_mut() = std::mem::take(&mut answer.fields);
    if let Incoming::Words(words) = &answer.body {
        // The next hop may speak HTTP/1, where a known length is better than chunks.
        let length = words.len().into();
        response.headers_mut().insert(CONTENT_LENGTH, length);
    }
    let stream = respond.send_response(response, is_end).ok()?;
    let sink = if is_end {
        Sink::Done
    } else {
        Sink::Http2(stream)
    };
    Some(Exchange::new(answer, sink))
}

/// What the handler says; nothing if the caller has gone away before.
async fn answer<H: Handler>(
    handler: &H,
    begun: H::Begun,
    upload: Upload,
    respond: &mut SendResponse<Bytes>,
) -> Option<Answer> {
    let interims = Interims::default();
    let mut handling = std::pin::pin!(handler.finish(begun, upload, &interims));
    poll_fn(|context| {
        if let Poll::Ready(answer) = handling.as_mut().poll(context) {
            return Poll::Ready(Some(answer));
        }
        for (status, fields) in interims.take() {
            let mut interim = Response::new(());
            *interim.status_mut() = status;
            *interim.headers_mut() = fields;
            // It is a courtesy; the final response matters.
            drop(respond.send_informational(interim));
        }
        respond.poll_reset(context).map(|_| None)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::super::mesh_http::MeshHttp;
    use super::super::outbound_http::LocalHttp;
    use super::*;

    /// What a request in flight takes, beside its head and what the socket gave.
    fn room<H: Handler, F: Future>(
        _: fn(Rc<H>, H::Begun, Upload, SendResponse<Bytes>) -> F,
    ) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_request_in_flight_takes_little_room() {
        let outbound = room::<LocalHttp, _>(exchange);
        let inbound = room::<MeshHttp, _>(exchange);
        assert!(outbound <= 3072 && inbound <= 2304, "{outbound}, {inbound}");
    }
}
