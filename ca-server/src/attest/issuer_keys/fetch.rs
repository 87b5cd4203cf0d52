//! One GET of a JWK Set by HTTPS: the host proves its name, the answer is bounded in size and time,
//! and no redirection is followed.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, HOST};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mtls::web::{SYSTEM_ROOTS, WebClientConfig, WebHandshakeError, WebRoots};
use runtime::Clock;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{IssuerKeysError, read_file};
use crate::config::KeysUrl;

const WITHIN: Duration = Duration::from_secs(10);
const MAX_BYTES: usize = 256 * 1024;
const HTTP1: &[&[u8]] = &[b"http/1.1"];

/// Whom to ask, and how to know that it is they.
#[derive(Debug)]
pub(super) struct Fetching {
    url: KeysUrl,
    tls: WebClientConfig,
    /// Read at each fetch: such tokens are replaced often.
    token_file: Option<PathBuf>,
}

/// Why there was no answer that could be read.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("{url} did not answer within {WITHIN:?}")]
    Timeout { url: String },
    #[error("cannot connect to {url}")]
    Connect { url: String, source: io::Error },
    #[error("the host of {url} did not prove its name")]
    Tls {
        url: String,
        source: WebHandshakeError,
    },
    #[error("{url} does not speak HTTP/1.1")]
    Http { url: String, source: hyper::Error },
    #[error("{url} answered with status {status}")]
    Status { url: String, status: StatusCode },
    #[error("the answer of {url} broke off, or has more than 262144 bytes")]
    Body {
        url: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("attest.jwt.keys_token_file {path} holds no token")]
    Token {
        path: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Fetching {
    pub(super) fn new(
        url: KeysUrl,
        roots_file: Option<&Path>,
        token_file: Option<PathBuf>,
        clock: &Clock,
    ) -> Result<Self, IssuerKeysError> {
        let usual = || {
            SYSTEM_ROOTS
                .iter()
                .map(Path::new)
                .find(|path| path.exists())
        };
        let roots_file = roots_file.or_else(usual);
        let roots_file = roots_file.ok_or(IssuerKeysError::NoSystemRoots)?;
        let roots = WebRoots::from_pem(&read_file("attest.jwt.roots_file", roots_file)?)?;
        let clock = clock.clone();
        Ok(Self {
            tls: roots.client_config(HTTP1, move || clock.now()),
            url,
            token_file,
        })
    }

    pub(super) async fn fetch(&self) -> Result<Bytes, FetchError> {
        let request = self.request()?;
        let url = self.url.to_string();
        match timeout(WITHIN, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(FetchError::Timeout { url }),
        }
    }

    async fn exchange(&self, request: Request<Empty<Bytes>>) -> Result<Bytes, FetchError> {
        let url = || self.url.to_string();
        let stream = TcpStream::connect((self.url.host(), self.url.port())).await;
        let stream = stream.map_err(|source| FetchError::Connect { url: url(), source })?;
        let tls = mtls::web::connect(stream, &self.tls, self.url.host()).await;
        let tls = tls.map_err(|source| FetchError::Tls { url: url(), source })?;
        let http = |source| FetchError::Http { url: url(), source };
        let (mut send, connection) = http1::handshake(TokioIo::new(tls)).await.map_err(http)?;
        let mut driver = tokio::task::JoinSet::new();
        driver.spawn(connection);
        let answer = send.send_request(request).await.map_err(http)?;
        let status = answer.status();
        if status != StatusCode::OK {
            return Err(FetchError::Status { url: url(), status });
        }
        let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await;
        let body = body.map_err(|source| FetchError::Body { url: url(), source })?;
        Ok(body.to_bytes())
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, FetchError> {
        let mut request = Request::new(Empty::new());
        let uri = self.url.path().parse();
        *request.uri_mut() = uri.expect("a part of a URI is one");
        let authority = HeaderValue::from_str(self.url.authority());
        let headers = request.headers_mut();
        headers.insert(
            HOST,
            authority.expect("an authority has visible characters"),
        );
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(path) = &self.token_file {
            headers.insert(AUTHORIZATION, bearer(path)?);
        }
        Ok(request)
    }
}

fn bearer(path: &Path) -> Result<HeaderValue, FetchError> {
    let refused = |source| {
        let path = path.to_owned();
        FetchError::Token { path, source }
    };
    let text = fs::read_to_string(path).map_err(|error| refused(error.into()))?;
    let value = HeaderValue::from_str(&format!("Bearer {}", text.trim()));
    let mut value = value.map_err(|error| refused(error.into()))?;
    value.set_sensitive(true);
    Ok(value)
}
