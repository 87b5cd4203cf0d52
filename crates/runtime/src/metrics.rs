//! The metrics endpoint: OpenMetrics text, on loopback only.
//!
//! Refuses to bind an address that other hosts could reach, for it asks for no credential.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::net::TcpListener;

use crate::shutdown::Shutdown;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Binds the metrics listener; the address must be a loopback address.
pub async fn bind_metrics(address: SocketAddr) -> Result<TcpListener, MetricsError> {
    if !address.ip().is_loopback() {
        return Err(MetricsError::NotLoopback(address));
    }
    TcpListener::bind(address)
        .await
        .map_err(|source| MetricsError::Bind { address, source })
}

/// Serves `GET /metrics` until the shutdown begins.
pub async fn serve_metrics(
    listener: TcpListener,
    registry: Arc<Registry>,
    shutdown: Shutdown,
) -> io::Result<()> {
    let routes = Router::new().route(
        "/metrics",
        get(move || async move { exposition(&registry) }),
    );
    axum::serve(listener, routes)
        .with_graceful_shutdown(async move { shutdown.draining().await })
        .await
}

fn exposition(registry: &Registry) -> Response {
    let mut text = String::new();
    match encode(&mut text, registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Why metrics cannot be served.
#[derive(Debug, Error)]
pub enum MetricsError {
    #[error("metrics need no credential, so they are served on loopback only, not on {0}")]
    NotLoopback(SocketAddr),
    #[error("cannot listen on {address} for metrics")]
    Bind {
        address: SocketAddr,
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use prometheus_client::metrics::counter::Counter;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn address_that_other_hosts_reach_is_refused() {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let error = bind_metrics(address).await.unwrap_err();
        assert!(matches!(error, MetricsError::NotLoopback(refused) if refused == address));
    }

    #[tokio::test]
    async fn counter_appears_in_the_exposition() {
        let mut registry = Registry::default();
        let counter: Counter = Counter::default();
        registry.register("calls", "Calls seen", counter.clone());
        counter.inc();
        let listener = bind_metrics((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (trigger, shutdown) = Shutdown::pair();
        let client = async {
            stream
                .write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                .await
                .unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            trigger.drain();
            text
        };
        let (served, text) = tokio::join!(
            serve_metrics(listener, Arc::new(registry), shutdown),
            client
        );
        served.unwrap();
        assert!(text.contains("calls_total 1"));
    }
}
