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
use super::http1_connection::{Connection, Http1Body, Shared};
use super::pipe::{Broken, Pipe, Sink, Way};
use super::tunnel::Onward;
use crate::head::Upgrade;
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
    /// What it asks the connection to go on with.
    pub(crate) upgrade: Option<&'a Upgrade>,
}

/// Sends a request over a connection that nobody else uses; it goes `home` after the response's
/// body, unless that is a 101: then HTTP ends on it. `kept` is a connection that had been idle.
///
/// # Errors
/// An [`Attempt`] that says how far it got.
pub(crate) async fn send(
    connection: Shared,
    home: Option<Home>,
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
    let persistence = match line.upgrade {
        Some(upgrade) => Persistence::Upgrades(upgrade.protocol().clone()),
        None => Persistence::Persists,
    };
    let written = connection
        .borrow_mut()
        .request_head(request, line.fields, framing, &persistence);
    if let Err(fault) = written {
        return Err(Attempt::by_caller(&fault, upload));
    }
    let mut sending = Sending {
        upload: Pipe::new(upload, Sink::Http1(connection.clone()), Way::Up),
        connection,
        heard: false,
    };
    let polled = poll_fn(|context| sending.poll(context, &line, stream, interims)).await;
    match polled {
        Ok(response) if response.framing == Framing::Tunnel => {
            let nothing = || Upload::nothing();
            let reply = sending.switched(response);
            reply.ok_or_else(|| Attempt::broken(Fault::NotAsked, nothing()))
        }
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
        line: &Line<'_>,
        stream: &Stream,
        interims: &Interims,
    ) -> Poll<Result<Response, Broken>> {
        if !self.upload.is_done()
            && let Some(fault) = source_fault(self.upload.poll(context, Some(stream)))
        {
            return Poll::Ready(Err(Broken::Source(fault)));
        }
        loop {
            let polled = self
                .connection
                .borrow_mut()
                .poll_response(context, line.method);
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
                StatusCode::SWITCHING_PROTOCOLS => {
                    let taken = |it: &Upgrade| it.is_taken_by(&response.fields);
                    return Poll::Ready(match line.upgrade.is_some_and(taken) {
                        true => Ok(response),
                        // Nobody asked for that (RFC 9110 section 15.2.2).
                        false => Err(Broken::Sink(Fault::NotAsked)),
                    });
                }
                // The proxy has answered the caller's expectation itself.
                StatusCode::CONTINUE => {}
                status if status.is_informational() => interims.push(status, response.fields),
                _ => return Poll::Ready(Ok(response)),
            }
        }
    }

    /// HTTP has ended.
    fn switched(self, response: Response) -> Option<Reply> {
        let protocol = response.fields.get(header::UPGRADE).cloned();
        drop(self.upload);
        let tunnel = Connection::into_tunnel(self.connection)?;
        Some(Reply {
            status: response.status,
            fields: response.fields,
            body: Incoming::Onward(Box::new(Onward::to(tunnel, protocol))),
            upload: None,
            lease: None,
            carried: None,
        })
    }

    fn reply(self, response: Response, mut home: Option<Home>) -> Reply {
        if let Some(home) = &mut home {
            home.persists = response.persists;
        }
        let upload = (!self.upload.is_done()).then(|| Box::new(self.upload));
        let body = match response.framing {
            Framing::Empty | Framing::Length(0) => {
                if let Some(home) = home {
                    home.take_back(&self.connection);
                }
                Incoming::Empty
            }
            _ => Incoming::Http1(Http1Body::new(self.connection, home)),
        };
        Reply {
            status: response.status,
            fields: response.fields,
            body,
            upload,
            lease: None,
            carried: None,
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
