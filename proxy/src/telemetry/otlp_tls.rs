//! The way to a collector that proves its host name, by TLS.
//!
//! Invariant: nothing is sent before the handshake, and none succeeds with anybody but the host of
//! the endpoint, vouched for by the authorities that the configuration names.

use std::io;
use std::path::Path;

use http::Uri;
use hyper_util::rt::TokioIo;
use mtls::{WebTls, web};
use policy::Roots;
use runtime::Clock;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::config::Tracing;
use crate::external::trust::Trust;

const PORT: u16 = 443;

/// Whom to connect to, and whom to believe. Cheap to clone.
#[derive(Clone)]
pub(super) struct Secure {
    host: String,
    port: u16,
    roots: Roots,
    trust: Trust,
}

impl Secure {
    /// None for an endpoint that is reached in the clear.
    pub(super) fn new(config: &Tracing, clock: Clock) -> Option<Self> {
        let endpoint: Uri = config.endpoint.parse().ok()?;
        if endpoint.scheme_str() != Some("https") {
            return None;
        }
        let host = endpoint.host()?.trim_matches(['[', ']']).to_owned();
        let roots = match &config.roots {
            Some(path) => Roots::File(path.to_string_lossy().into_owned()),
            None => Roots::System,
        };
        Some(Self {
            host,
            port: endpoint.port_u16().unwrap_or(PORT),
            roots,
            // The path is the configuration's own, wherever links lead.
            trust: Trust::new(Some(Path::new("/")), clock),
        })
    }

    /// Connects with the first request, and again when need be.
    pub(super) fn channel(self, endpoint: &Endpoint) -> Channel {
        endpoint.connect_with_connector_lazy(service_fn(move |_: Uri| {
            let this = self.clone();
            async move { this.connect().await.map(TokioIo::new) }
        }))
    }

    async fn connect(&self) -> io::Result<WebTls<TcpStream>> {
        let trusted = self.trust.of(&self.roots, Instant::now());
        let trusted = trusted.map_err(io::Error::other)?;
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        let tls = web::connect(stream, &trusted.config, &self.host).await;
        let tls = tls.map_err(io::Error::other)?;
        match tls.alpn() {
            Some(b"h2") => Ok(tls),
            _ => Err(io::Error::other("the collector does not speak HTTP/2")),
        }
    }
}
