//! The server's side of an HTTP/1 connection: one request after the other, in order.
//!
//! Invariant: a request is read only after the one before it was answered and read to its end.
//! What cannot be read in one way is answered with the rule that it breaks, and nothing after it
//! is read. Behind a request for a tunnel or another protocol no request is read, whatever the
//! answer to it was.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode, Version};
use tokio::time::timeout;

use super::body::{Incoming, Upload};
use super::call::Call;
use super::deadline::Deadline;
use super::exchange::Exchange;
use super::fault::Fault;
use super::http_server::{Answer, Handler, Interims, Serving};
use super::http1_connection::{Connection, Http1Body, Shared};
use super::io::Io;
use super::pipe::Sink;
use super::silence::Silence;
use super::tunnel::Onward;
use crate::config::Limits;
use crate::failure::Reason;
use crate::head::REASON;
use crate::http1::{self, Connection as Persistence, Framing, Request};
use crate::worker::leaving::Leave;

/// How long, and for how many bytes, a connection that ends is read on, so that what was sent is
/// not destroyed by a reset.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;

/// Serves until the connection ends or leaves.
pub(super) async fn serve<H: Handler>(
    io: Io,
    received: BytesMut,
    handler: &H,
    serving: Serving<'_>,
) {
    let connection = Connection::new(io, received, codec_limits(serving.limits));
    let mut deadline = Deadline::new(serving.limits.header_read.duration());
    let mut silence = Silence::default();
    loop {
        deadline.start();
        let request = poll_fn(|context| {
            poll_next(
                &connection,
                &serving.leave,
                &mut deadline,
                &mut silence,
                context,
            )
        });
        let after = match request.await {
            Next::Request(request) => {
                let exchange = exchange(&connection, handler, request, &serving, &mut deadline);
                // On the heap, so that a connection that waits has no room for it.
                Box::pin(exchange).await
            }
            Next::Refused(status, why) => {
                refuse(&connection, status, &why);
                After::End
            }
            Next::End => After::End,
        };
        match after {
            After::Request => {}
            After::End => return close(&connection).await,
            After::Onward(onward, call) => {
                return Box::pin(go_on(connection, *onward, *call)).await;
            }
        }
    }
}

/// What the codec is to refuse.
pub(super) fn codec_limits(limits: &Limits) -> http1::Limits {
    http1::Limits {
        head_bytes: limits.header_bytes as usize,
        fields: limits.headers,
        ..http1::Limits::default()
    }
}

/// What follows an exchange.
enum After {
    Request,
    /// HTTP has ended, and the connection goes on.
    Onward(Box<Onward>, Box<Call>),
    End,
}

enum Next {
    Request(Box<Request>),
    Refused(StatusCode, String),
    End,
}

fn poll_next(
    connection: &Shared,
    leave: &Leave,
    deadline: &mut Deadline,
    silence: &mut Silence,
    context: &mut Context<'_>,
) -> Poll<Next> {
    let mut connection = connection.borrow_mut();
    if let Poll::Ready(request) = connection.poll_request(context) {
        return Poll::Ready(match request {
            Ok(Some(request)) => Next::Request(Box::new(request)),
            Err(Fault::Malformed(rule)) => Next::Refused(rule.status(), rule.to_string()),
            Ok(None) | Err(_) => Next::End,
        });
    }
    if connection.is_untouched() && silence.poll_untold(leave, context).is_ready() {
        return Poll::Ready(Next::End);
    }
    ready!(deadline.poll(context));
    Poll::Ready(if connection.is_untouched() {
        Next::End
    } else {
        let why = "the request's head did not come in time".to_owned();
        Next::Refused(StatusCode::REQUEST_TIMEOUT, why)
    })
}

/// Answers one request.
async fn exchange<H: Handler>(
    connection: &Shared,
    handler: &H,
    request: Box<Request>,
    serving: &Serving<'_>,
    deadline: &mut Deadline,
) -> After {
    let (method, version) = (request.method.clone(), request.version);
    let persists = request.persists;
    let upload = upload(connection, request.framing);
    let begun = handler.begin(parts(*request));
    let Some(mut answer) = answer(connection, handler, begun, upload).await else {
        return After::End;
    };
    if let Incoming::Onward(onward) = answer.body {
        answer.body = Incoming::Empty;
        // On the heap, so that other exchanges have no room for it.
        return Box::pin(switch(connection, answer, onward, &method, deadline)).await;
    }
    if answer.upload.is_none() {
        connection.borrow_mut().skip_received();
    }
    let received_all = connection.borrow().has_received_all();
    let goes_on = persists && !serving.leave.is_asked();
    // Nobody reads the rest of a request that was refused.
    let goes_on = goes_on && (received_all || answer.upload.is_some());
    let Some(goes_on) = write_head(connection, &answer, &method, version, goes_on) else {
        return After::End;
    };
    let mut exchange = Exchange::new(answer, Sink::Http1(connection.clone()));
    deadline.start();
    let whole = poll_fn(|context| {
        if let Poll::Ready(whole) = exchange.poll(context) {
            return Poll::Ready(whole);
        }
        if poll_gone(connection, context).is_ready() {
            return Poll::Ready(false);
        }
        if !exchange.is_limited() && deadline.poll(context).is_ready() {
            return Poll::Ready(false);
        }
        Poll::Pending
    })
    .await;
    drop(exchange);
    let connection = connection.borrow();
    let clean = connection.is_whole() && connection.has_received_all();
    if whole && goes_on && clean && connection.has_sent_all() {
        After::Request
    } else {
        After::End
    }
}

