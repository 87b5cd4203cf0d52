//! The client of the CA's REST interface.
//!
//! Invariant: the secret leaves this process only on a connection whose TLS handshake has verified
//! a chain to a pinned root and a leaf of a CA replica of our trust domain.

use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use identity::TrustDomain;
use mtls::{HandshakeError, PinnedRoots};
use runtime::Clock;
use serde_json::Value;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::problem::Problem;
use super::{AdminFile, CaUrl};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than the CA lets a request wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);
const LONGEST_ANSWER: usize = 64 << 20;

/// Speaks to the CA with an administrator's credential. One connection for each call.
#[derive(Clone, Debug)]
pub struct Client {
    file: AdminFile,
    clock: Clock,
}

impl Client {
    /// A client with this credential; certificates are judged by this clock.
    pub fn new(file: AdminFile, clock: Clock) -> Self {
        Self { file, clock }
    }

    /// Where the CA is, as the credential says.
    pub fn url(&self) -> String {
        self.file
            .urls
            .first()
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    /// All addresses that the credential names.
    pub fn urls(&self) -> Vec<String> {
        self.file.urls.iter().map(ToString::to_string).collect()
    }

    /// The mesh that the credential belongs to.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.file.trust_domain
    }

    /// `GET path`.
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        Ok(self.call(Call::new(Method::GET, path)).await?.body)
    }

    /// `GET path` of what is not JSON.
    pub async fn get_bytes(&self, path: &str) -> Result<Bytes, ClientError> {
        let reply = self.exchange(Call::new(Method::GET, path)).await?;
        require_success(&reply)?;
        Ok(reply.into_body())
    }

    /// `GET path`, with the entity tag that a `PUT` needs.
    pub async fn get_tagged(&self, path: &str) -> Result<(Value, Tag), ClientError> {
        let answer = self.call(Call::new(Method::GET, path)).await?;
        let tag = answer.tag.ok_or(ClientError::NoTag)?;
        Ok((answer.body, Tag(tag)))
    }

    /// `POST path` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        let call = Call {
            body: Some(body),
            ..Call::new(Method::POST, path)
        };
        Ok(self.call(call).await?.body)
    }

    /// `PUT path` with a JSON body, unless the object has changed since it was read.
    pub async fn put(&self, path: &str, body: &Value, tag: &Tag) -> Result<Value, ClientError> {
        let call = Call {
            body: Some(body),
            tag: Some(tag),
            ..Call::new(Method::PUT, path)
        };
        Ok(self.call(call).await?.body)
    }

    /// `DELETE path`.
    pub async fn delete(&self, path: &str) -> Result<Value, ClientError> {
        Ok(self.call(Call::new(Method::DELETE, path)).await?.body)
    }

    async fn call(&self, call: Call<'_>) -> Result<Answer, ClientError> {
        judge(&self.exchange(call).await?)
    }

    async fn exchange(&self, call: Call<'_>) -> Result<Response<Bytes>, ClientError> {
        let (url, stream) = self.connect().await?;
        let request = self.request(url, call)?;
        match timeout(ANSWER_TIMEOUT, exchange(stream, request)).await {
            Ok(Ok(reply)) => {
                self.follow(&reply);
                Ok(reply)
            }
            Ok(Err(source)) => Err(ClientError::Interrupted {
                url: url.clone(),
                source,
            }),
            Err(_) => Err(ClientError::NoAnswer { url: url.clone() }),
        }
    }

    /// The connection has proved to be our CA's: what it says of the roots is so.
    fn follow(&self, reply: &Response<Bytes>) {
        if let Err(error) = self.file.roots.follow(reply.headers()) {
            crate::output::remark(&runtime::exit::one_line(&error));
        }
    }

    /// The first CA that can be reached and proves to be one. A peer that proves to be something
    /// else ends the search: that is a fault to look at, not to route around.
    async fn connect(
        &self,
    ) -> Result<(&CaUrl, impl AsyncRead + AsyncWrite + Unpin + use<>), ClientError> {
        let mut failure = None;
        for url in &self.file.urls {
            match timeout(CONNECT_TIMEOUT, TcpStream::connect(url.address())).await {
                Ok(Ok(stream)) => {
                    // Latency only: without it a body waits for the acknowledgement of its head.
                    drop(stream.set_nodelay(true));
                    return Ok((url, self.secure(url, stream).await?));
                }
                Ok(Err(source)) => {
                    failure = Some(ClientError::Unreachable {
                        url: url.clone(),
                        source,
                    })
                }
                Err(_) => failure = Some(ClientError::NoAnswer { url: url.clone() }),
            }
        }
        Err(failure.expect("a credential names at least one address"))
    }

    async fn secure(
        &self,
        url: &CaUrl,
        stream: TcpStream,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + use<>, ClientError> {
        let pins = PinnedRoots::new(self.file.trust_domain.clone(), self.file.roots.current());
        let clock = self.clock.clone();
        let handshake = mtls::connect(
            stream,
            pins.client_config(&[b"http/1.1"], move || clock.now()),
        );
        match timeout(CONNECT_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(source)) => Err(ClientError::NotOurCa {
                url: url.clone(),
                source,
            }),
            Err(_) => Err(ClientError::NoAnswer { url: url.clone() }),
        }
    }

    fn request(&self, url: &CaUrl, call: Call<'_>) -> Result<Request<Full<Bytes>>, ClientError> {
        let bearer = Zeroizing::new(format!("Bearer {}", *self.file.secret));
        let mut authorization =
            HeaderValue::try_from(bearer.as_str()).map_err(|_| ClientError::Secret)?;
        authorization.set_sensitive(true);
        let mut request = Request::builder()
            .method(call.method)
            .uri(call.path)
            .header(header::HOST, url.authority.as_str())
            .header(header::AUTHORIZATION, authorization)
            .header(
                header::ACCEPT,
                "application/json, application/problem+json, */*",
            );
        if let Some(Tag(tag)) = call.tag {
            request = request.header(header::IF_MATCH, tag);
        }
        let request = match call.body {
            Some(body) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::from(body.to_string())),
            None => request.body(Full::default()),
        };
        request.map_err(|source| ClientError::Request {
            path: call.path.to_owned(),
            source,
        })
    }
}

