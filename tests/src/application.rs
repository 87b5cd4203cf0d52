//! Applications behind a proxy: real servers on loopback that say what reached them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};

use crate::echo::Echo;

/// What an application saw of a request, and sends back as its body.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body_bytes: usize,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name);
        found.next().map(|(_, value)| value.as_str())
    }
}

/// What `/v1/flood` sends to a reader that takes it all.
pub const FLOOD: usize = 256 * 1024 * 1024;
const FLOOD_CHUNK: Bytes = Bytes::from_static(&[7; 64 * 1024]);

/// Ends with its last handle.
#[derive(Debug)]
pub struct Application {
    address: SocketAddr,
    tally: Arc<Tally>,
    echo: Option<Echo>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Tally {
    requests: AtomicUsize,
    checks: AtomicUsize,
    ill: AtomicBool,
    flooded: AtomicUsize,
}

impl Application {
    /// Answers `/healthz` with how it is, `/stream` with a chunk every 20 ms until the reader goes away, `/v1/echo` with the
    /// body as it arrives, `/v1/flood` with [`FLOOD`] bytes, everything else with what it
    /// [`Seen`]. Speaks HTTP/1.1 and HTTP/2 with prior knowledge.
    pub async fn http() -> Self {
        Self::serve(|socket, tally| async move {
            let io = TokioIo::new(socket);
            let server = auto::Builder::new(TokioExecutor::new());
            let service = service_fn(move |request| answer(request, Arc::clone(&tally)));
            // A caller that goes away is what several tests are about.
            let _ended = server.serve_connection(io, service).await;
        })
        .await
    }

    /// As [`Application::http`], behind TLS.
    pub async fn over_tls(acceptor: TlsAcceptor) -> Self {
        Self::serve(move |socket, tally| {
            let acceptor = acceptor.clone();
            async move {
                // Who refuses the certificate goes away.
                let Ok(tls) = acceptor.accept(socket).await else {
                    return;
                };
                let server = auto::Builder::new(TokioExecutor::new());
                let service = service_fn(move |request| answer(request, Arc::clone(&tally)));
                let _ended = server.serve_connection(TokioIo::new(tls), service).await;
            }
        })
        .await
    }

    /// Answers every request with this status and nothing else.
    pub async fn answering(status: StatusCode) -> Self {
        Self::serve(move |socket, tally| async move {
            let service = service_fn(move |_request: Request<Incoming>| {
                tally.requests.fetch_add(1, Ordering::Relaxed);
                let mut response = Response::new(Full::<Bytes>::default());
                *response.status_mut() = status;
                async move { Ok::<_, Infallible>(response) }
            });
            let server = auto::Builder::new(TokioExecutor::new());
            let _ended = server.serve_connection(TokioIo::new(socket), service).await;
        })
        .await
    }

    /// Answers every gRPC call with a message, and says in the trailers that it is UNAVAILABLE.
    pub async fn grpc_failing_late() -> Self {
        Self::serve(move |socket, tally| async move {
            let service = service_fn(move |_request: Request<Incoming>| {
                tally.requests.fetch_add(1, Ordering::Relaxed);
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("14"));
                let frames = [
                    Frame::data(Bytes::from_static(&[0; 5])),
                    Frame::trailers(trailers),
                ];
                let body = tokio_stream::iter(frames.map(Ok::<_, Infallible>));
                let mut response = Response::new(StreamBody::new(body));
                let grpc = HeaderValue::from_static("application/grpc");
                response.headers_mut().insert("content-type", grpc);
                async move { Ok::<_, Infallible>(response) }
            });
            let server = auto::Builder::new(TokioExecutor::new());
            let _ended = server.serve_connection(TokioIo::new(socket), service).await;
        })
        .await
    }

    /// Reads what it is told and never answers.
    pub async fn silent() -> Self {
        Self::serve(|mut socket, tally| async move {
            tally.requests.fetch_add(1, Ordering::Relaxed);
            let mut told = Vec::new();
            // A caller that goes away is what the claim is about.
            let _ended = socket.read_to_end(&mut told).await;
        })
        .await
    }

    /// [`crate::echo`] over gRPC.
    pub async fn grpc() -> Self {
        Self::echo(Echo::default()).await
    }

    /// The same, which answers unary calls with UNAVAILABLE.
    pub async fn grpc_ill() -> Self {
        Self::echo(Echo::ill()).await
    }

    async fn echo(echo: Echo) -> Self {
        let (listener, address) = bind().await;
        let mut tasks = JoinSet::new();
        let incoming = TcpListenerStream::new(listener);
        tasks.spawn(crate::echo::serve(echo.clone(), incoming));
        Self {
            address,
            tally: Arc::default(),
            echo: Some(echo),
            _tasks: tasks,
        }
    }

