//! Asks the instance above, by HTTPS.
//!
//! Invariant: the secret leaves this process only on a connection whose other end has proved, under
//! a root that is trusted here, to be a CA of the trust domain.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use identity::TrustDomain;
use mtls::{ClientTls, HandshakeError, PinnedRoots};
use runtime::Clock;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::credential::{Credential, CredentialError, InstanceUrl};
use super::wire::{AuthorityAbove, AuthorityRequest, BundleAbove, Followed};
use crate::authority::PublishedRoots;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
const LONGEST_ANSWER: usize = 1024 * 1024;
/// Of what the instance above says of a refusal.
const LONGEST_REASON: usize = 300;

/// Where the instance above is, and how this one is known to it. Cheap enough to clone.
#[derive(Clone, Debug)]
pub(super) struct InstanceAbove {
    pub(super) credential_file: PathBuf,
    pub(super) trust_domain: TrustDomain,
    pub(super) clock: Clock,
}

/// Why the instance above has not answered.
#[derive(Debug, thiserror::Error)]
pub enum AboveError {
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error("cannot reach the instance above at {url}")]
    Unreachable { url: String, source: io::Error },
    #[error("the instance above at {url} did not answer in time")]
    Timeout { url: String },
    #[error("what answers at {url} is no CA under a root of this mesh, and was sent nothing")]
    NotOurs { url: String, source: HandshakeError },
    #[error("the connection to {url} broke before the answer came")]
    Interrupted {
        url: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the instance above refuses with {status}: {reason}")]
    Refused { status: StatusCode, reason: String },
    #[error("the answer of the instance above is not understood; do its version and this one fit?")]
    Answer(#[source] serde_json::Error),
}

/// One thing to ask.
struct Question {
    method: Method,
    path: &'static str,
    body: Option<Vec<u8>>,
}

impl InstanceAbove {
    pub(super) async fn bundle(&self, here: &PublishedRoots) -> Result<BundleAbove, AboveError> {
        let question = Question::new(Method::GET, "/v1/downstream/bundle");
        read(&self.ask(question, here).await?)
    }

    pub(super) async fn authority(
        &self,
        request: &AuthorityRequest,
        here: &PublishedRoots,
    ) -> Result<AuthorityAbove, AboveError> {
        let question = Question::new(Method::POST, "/v1/downstream/authority").with(request)?;
        read(&self.ask(question, here).await?)
    }

    pub(super) async fn note_followed(
        &self,
        followed: Followed,
        here: &PublishedRoots,
    ) -> Result<(), AboveError> {
        let question = Question::new(Method::PUT, "/v1/downstream/followed").with(&followed)?;
        self.ask(question, here).await.map(drop)
    }

    async fn ask(&self, question: Question, here: &PublishedRoots) -> Result<Bytes, AboveError> {
        let credential = Credential::read(&self.credential_file, &self.trust_domain)?;
        let pins = PinnedRoots::new(self.trust_domain.clone(), credential.pins(here));
        let (url, stream) = self.connect(&credential, &pins).await?;
        let request = question.request(url, &credential);
        match timeout(ANSWER_WITHIN, exchange(stream, request)).await {
            Ok(Ok((status, body))) if status.is_success() => Ok(body),
            Ok(Ok((status, body))) => Err(AboveError::Refused {
                status,
                reason: reason(&body),
            }),
            Ok(Err(source)) => Err(AboveError::Interrupted {
                url: url.to_string(),
                source,
            }),
            Err(_) => Err(AboveError::Timeout {
                url: url.to_string(),
            }),
        }
    }

    /// The first that can be reached. One that proves to be something else ends the search: that is
    /// a fault to look at, not to route around.
    async fn connect<'a>(
        &self,
        credential: &'a Credential,
        pins: &PinnedRoots,
    ) -> Result<(&'a InstanceUrl, ClientTls<TcpStream>), AboveError> {
        let mut failure = None;
        for url in &credential.urls {
            let named = || url.to_string();
            match timeout(CONNECT_WITHIN, TcpStream::connect(url.address())).await {
                Ok(Ok(stream)) => {
                    let clock = self.clock.clone();
                    let tls = pins.client_config(&[b"http/1.1"], move || clock.now());
                    let secured = timeout(CONNECT_WITHIN, mtls::connect(stream, tls)).await;
                    let secured = secured.map_err(|_| AboveError::Timeout { url: named() })?;
                    let ours = secured.map_err(|source| AboveError::NotOurs {
                        url: named(),
                        source,
                    })?;
                    return Ok((url, ours));
                }
                Ok(Err(source)) => {
                    failure = Some(AboveError::Unreachable {
                        url: named(),
                        source,
                    });
                }
                Err(_) => failure = Some(AboveError::Timeout { url: named() }),
            }
        }
        Err(failure.expect("a credential names at least one address"))
    }
}

impl Question {
    fn new(method: Method, path: &'static str) -> Self {
        Self {
            method,
            path,
            body: None,
        }
    }

    fn with(mut self, body: &impl Serialize) -> Result<Self, AboveError> {
        self.body = Some(serde_json::to_vec(body).map_err(AboveError::Answer)?);
        Ok(self)
    }

    fn request(self, url: &InstanceUrl, credential: &Credential) -> Request<Full<Bytes>> {
        let bearer = Zeroizing::new(format!("Bearer {}", *credential.secret.text()));
        let authorization = HeaderValue::try_from(bearer.as_str());
        let mut authorization = authorization.expect("a secret is base64url");
        authorization.set_sensitive(true);
        let request = Request::builder()
            .method(self.method)
            .uri(self.path)
            .header(header::HOST, url.authority())
            .header(header::AUTHORIZATION, authorization);
        let request = match self.body {
            None => request.body(Full::default()),
            Some(body) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::from(body)),
        };
        request.expect("constant paths and authorities of URLs make a request")
    }
}

async fn exchange(
    stream: ClientTls<TcpStream>,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, LONGEST_ANSWER).collect().await?;
    Ok((head.status, body.to_bytes()))
}

fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, AboveError> {
    serde_json::from_slice(answer).map_err(AboveError::Answer)
}

/// What a problem document (RFC 9457) says.
fn reason(body: &[u8]) -> String {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let detail = problem["detail"].as_str().unwrap_or("it says no more");
    detail.chars().take(LONGEST_REASON).collect()
}