/// An object's entity tag, as the CA wrote it (RFC 9110 §8.8.3).
#[derive(Clone, Debug)]
pub struct Tag(HeaderValue);

struct Call<'a> {
    method: Method,
    path: &'a str,
    body: Option<&'a Value>,
    tag: Option<&'a Tag>,
}

impl<'a> Call<'a> {
    fn new(method: Method, path: &'a str) -> Self {
        Self {
            method,
            path,
            body: None,
            tag: None,
        }
    }
}

#[derive(Debug)]
struct Answer {
    tag: Option<HeaderValue>,
    body: Value,
}

/// Why a call to the CA had no result.
#[derive(Debug, Error)]
pub enum ClientError {
    #[error("cannot reach the CA at {url}; is it running? `countersign up` starts one")]
    Unreachable { url: CaUrl, source: std::io::Error },
    #[error("the CA at {url} did not answer in time")]
    NoAnswer { url: CaUrl },
    #[error("what answers at {url} is not the CA of this credential, and was sent nothing")]
    NotOurCa { url: CaUrl, source: HandshakeError },
    #[error("the connection to {url} broke before the answer came; look before you repeat")]
    Interrupted { url: CaUrl, source: ExchangeError },
    #[error("the secret of the credential contains characters that no header can carry")]
    Secret,
    #[error("the CA gave the object no ETag; do its version and this one fit?")]
    NoTag,
    #[error("`{path}` cannot be asked for")]
    Request { path: String, source: http::Error },
    #[error("{0}")]
    Refused(Box<Problem>),
    #[error(
        "the CA's answer is not understood (status {status}); do its version and this one fit?"
    )]
    Answer {
        status: StatusCode,
        source: serde_json::Error,
    },
}

impl ClientError {
    /// The status with which the CA refused, if it did.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(problem) => Some(problem.status()),
            _ => None,
        }
    }
}

/// Why an HTTP exchange broke.
#[derive(Debug, Error)]
pub enum ExchangeError {
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("the answer is longer than {LONGEST_ANSWER} bytes")]
    TooLong,
    #[error(transparent)]
    Body(Box<dyn std::error::Error + Send + Sync>),
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, ExchangeError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, LONGEST_ANSWER).collect().await;
        let body = body.map_err(|error| {
            if error.is::<LengthLimitError>() {
                ExchangeError::TooLong
            } else {
                ExchangeError::Body(error)
            }
        })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    let driven = async move {
        // Its error, if any, reaches the answer as well.
        drop(connection.await);
        std::future::pending().await
    };
    tokio::select! {
        biased;
        answer = answer => answer,
        never = driven => never,
    }
}

fn require_success(reply: &Response<Bytes>) -> Result<(), ClientError> {
    let (status, body) = (reply.status(), reply.body());
    match status.is_success() {
        true => Ok(()),
        false => Err(ClientError::Refused(Box::new(Problem::read(status, body)))),
    }
}

fn judge(reply: &Response<Bytes>) -> Result<Answer, ClientError> {
    require_success(reply)?;
    let (status, body) = (reply.status(), reply.body());
    let tag = reply.headers().get(header::ETAG).cloned();
    if body.is_empty() {
        return Ok(Answer {
            tag,
            body: Value::Null,
        });
    }
    match serde_json::from_slice(body) {
        Ok(body) => Ok(Answer { tag, body }),
        Err(source) => Err(ClientError::Answer { status, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer_to(reply: &'static str) -> Result<Response<Bytes>, ExchangeError> {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let request = Request::builder()
            .uri("/v1/about")
            .body(Full::default())
            .unwrap();
        let server = async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut head = [0; 4096];
            assert!(theirs.read(&mut head).await.unwrap() > 0);
            theirs.write_all(reply.as_bytes()).await.unwrap();
        };
        let (answer, ()) = tokio::join!(exchange(ours, request), server);
        answer
    }

    #[tokio::test]
    async fn connection_that_ends_early_is_an_error() {
        let answer = answer_to("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{").await;
        assert!(answer.is_err());
    }

    #[tokio::test]
    async fn answer_is_complete_when_the_server_closes_after_it() {
        let reply = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
        let answer = answer_to(reply).await.unwrap();
        assert_eq!(answer.body().as_ref(), b"{}");
    }

    fn reply(body: &'static [u8]) -> Response<Bytes> {
        Response::new(Bytes::from_static(body))
    }

    #[test]
    fn success_that_is_no_json_is_refused() {
        let error = judge(&reply(b"<html>")).unwrap_err();
        assert!(matches!(error, ClientError::Answer { .. }));
    }

    #[test]
    fn empty_success_has_no_value() {
        assert_eq!(judge(&reply(b"")).unwrap().body, Value::Null);
    }
}
