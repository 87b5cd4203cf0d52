//! One HTTP/2 connection to one replica.
//!
//! Invariant: [`Heard`] moves only when bytes arrived through TLS, so it is the last word of an
//! authenticated CA (a message, or the answer to a PING), never of whoever holds the address.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use identity::join_token::CaAddress;
use mtls::{ClientTls, Credentials, Expected, HandshakeError, NotReady, PinnedRoots};
use runtime::{Clock, Listening};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tonic::body::Body;
use tower::Service;

const HTTP2: &[&[u8]] = &[b"h2"];
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const LONGEST_SILENCE: Duration = Duration::from_secs(10);
const SHORTEST_SILENCE: Duration = Duration::from_secs(1);
/// What the attestation's signature is bound to (agent.proto, `Possession`).
const EXPORTER: &[u8] = b"EXPORTER-countersign-attest";

/// By what the server is judged, and what this side shows.
#[derive(Clone, Debug)]
pub(crate) enum Trust {
    /// Not joined, or expired: no client certificate.
    Pinned(PinnedRoots),
    /// With the agent's SVID.
    Mutual(Credentials),
}

/// How to reach one replica.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    pub(crate) address: CaAddress,
    pub(crate) trust: Trust,
    pub(crate) clock: Clock,
    /// How often an idle connection is asked whether it lives; it has as long for its answer, within
    /// bounds.
    pub(crate) ping_every: Duration,
}

/// When the CA was last heard. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(watch::Sender<Option<Instant>>);

/// An open connection; dropping it closes it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) channel: CaChannel,
    /// TLS exporter (RFC 8446 §7.5) for the attestation.
    pub(crate) exporter: [u8; 32],
    driver: JoinSet<Result<(), hyper::Error>>,
}

/// Sends requests on a connection. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct CaChannel(SendRequest<Body>);

/// Why a replica could not be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("no answer from {0} within {CONNECT_WITHIN:?}")]
    Timeout(CaAddress),
    #[error("cannot connect to {0}")]
    Tcp(CaAddress, #[source] io::Error),
    #[error("no TLS configuration for {0}")]
    NotReady(CaAddress, #[source] NotReady),
    #[error("TLS with {0} failed")]
    Tls(CaAddress, #[source] HandshakeError),
    #[error("{0} does not speak HTTP/2")]
    Http2(CaAddress, #[source] hyper::Error),
}

impl Dial {
    pub(crate) async fn connect(self, heard: &Heard) -> Result<Connection, ConnectError> {
        let address = self.address.clone();
        match timeout(CONNECT_WITHIN, self.open(heard.clone())).await {
            Ok(opened) => opened,
            Err(_) => Err(ConnectError::Timeout(address)),
        }
    }

    async fn open(self, heard: Heard) -> Result<Connection, ConnectError> {
        let Self { address, .. } = &self;
        let failed = |source| ConnectError::Tcp(address.clone(), source);
        let stream = TcpStream::connect((address.host(), address.port()))
            .await
            .map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let tls = self.handshake(stream).await?;
        let exporter = tls.export_keying_material(EXPORTER);
        let listening = Listening::new(tls, move || heard.now());
        let (send, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(self.ping_every)
            .keep_alive_timeout(answer_within(self.ping_every))
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(listening))
            .await
            .map_err(|source| ConnectError::Http2(address.clone(), source))?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        Ok(Connection {
            channel: CaChannel(send),
            exporter,
            driver,
        })
    }

    async fn handshake(&self, stream: TcpStream) -> Result<ClientTls<TcpStream>, ConnectError> {
        let config = match &self.trust {
            Trust::Pinned(roots) => {
                let clock = self.clock.clone();
                Ok(roots.client_config(HTTP2, move || clock.now()))
            }
            Trust::Mutual(credentials) => credentials.client_config(Expected::CaReplica, HTTP2),
        };
        let config =
            config.map_err(|source| ConnectError::NotReady(self.address.clone(), source))?;
        mtls::connect(stream, config)
            .await
            .map_err(|source| ConnectError::Tls(self.address.clone(), source))
    }
}

fn answer_within(ping_every: Duration) -> Duration {
    ping_every.clamp(SHORTEST_SILENCE, LONGEST_SILENCE)
}

impl Connection {
    /// Resolves when the connection has ended.
    pub(crate) async fn closed(&mut self) {
        // How it ended does not matter: the next attempt says what is wrong.
        drop(self.driver.join_next().await);
    }
}

impl Heard {
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Instant>> {
        self.0.subscribe()
    }

    fn now(&self) {
        self.0.send_replace(Some(Instant::now()));
    }
}

impl Service<Request<Body>> for CaChannel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
