//! Applications behind a proxy: real servers on loopback that say what reached them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

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

/// Ends with its last handle.
#[derive(Debug)]
pub struct Application {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Application {
    /// Answers `/stream` with a chunk every 20 ms until the reader goes away, everything else
    /// with what it [`Seen`]. Speaks HTTP/1.1 and HTTP/2 with prior knowledge.
    pub async fn http() -> Self {
        Self::serve(|socket| async move {
            let io = TokioIo::new(socket);
            let server = auto::Builder::new(TokioExecutor::new());
            // A caller that goes away is what several tests are about.
            let _ended = server.serve_connection(io, service_fn(answer)).await;
        })
        .await
    }

    /// Sends back what it gets.
    pub async fn tcp_echo() -> Self {
        Self::serve(|mut socket| async move {
            let mut buffer = vec![0; 4096];
            while let Ok(count @ 1..) = socket.read(&mut buffer).await {
                if socket.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
        })
        .await
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    async fn serve<F>(handle: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(handle(socket));
            }
        });
        Self {
            address,
            _tasks: tasks,
        }
    }
}

type Body = BoxBody<Bytes, Infallible>;

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    if request.uri().path() == "/stream" {
        return Ok(Response::new(endless()));
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
    Ok(Response::new(Full::new(json.into()).boxed()))
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
