//! The client's side of an HTTP/1 connection: one request at a time.

use std::future::poll_fn;
use std::task::{Context, Poll};

use http::header;
use http::uri::Authority;
use http::{HeaderMap, Method, StatusCode};

use super::application::Home;
use super::body::{Incoming, Upload};
use super::fault::Fault;
use super::hop::{Attempt, Reply, Seen, source_fault};
use super::http_server::Interims;
use super::http1_connection::{Http1Body, Shared};
use super::pipe::{Broken, Pipe, Sink, Way};
use crate::http1::{Connection as Persistence, Framing, RequestLine, Response};
use crate::live::Stream;

/// The head of a request, as it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) authority: &'a Authority,
    pub(crate) fields: &'a HeaderMap,
}

/// Sends a request over a connection that nobody else uses; it goes `home` after the response's
/// body. `kept` is a connection that had been idle.
///
/// # Errors
/// An [`Attempt`] that says how far it got.
pub(crate) async fn send(
    connection: Shared,
    home: Home,
    kept: bool,
    line: Line<'_>,
    upload: Upload,
    stream: &Stream,
    interims: &Interims,
) -> Result<Reply, Attempt> {
    let framing = framing(&line, &upload);
    let request = RequestLine {
        method: line.method,
        target: line.path,
        query: line.query,
        authority: Some(line.authority),
    };
    let written =
        connection
            .borrow_mut()
            .request_head(request, line.fields, framing, &Persistence::Persists);
    if let Err(fault) = written {
        return Err(Attempt::by_caller(&fault, upload));
    }
    let mut sending = Sending {
        upload: Pipe::new(upload, Sink::Http1(connection.clone()), Way::Up),
        connection,
        heard: false,
    };
    let polled = poll_fn(|context| sending.poll(context, line.method, stream, interims)).await;
    match polled {
        Ok(response) => Ok(sending.reply(response, home)),
        Err(broken) => Err(sending.attempt(broken, kept)),
    }
}

struct Sending {
    upload: Pipe<Upload>,
    connection: Shared,
    /// Whether the other side has said anything to this request.
    heard: bool,
}

impl Sending {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        method: &Method,
        stream: &Stream,
        interims: &Interims,
    ) -> Poll<Result<Response, Broken>> {
        if !self.upload.is_done()
            && let Some(fault) = source_fault(self.upload.poll(context, Some(stream)))
        {
            return Poll::Ready(Err(Broken::Source(fault)));
        }
        loop {
            let polled = self.connection.borrow_mut().poll_response(context, method);
            let Poll::Ready(response) = polled else {
                self.heard |= !self.connection.borrow().is_untouched();
                return Poll::Pending;
            };
            let response = match response {
                Ok(response) => response,
                Err(fault) => {
                    self.heard |= !self.connection.borrow().is_untouched();
                    return Poll::Ready(Err(Broken::Sink(fault)));
                }
            };
            self.heard = true;
            match response.status {
                // Nobody asked for another protocol (RFC 9110 section 15.2.2).
                StatusCode::SWITCHING_PROTOCOLS => {
                    return Poll::Ready(Err(Broken::Sink(Fault::Closed)));
                }
                // The proxy has answered the caller's expectation itself.
                StatusCode::CONTINUE => {}
                status if status.is_informational() => interims.push(status, response.fields),
                _ => return Poll::Ready(Ok(response)),
            }
        }
    }

    fn reply(self, response: Response, mut home: Home) -> Reply {
        home.persists = response.persists;
        let upload = (!self.upload.is_done()).then_some(self.upload);
        let body = match response.framing {
            Framing::Empty | Framing::Length(0) => {
                home.take_back(&self.connection);
                Incoming::Empty
            }
            _ => Incoming::Http1(Http1Body::new(self.connection, Some(home))),
        };
        Reply {
            status: response.status,
            fields: response.fields,
            body,
            upload,
            lease: None,
        }
    }

    fn attempt(self, broken: Broken, kept: bool) -> Attempt {
        let upload = self.upload.into_source();
        match broken {
            Broken::Source(fault) => Attempt::by_caller(&fault, upload),
            Broken::Sink(fault) => {
                let mut attempt = Attempt::broken(fault, upload);
                if kept && !self.heard {
                    attempt.seen = Seen::Unknown;
                }
                attempt
            }
        }
    }
}

fn framing(line: &Line<'_>, upload: &Upload) -> Framing {
    // RFC 9110 section 8.6: a method that gives content a meaning declares that there is none.
    let declares = matches!(*line.method, Method::POST | Method::PUT | Method::PATCH)
        || line.fields.contains_key(header::CONTENT_LENGTH);
    match upload.length() {
        Some(0) if !declares => Framing::Empty,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    }
}
