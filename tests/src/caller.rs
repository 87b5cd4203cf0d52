//! A workload's HTTP client. Over HTTP/1.1 it calls as `http_proxy` makes it, with an
//! absolute-form target; over HTTP/2 with prior knowledge (RFC 9113 section 3.3).

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::application::Seen;

/// One connection that is kept alive.
#[derive(Debug)]
pub struct Caller {
    sender: Sender,
    _connection: JoinSet<()>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Caller {
    pub async fn connect(proxy: SocketAddr) -> Self {
        let socket = TcpStream::connect(proxy).await.expect("the proxy listens");
        Self::over_http1(socket).await
    }

    /// Over a connection that is there.
    pub async fn over_http1(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.expect("HTTP/1.1");
        Self::over(Sender::Http1(sender), connection)
    }

    /// Calls of one connection that can run at the same time: see [`Caller::another`].
    pub async fn connect_h2(proxy: SocketAddr) -> Self {
        let socket = TcpStream::connect(proxy).await.expect("the proxy listens");
        Self::over_http2(socket).await
    }

    /// Over a connection that is there.
    pub async fn over_http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = handshake.expect("HTTP/2");
        Self::over(Sender::Http2(sender), connection)
    }

    /// The same HTTP/2 connection, for as long as the first handle lives.
    ///
    /// # Panics
    /// Over HTTP/1.1, where calls follow one another.
    pub fn another(&self) -> Self {
        let Sender::Http2(sender) = &self.sender else {
            panic!("HTTP/1.1 has one call at a time")
        };
        Self {
            sender: Sender::Http2(sender.clone()),
            _connection: JoinSet::new(),
        }
    }

    fn over(
        sender: Sender,
        connection: impl Future<Output = hyper::Result<()>> + Send + 'static,
    ) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // What a broken connection means is seen by the request that it breaks.
            let _ended = connection.await;
        });
        Self {
            sender,
            _connection: tasks,
        }
    }

    pub async fn get(&mut self, url: &str) -> Answer {
        self.call(request(Method::GET, url)).await
    }

    pub async fn call(&mut self, request: Request<Full<Bytes>>) -> Answer {
        let answer = self.call_to_the_end(request).await;
        answer.expect("the body ends properly")
    }

    /// The same where an answer may be cut off in the middle; over HTTP/1.1 the connection is gone
    /// then.
    pub async fn try_get(&mut self, url: &str) -> Result<Answer, hyper::Error> {
        self.call_to_the_end(request(Method::GET, url)).await
    }

    async fn call_to_the_end(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, hyper::Error> {
        let (head, body) = self.start(request).await.into_parts();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.collect().await?.to_bytes(),
        })
    }

    /// The head of the answer, unless the connection ends before it.
    pub async fn try_start(&mut self, request: Request<Full<Bytes>>) -> Option<Response<Incoming>> {
        let answer = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.ok()?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await.ok()?;
                sender.send_request(request).await
            }
        };
        answer.ok()
    }

    /// The head of the answer, with its body still to come.
    pub async fn start(&mut self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.expect("the connection is kept alive");
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await.expect("the connection is kept alive");
                sender.send_request(request).await
            }
        }
        .expect("the proxy answers")
    }
}

impl Answer {
    /// The refusal's word of the failure vocabulary.
    pub fn reason(&self) -> Option<&str> {
        self.headers
            .get("countersign-reason")
            .and_then(|value| value.to_str().ok())
    }

    pub fn decision(&self) -> Option<&str> {
        self.headers
            .get("countersign-decision")
            .and_then(|value| value.to_str().ok())
    }

    /// # Panics
    /// When the answer is not one of [`crate::application::Application::http`].
    #[track_caller]
    pub fn seen(&self) -> Seen {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {:?}", self.status, self.body))
    }
}

pub fn request(method: Method, url: &str) -> Request<Full<Bytes>> {
    let authority = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split('/').next());
    let builder = Request::builder().method(method).uri(url);
    let builder = builder.header("host", authority.expect("an http:// URL"));
    builder.body(Full::default()).expect("a valid request")
}

/// A POST with this body.
pub fn post(url: &str, body: Bytes) -> Request<Full<Bytes>> {
    request(Method::POST, url).map(|_| Full::new(body))
}
