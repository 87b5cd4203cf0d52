//! What hyper reads from the same bytes. Also part of the fuzz target.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;

/// One message that was read to its end.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Message {
    /// Method, target and version, or status and version.
    pub start: String,
    pub fields: HeaderMap,
    pub content: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

/// The requests that hyper's server takes from a connection that carries these bytes.
pub(crate) async fn requests(bytes: &[u8]) -> Vec<Message> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let seen = Rc::clone(&seen);
        async move {
            let (head, body) = request.into_parts();
            let start = format!("{} {} {:?}", head.method, head.uri, head.version);
            if let Some(message) = collect(start, head.headers, body).await {
                seen.borrow_mut().push(message);
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let wire = Wire::new(bytes, true);
    let connection = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .serve_connection(wire, service);
    drop(connection.await);
    seen.take()
}

/// The response that hyper's client takes from these bytes, after a request with `method`.
pub(crate) async fn response(method: Method, bytes: &[u8]) -> Option<Message> {
    let wire = Wire::new(bytes, false);
    let handshake = hyper::client::conn::http1::handshake(wire).await;
    let (mut sender, connection) = handshake.ok()?;
    let asking = async move {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = method;
        *request.uri_mut() = http::Uri::from_static("example:80");
        let response = sender.send_request(request).await.ok()?;
        let (head, body) = response.into_parts();
        let start = format!("{} {:?}", head.status.as_u16(), head.version);
        collect(start, head.headers, body).await
    };
    let (message, _) = tokio::join!(asking, connection);
    message
}

async fn collect(start: String, fields: HeaderMap, body: Incoming) -> Option<Message> {
    let body = body.collect().await.ok()?;
    let trailers = body.trailers().cloned();
    Some(Message {
        start,
        fields,
        content: body.to_bytes().to_vec(),
        trailers,
    })
}

/// Gives the bytes, then the end; swallows what is written.
struct Wire {
    left: Bytes,
    open: bool,
    waiting: Option<Waker>,
}

impl Wire {
    /// A client's wire has nothing to read until it has asked.
    fn new(bytes: &[u8], open: bool) -> Self {
        Self {
            left: Bytes::copy_from_slice(bytes),
            open,
            waiting: None,
        }
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        if !self.open {
            self.waiting = Some(context.waker().clone());
            return Poll::Pending;
        }
        let size = self.left.len().min(buffer.remaining());
        buffer.put_slice(&self.left.split_to(size));
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.open = true;
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
