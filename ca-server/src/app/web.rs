//! The web listener, `:8443`: HTTPS for people and pipelines, no client certificate. It answers with
//! the certificate from `[web]`, or with this replica's own.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use mtls::web::{WebCertificateError, server_config_from_pem};
use mtls::{Credentials, NotReady, ServerTls, ServerTlsConfig};
use runtime::{FileError, Shutdown};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::accept::accept_until_drained;
use crate::config::{Limits, WebConfig};
use crate::sources::Sources;

const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(10);
/// Long enough for the longest answer that waits, and bounded for everyone else.
const CONNECTION: Duration = Duration::from_secs(600);
const ENDING: Duration = Duration::from_secs(5);
const STREAMS: u32 = 64;
/// One source holds at most this part of all connections.
const SOURCES_SHARE: usize = 4;
const PING_EVERY: Duration = Duration::from_secs(30);

/// What the listener answers with, before there is a certificate of our own.
pub(super) enum WebTls {
    Files(ServerTlsConfig),
    Own,
}

/// The same, once there is.
pub(super) enum WebCredentials {
    Files(ServerTlsConfig),
    Own(Credentials),
}

/// The files of `[web]` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebFileError {
    #[error("cannot read certificate_file {}", .path.display())]
    Certificate {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read key_file")]
    Key(#[from] FileError),
    #[error("cannot use certificate_file and key_file")]
    Pair(#[from] WebCertificateError),
}

/// A bound listener with its routes.
pub(super) struct WebListener {
    pub(super) listener: TcpListener,
    pub(super) tls: WebCredentials,
    pub(super) router: Router,
    pub(super) limits: Limits,
    pub(super) shutdown: Shutdown,
}

struct WebConnections {
    tls: WebCredentials,
    router: Router,
    by_source: Sources,
    handshakes: Semaphore,
    shutdown: Shutdown,
}

impl WebTls {
    pub(super) fn read(config: &WebConfig) -> Result<Self, WebFileError> {
        let (Some(certificate_file), Some(key_file)) = (&config.certificate_file, &config.key_file)
        else {
            return Ok(Self::Own);
        };
        let certificate =
            std::fs::read(certificate_file).map_err(|source| WebFileError::Certificate {
                path: certificate_file.clone(),
                source,
            })?;
        let key = runtime::files::read_private(key_file)?;
        Ok(Self::Files(server_config_from_pem(
            &certificate,
            &key,
            &ALPN,
        )?))
    }

    pub(super) fn with(self, credentials: Credentials) -> WebCredentials {
        match self {
            Self::Files(config) => WebCredentials::Files(config),
            Self::Own => WebCredentials::Own(credentials),
        }
    }
}

impl WebCredentials {
    fn config(&self) -> Result<ServerTlsConfig, NotReady> {
        match self {
            Self::Files(config) => Ok(config.clone()),
            Self::Own(credentials) => credentials.web_server_config(&ALPN),
        }
    }
}

impl WebListener {
    pub(super) async fn run(self) -> io::Result<()> {
        let connections = Arc::new(WebConnections {
            tls: self.tls,
            router: self.router,
            by_source: Sources::sharing(self.limits.web_connections, SOURCES_SHARE),
            handshakes: Semaphore::new(self.limits.handshakes.get() as usize),
            shutdown: self.shutdown.clone(),
        });
        let room = self.limits.web_connections;
        accept_until_drained(self.listener, room, self.shutdown, move |stream, from| {
            Arc::clone(&connections).serve(stream, from)
        })
        .await
    }
}

impl WebConnections {
    async fn serve(self: Arc<Self>, stream: TcpStream, from: SocketAddr) {
        let Some(_place) = self.by_source.try_enter(from.ip()) else {
            tracing::debug!(%from, "web connection closed: its source holds too many already");
            return;
        };
        let Some(tls) = self.handshake(stream, from).await else {
            return;
        };
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS)
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .max_concurrent_streams(STREAMS);
        let service = TowerToHyperService::new(self.router.clone());
        let mut connection = pin!(http.serve_connection(TokioIo::new(tls), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = self.shutdown.draining() => None,
            () = tokio::time::sleep(CONNECTION) => None,
        };
        let ended = match ended {
            Some(ended) => Some(ended),
            None => {
                connection.as_mut().graceful_shutdown();
                timeout(ENDING, connection).await.ok()
            }
        };
        if let Some(Err(error)) = ended {
            tracing::debug!(%from, %error, "web connection broke");
        }
    }

    async fn handshake(&self, stream: TcpStream, from: SocketAddr) -> Option<ServerTls<TcpStream>> {
        // Fails only on a socket that is already dead, which the handshake will tell.
        drop(stream.set_nodelay(true));
        let _turn = self.handshakes.acquire().await.ok()?;
        let config = match self.tls.config() {
            Ok(config) => config,
            Err(error) => {
                tracing::error!(%error, "there is no certificate for the web listener");
                return None;
            }
        };
        match timeout(HANDSHAKE, mtls::accept(stream, config)).await {
            Ok(Ok(tls)) => Some(tls),
            Ok(Err(error)) => {
                tracing::debug!(%from, reason = %error, "web handshake failed");
                None
            }
            Err(_) => None,
        }
    }
}