/// Says that HTTP ends here.
async fn switch(
    connection: &Shared,
    answer: Answer,
    onward: Box<Onward>,
    method: &Method,
    deadline: &mut Deadline,
) -> After {
    let persistence = match onward.protocol() {
        Some(protocol) => Persistence::Upgrades(protocol.clone()),
        None => Persistence::Persists,
    };
    let (status, fields) = (answer.status, &answer.fields);
    let written = connection.borrow_mut().response_head(
        method,
        status,
        fields,
        Framing::Tunnel,
        &persistence,
    );
    if written.is_err() {
        return After::End;
    }
    deadline.start();
    let sent = poll_fn(|context| {
        let sent = connection.borrow_mut().poll_flush(context);
        match deadline.poll(context) {
            Poll::Ready(()) => Poll::Ready(false),
            Poll::Pending => sent.map(|it| it.is_ok()),
        }
    });
    if sent.await {
        After::Onward(onward, answer.call)
    } else {
        After::End
    }
}

async fn go_on(connection: Shared, onward: Onward, mut call: Call) {
    match Connection::into_tunnel(connection) {
        Some(tunnel) => onward.run(tunnel, call).await,
        None => call.fail(
            Reason::CallerReset,
            "the caller was in the middle of a message",
        ),
    }
}

/// What the handler says; nothing if the caller has gone away before.
async fn answer<H: Handler>(
    connection: &Shared,
    handler: &H,
    begun: H::Begun,
    upload: Upload,
) -> Option<Answer> {
    let interims = Interims::default();
    let mut handling = std::pin::pin!(handler.finish(begun, upload, &interims));
    poll_fn(|context| {
        if let Poll::Ready(answer) = handling.as_mut().poll(context) {
            return Poll::Ready(Some(answer));
        }
        if send_interims(connection, &interims, context).is_err() {
            return Poll::Ready(None);
        }
        poll_gone(connection, context).map(|()| None)
    })
    .await
}

fn upload(connection: &Shared, framing: Framing) -> Upload {
    let body = || Incoming::Http1(Http1Body::new(connection.clone(), None));
    match framing {
        Framing::Empty | Framing::Length(0) => Upload::nothing(),
        Framing::Length(length) => Upload::new(body(), Some(length)),
        _ => Upload::new(body(), None),
    }
}

fn parts(request: Request) -> http::request::Parts {
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = request.method;
    parts.uri = request.target;
    parts.version = request.version;
    parts.headers = request.fields;
    parts
}

fn send_interims(
    connection: &Shared,
    interims: &Interims,
    context: &mut Context<'_>,
) -> Result<(), Fault> {
    let waiting = interims.take();
    if waiting.is_empty() {
        return Ok(());
    }
    let mut connection = connection.borrow_mut();
    if connection.is_full() {
        // A caller that reads nothing misses the courtesy.
        return Ok(());
    }
    for (status, fields) in waiting {
        connection.informational(status, &fields)?;
    }
    match connection.poll_flush(context) {
        Poll::Ready(Err(error)) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Whether the caller has gone away, as far as that can be seen: not while its body is to come.
fn poll_gone(connection: &Shared, context: &mut Context<'_>) -> Poll<()> {
    let mut connection = connection.borrow_mut();
    if !connection.has_received_all() {
        return Poll::Pending;
    }
    connection.poll_gone(context)
}

/// Whether another request may follow; nothing if the head cannot be written.
fn write_head(
    connection: &Shared,
    answer: &Answer,
    method: &Method,
    version: Version,
    goes_on: bool,
) -> Option<bool> {
    let framing = Framing::for_response(method, answer.status, version, answer.length());
    let goes_on = goes_on && framing != Framing::UntilClose;
    let persistence = if goes_on {
        Persistence::Persists
    } else {
        Persistence::Closes
    };
    let mut connection = connection.borrow_mut();
    let written =
        connection.response_head(method, answer.status, &answer.fields, framing, &persistence);
    written.is_ok().then_some(goes_on)
}

/// Answers what is no request that anybody could be asked about.
fn refuse(connection: &Shared, status: StatusCode, why: &str) {
    let reason = Reason::BadRequest;
    let text = Bytes::from(format!("{reason}: {why}\n{}\n", reason.next_step()));
    let mut fields = HeaderMap::new();
    fields.insert(REASON, HeaderValue::from_static(reason.code()));
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    fields.insert(header::CONTENT_TYPE, plain);
    let framing = Framing::Length(text.len() as u64);
    let mut connection = connection.borrow_mut();
    let written =
        connection.response_head(&Method::GET, status, &fields, framing, &Persistence::Closes);
    if written.is_ok() {
        connection.words(text);
    }
}

/// Sends what is left, says that nothing follows, and reads on for a while.
async fn close(connection: &Shared) {
    let mut most = LINGER_BYTES;
    let end = async {
        let closed = poll_fn(|context| connection.borrow_mut().poll_close(context)).await;
        if closed.is_ok() {
            let read_on = |context: &mut Context<'_>| {
                connection.borrow_mut().poll_discard(context, &mut most)
            };
            // Whatever it ends with, it has ended.
            drop(poll_fn(read_on).await);
        }
    };
    // A client that keeps talking is left.
    drop(timeout(LINGER, end).await);
}

#[cfg(test)]
mod tests {
    use super::super::mesh_http::MeshHttp;
    use super::super::outbound_http::LocalHttp;
    use super::*;

    /// What a request in flight takes, beside its head and what the socket gave.
    fn room<'a, H: Handler, F: Future + 'a>(
        _: fn(&'a Shared, &'a H, Box<Request>, &'a Serving<'a>, &'a mut Deadline) -> F,
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
