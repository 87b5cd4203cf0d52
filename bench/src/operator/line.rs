//! One kept connection to the CA's REST interface, so that a call costs no handshake.

use std::path::Path;

use anyhow::{Context, Result};
use crypto::digest::Sha256;
use http::request::Builder;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use identity::TrustDomain;
use mtls::pinned::PinnedRoots;
use runtime::Clock;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

#[derive(Debug)]
pub(crate) struct Line {
    sender: http1::SendRequest<Full<Bytes>>,
    host: String,
    authorization: String,
    _connection: JoinSet<()>,
}

#[derive(Deserialize)]
struct Credential {
    trust_domain: TrustDomain,
    urls: Vec<String>,
    root_sha256: Vec<String>,
    secret: String,
}

impl Line {
    pub(super) async fn open(credential: &Path) -> Result<Self> {
        let credential: Credential = toml::from_str(&std::fs::read_to_string(credential)?)?;
        let roots = credential.root_sha256.iter().map(|text| text.parse());
        let roots: Vec<Sha256> = roots.collect::<Result<_, _>>()?;
        let url = credential.urls.first().context("a URL")?;
        let host = url.trim_start_matches("https://").to_owned();
        let socket = TcpStream::connect(&host).await?;
        socket.set_nodelay(true)?;
        let (pins, clock) = (
            PinnedRoots::new(credential.trust_domain, roots),
            Clock::system(),
        );
        let config = pins.client_config(&[b"http/1.1"], move || clock.now());
        let tls = mtls::connect(socket, config).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(tls)).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // What a broken connection means is seen by the call that it breaks.
            let _ended = connection.await;
        });
        Ok(Self {
            sender,
            host,
            authorization: format!("Bearer {}", credential.secret),
            _connection: tasks,
        })
    }

    /// The whole answer is read.
    pub(crate) async fn get(&mut self, path: &str) -> Result<StatusCode> {
        self.call(Request::get(path), Full::default()).await
    }

    /// The whole answer is read.
    pub(crate) async fn post(&mut self, path: &str, body: &Value) -> Result<StatusCode> {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        self.call(request, Full::from(body.to_string())).await
    }

    async fn call(&mut self, request: Builder, body: Full<Bytes>) -> Result<StatusCode> {
        let request = request
            .header(header::HOST, &self.host)
            .header(header::AUTHORIZATION, &self.authorization)
            .body(body)?;
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        body.collect().await?;
        Ok(head.status)
    }
}
