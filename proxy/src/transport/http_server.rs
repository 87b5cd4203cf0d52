//! One HTTP connection, served until it ends, is drained, or is forced to end.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::body::Download;
use super::tasks::Tasks;
use crate::config::Limits;
use crate::record::NetworkProtocol;

/// Which version is spoken on a connection; it is known before the first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Http1,
    Http2,
}

impl Wire {
    /// As records have it.
    pub(crate) fn protocol(self) -> NetworkProtocol {
        match self {
            Self::Http1 => NetworkProtocol::Http1,
            Self::Http2 => NetworkProtocol::Http2,
        }
    }
}

/// One stream may fill a quarter of the connection's window, so that no stream starves others.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;
const SEND_BUFFER: usize = 256 * 1024;

/// A request may be on its way to a connection that leaves: it is waited for, and answered.
const LAST_REQUEST: Duration = Duration::from_secs(1);
/// Finds a peer that has vanished; an idle one costs a PING.
const PING_EVERY: Duration = Duration::from_secs(30);

/// Serves until the connection ends. When `leave` resolves, the peer is told (GOAWAY, or
/// `Connection: close`), and what is in flight finishes.
pub(crate) async fn serve<I, S>(
    io: I,
    wire: Wire,
    service: S,
    limits: &Limits,
    tasks: &Tasks,
    leave: impl Future<Output = ()>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<Download>, Error = Infallible> + Send,
    S::Future: Send + 'static,
{
    // On the heap, so that a connection has room for its own version alone.
    let ended = match wire {
        Wire::Http1 => Box::pin(serve_http1(io, service, limits, leave)).await,
        Wire::Http2 => Box::pin(serve_http2(io, service, limits, tasks, leave)).await,
    };
    if let Err(error) = ended {
        tracing::debug!(error = %runtime::exit::one_line(&error), "connection ended");
    }
}

async fn serve_http1<I, S>(
    io: I,
    service: S,
    limits: &Limits,
    leave: impl Future<Output = ()>,
) -> hyper::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<Download>, Error = Infallible>,
{
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read.duration())
        .max_headers(limits.headers)
        .max_buf_size((limits.header_bytes as usize).max(8 * 1024));
    let leaving = Arc::new(AtomicBool::new(false));
    let last = Arc::clone(&leaving);
    let service = service_fn(move |request| {
        let (answer, last) = (service.call(request), Arc::clone(&last));
        async move {
            let mut answer = answer.await?;
            if last.load(Ordering::Relaxed) {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(CONNECTION, close);
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = leave => leaving.store(true, Ordering::Relaxed),
    }
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = tokio::time::sleep(LAST_REQUEST) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

async fn serve_http2<I, S>(
    io: I,
    service: S,
    limits: &Limits,
    tasks: &Tasks,
    leave: impl Future<Output = ()>,
) -> hyper::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<Download>, Error = Infallible>,
    S::Future: Send + 'static,
{
    let mut builder = http2::Builder::new(tasks.clone());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.header_bytes);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = leave => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}
