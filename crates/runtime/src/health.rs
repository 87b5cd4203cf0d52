//! The health endpoint: whether the process lives (`/livez`), and whether it can serve
//! (`/readyz`).
//!
//! It asks for no credential and may be reached from elsewhere, so it says yes or no and nothing
//! else.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::shutdown::Shutdown;

/// Answers until the shutdown is forced or its owner ends: while a process drains, it says that it
/// is not ready.
///
/// # Errors
/// If the listener fails.
pub async fn serve_health(
    listener: TcpListener,
    is_ready: Arc<dyn Fn() -> bool + Send + Sync>,
    shutdown: Shutdown,
) -> io::Result<()> {
    let ready = move || {
        let (is_ready, shutdown) = (Arc::clone(&is_ready), shutdown.clone());
        async move {
            if is_ready() && !shutdown.is_draining() {
                (StatusCode::OK, "ready\n")
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
            }
        }
    };
    let routes = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready));
    axum::serve(listener, routes).await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn status(ready: bool, draining: bool, path: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let flag = AtomicBool::new(ready);
        let (trigger, shutdown) = Shutdown::pair();
        if draining {
            trigger.drain();
        }
        let is_ready = Arc::new(move || flag.load(Ordering::Relaxed));
        let client = async {
            let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            text
        };
        let text = tokio::select! {
            text = client => text,
            served = serve_health(listener, is_ready, shutdown) => panic!("{served:?}"),
        };
        text.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn a_process_that_cannot_serve_is_not_ready() {
        assert_eq!(status(false, false, "/readyz").await, "503");
        assert_eq!(status(true, true, "/readyz").await, "503");
    }

    #[tokio::test]
    async fn a_process_that_serves_is_ready_and_alive() {
        assert_eq!(status(true, false, "/readyz").await, "200");
        assert_eq!(status(false, true, "/livez").await, "200");
    }
}
