//! A workload's HTTP client, as `http_proxy` makes it: it speaks to its own proxy's outbound
//! listener and names the service in an absolute-form target.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::application::Seen;

/// One keep-alive HTTP/1.1 connection.
#[derive(Debug)]
pub struct Caller {
    sender: SendRequest<Full<Bytes>>,
    _connection: JoinSet<()>,
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
        let (sender, connection) = handshake(TokioIo::new(socket)).await.expect("HTTP/1.1");
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
        let (head, body) = self.start(request).await.into_parts();
        let body = body
            .collect()
            .await
            .expect("the body ends properly")
            .to_bytes();
        Answer {
            status: head.status,
            headers: head.headers,
            body,
        }
    }

    /// The head of the answer, with its body still to come.
    pub async fn start(&mut self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        self.sender
            .ready()
            .await
            .expect("the connection is kept alive");
        self.sender
            .send_request(request)
            .await
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