    /// Sends back what it gets.
    pub async fn tcp_echo() -> Self {
        Self::serve(|mut socket, _tally| async move {
            let mut buffer = vec![0; 4096];
            while let Ok(count @ 1..) = socket.read(&mut buffer).await {
                if socket.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
        })
        .await
    }

    /// Speaks WebSocket (RFC 6455), and gives every message back.
    pub async fn websocket() -> Self {
        Self::serve(chat).await
    }

    /// As [`Application::websocket`], behind TLS.
    pub async fn websocket_over_tls(acceptor: TlsAcceptor) -> Self {
        Self::serve(move |socket, tally| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(tls) = acceptor.accept(socket).await {
                    chat(tls, tally).await;
                }
            }
        })
        .await
    }

    /// Greets with one byte, listens until the caller has finished, then says what it was told,
    /// and finishes itself.
    pub async fn tcp_after_the_end() -> Self {
        Self::serve(|mut socket, _tally| async move {
            let mut told = Vec::new();
            drop(socket.write_all(b"?").await);
            if socket.read_to_end(&mut told).await.is_ok() {
                // A caller that goes away is seen by the caller.
                drop(socket.write_all(&told).await);
            }
        })
        .await
    }

    /// Answers the first request of each connection with these bytes, whatever they are, and
    /// keeps the connection.
    pub async fn saying(answer: &'static str) -> Self {
        Self::serve(move |mut socket, tally| async move {
            let mut told = Vec::new();
            let mut buffer = vec![0; 4096];
            while !told.windows(4).any(|end| end == b"\r\n\r\n") {
                match socket.read(&mut buffer).await {
                    Ok(count @ 1..) => told.extend_from_slice(&buffer[..count]),
                    _ => return,
                }
            }
            tally.requests.fetch_add(1, Ordering::Relaxed);
            drop(socket.write_all(answer.as_bytes()).await);
            // Until the caller goes away.
            while let Ok(1..) = socket.read(&mut buffer).await {}
        })
        .await
    }

    /// How many HTTP requests or unary gRPC calls reached it.
    pub fn requests(&self) -> usize {
        let echoed = self.echo.as_ref().map_or(0, Echo::calls);
        self.tally.requests.load(Ordering::Relaxed) + echoed
    }

    /// How many times it was asked how it is.
    pub fn checks(&self) -> usize {
        self.tally.checks.load(Ordering::Relaxed)
    }

    /// From now on it says that it is ill, or well.
    pub fn is_ill(&self, ill: bool) {
        self.tally.ill.store(ill, Ordering::Relaxed);
    }

    /// How many bytes `/v1/flood` has let go of.
    pub fn flooded(&self) -> usize {
        self.tally.flooded.load(Ordering::Relaxed)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    async fn serve<F>(handle: impl Fn(TcpStream, Arc<Tally>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (listener, address) = bind().await;
        let tally = Arc::<Tally>::default();
        let shared = Arc::clone(&tally);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(handle(socket, Arc::clone(&shared)));
            }
        });
        Self {
            address,
            tally,
            echo: None,
            _tasks: tasks,
        }
    }
}

async fn chat(stream: impl AsyncRead + AsyncWrite + Unpin, tally: Arc<Tally>) {
    // A caller that goes away is what some tests are about.
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else {
        return;
    };
    tally.requests.fetch_add(1, Ordering::Relaxed);
    while let Some(Ok(message)) = socket.next().await {
        if !message.is_close() && socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn bind() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener
        .local_addr()
        .expect("a bound listener has an address");
    (listener, address)
}

type Body = BoxBody<Bytes, hyper::Error>;

async fn answer(
    request: Request<Incoming>,
    tally: Arc<Tally>,
) -> Result<Response<Body>, Infallible> {
    if request.uri().path() == "/healthz" {
        return Ok(checkup(&tally));
    }
    tally.requests.fetch_add(1, Ordering::Relaxed);
    match request.uri().path() {
        "/stream" => return Ok(Response::new(endless())),
        "/v1/echo" => return Ok(Response::new(request.into_body().boxed())),
        "/v1/flood" => return Ok(Response::new(flood(tally))),
        _ => {}
    }
    let (head, body) = request.into_parts();
    let body_bytes = body.collect().await.map_or(0, |body| body.to_bytes().len());
    let headers = head.headers.iter();
    let seen = Seen {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        headers: headers
            .map(|(name, value)| {
                (
                    name.to_string(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect(),
        body_bytes,
    };
    let json = serde_json::to_vec(&seen).expect("strings serialize");
    Ok(Response::new(Full::new(json.into()).map_err(never).boxed()))
}

fn checkup(tally: &Tally) -> Response<Body> {
    tally.checks.fetch_add(1, Ordering::Relaxed);
    let secret = Full::new(Bytes::from_static(b"all about me"));
    let mut response = Response::new(secret.map_err(never).boxed());
    if tally.ill.load(Ordering::Relaxed) {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

fn flood(tally: Arc<Tally>) -> Body {
    let chunks = tokio_stream::iter(0..FLOOD / FLOOD_CHUNK.len()).map(move |_| {
        tally
            .flooded
            .fetch_add(FLOOD_CHUNK.len(), Ordering::Relaxed);
        Ok(Frame::data(FLOOD_CHUNK))
    });
    StreamBody::new(chunks).boxed()
}

fn never(never: Infallible) -> hyper::Error {
    match never {}
}

fn endless() -> Body {
    let (sender, receiver) = mpsc::channel(1);
    let chunks = ReceiverStream::new(receiver).throttle(Duration::from_millis(20));
    let mut pump = JoinSet::new();
    pump.spawn(async move { while sender.send(Bytes::from_static(b"tick\n")).await.is_ok() {} });
    let frames = chunks.map(move |chunk| {
        let _owned = &pump;
        Ok(Frame::data(chunk))
    });
    StreamBody::new(frames).boxed()
}
