//! The server's side of an HTTP/2 connection: each request on a task of its own.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use http::header::CONTENT_LENGTH;
use http2::{Accepted, Config, Connection, Writer};
use tokio::time::timeout;

use super::body::{Incoming, Source, Upload};
use super::exchange::Exchange;
use super::http_server::{Answer, Handler, Interims, Serving, content_length};
use super::http2_driver::Driver;
use super::io::Io;
use super::pipe::Sink;
use super::silence::Silence;
use super::{CONNECTION_WINDOW, STREAM_WINDOW};
use crate::config::Limits;
use crate::worker::leaving::Leave;
use crate::worker::tasks::Tasks;

/// Serves until the connection ends or has left.
pub(super) async fn serve<H: Handler>(
    io: Io,
    received: BytesMut,
    handler: Rc<H>,
    serving: Serving<'_>,
) {
    let connection = Connection::server(config(serving.limits));
    if let Err(error) = connection.receive(&received) {
        tracing::debug!(%error, "connection ended");
    }
    drop(received);
    let mut served = Served {
        driver: Driver::new(io, connection),
        leaving: false,
        silence: Silence::default(),
        handler,
        tasks: serving.tasks.clone(),
    };
    let limit = serving.limits.header_read.duration();
    let begun = poll_fn(|context| served.poll_begun(context));
    if let Ok(true) = timeout(limit, begun).await {
        poll_fn(|context| served.poll_leaving(&serving.leave, context)).await;
    }
    served.driver.finish().await;
}

fn config(limits: &Limits) -> Config {
    Config {
        stream_window: STREAM_WINDOW,
        connection_window: CONNECTION_WINDOW,
        streams: limits.streams,
        header_bytes: limits.header_bytes,
    }
}

struct Served<H> {
    driver: Driver,
    leaving: bool,
    silence: Silence,
    handler: Rc<H>,
    tasks: Tasks,
}

impl<H: Handler> Served<H> {
    /// Ready when the peer's preface and settings have come: whether they have.
    fn poll_begun(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        if self.poll(context).is_ready() {
            return Poll::Ready(false);
        }
        if self.driver.connection().is_established() {
            return Poll::Ready(true);
        }
        Poll::Pending
    }

    fn poll_leaving(&mut self, leave: &Leave, context: &mut Context<'_>) -> Poll<()> {
        if !self.leaving && leave.poll(context).is_ready() {
            self.leaving = true;
            self.driver.connection().leave();
        }
        if self.poll(context).is_ready() {
            return Poll::Ready(());
        }
        if self.leaving {
            return self.poll_silent(leave, context);
        }
        Poll::Pending
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let (handler, tasks) = (&self.handler, &self.tasks);
        self.driver.poll(context, |accepted| {
            let Accepted {
                head,
                body,
                respond,
            } = accepted;
            let length = content_length(&head.headers);
            let upload = body.map_or_else(Upload::nothing, |body| {
                Upload::new(Incoming::http2(body), length)
            });
            let begun = handler.begin(*head);
            // Boxed where it is made: a task is moved several times before it runs.
            let exchange = Box::pin(exchange(Rc::clone(handler), begun, upload, respond));
            tasks.spawn(exchange);
        })
    }

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
    mut respond: Writer,
) {
    let Some(answer) = answer(&*handler, begun, upload, &mut respond).await else {
        return;
    };
    let Some(mut exchange) = respond_with(answer, respond) else {
        return;
    };
    poll_fn(|context| exchange.poll(context)).await;
}

/// Begins the response; nothing if the caller has gone away.
fn respond_with(mut answer: Answer, mut respond: Writer) -> Option<Exchange> {
    let is_end = answer.body.is_end();
    if let Incoming::Words(words) = &answer.body {
        // The next hop may speak HTTP/1, where a known length is better than chunks.
        let length = words.len().into();
        answer.fields.insert(CONTENT_LENGTH, length);
    }
    let sent = respond.respond(answer.status, &answer.fields, is_end);
    // Nobody asks for them again.
    drop(std::mem::take(&mut answer.fields));
    sent.ok()?;
    let sink = if is_end {
        Sink::Done
    } else {
        Sink::Http2(respond)
    };
    Some(Exchange::new(answer, sink))
}

/// What the handler says; nothing if the caller has gone away before.
async fn answer<H: Handler>(
    handler: &H,
    begun: H::Begun,
    upload: Upload,
    respond: &mut Writer,
) -> Option<Answer> {
    let interims = Interims::default();
    let mut handling = std::pin::pin!(handler.finish(begun, upload, &interims));
    poll_fn(|context| {
        if let Poll::Ready(answer) = handling.as_mut().poll(context) {
            return Poll::Ready(Some(answer));
        }
        for (status, fields) in interims.take() {
            // It is a courtesy; the final response matters.
            respond.respond(status, &fields, false).ok();
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
    fn room<H: Handler, F: Future>(_: fn(Rc<H>, H::Begun, Upload, Writer) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_request_in_flight_takes_little_room() {
        let outbound = room::<LocalHttp, _>(exchange);
        let inbound = room::<MeshHttp, _>(exchange);
        assert!(outbound <= 3072 && inbound <= 2304, "{outbound}, {inbound}");
    }
}
