//! The local administration socket: status, log level, drain.
//!
//! Invariant: only the user that runs the process, or root, is answered. The socket is 0600, and
//! the peer's uid, as the kernel tells it, is checked on every connection.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::serve::Listener;
use axum::{Json, Router};
use nix::unistd::geteuid;
use serde_json::json;
use thiserror::Error;
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};

use crate::shutdown::{Shutdown, ShutdownTrigger};
use crate::telemetry::{LogFilter, LogLevelHandle};

/// What the socket can show and move.
#[derive(Clone)]
pub struct AdminSource {
    /// Answers `GET /status`.
    pub status: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// What `GET` and `PUT /log-level` read and change, where the process logs by itself.
    pub log_level: Option<LogLevelHandle>,
    /// What `POST /drain` triggers.
    pub trigger: ShutdownTrigger,
}

impl std::fmt::Debug for AdminSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminSource")
            .field("log_level", &self.log_level)
            .finish_non_exhaustive()
    }
}

/// A bound administration socket; its file goes when it is dropped.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    /// None where somebody else owns it.
    file: Option<SocketFile>,
}

impl AdminSocket {
    /// Binds the socket (0600). A socket that nobody serves any more is replaced; any other file,
    /// or a live socket, is left alone and refused.
    pub fn bind(path: impl AsRef<Path>) -> Result<Self, AdminError> {
        let path = path.as_ref();
        let bind_error = |source| AdminError::Bind {
            path: path.to_owned(),
            source,
        };
        remove_stale(path)?;
        let listener = UnixListener::bind(path).map_err(bind_error)?;
        let file = SocketFile(path.to_owned());
        // Until this is done, the check of the peer's uid keeps others out.
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(bind_error)?;
        Ok(Self {
            listener,
            file: Some(file),
        })
    }

    /// Serves a socket that the caller has bound with mode 0600, non-blocking, and whose file
    /// stays the caller's.
    ///
    /// # Errors
    /// If the socket is no such socket.
    pub fn bound(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        Ok(Self {
            listener: UnixListener::from_std(listener)?,
            file: None,
        })
    }

    /// Answers until the shutdown begins. `POST /drain` is one way to begin it.
    pub async fn serve(self, source: AdminSource, shutdown: Shutdown) -> io::Result<()> {
        self.serve_with(source, Router::new(), shutdown).await
    }

    /// As [`AdminSocket::serve`], with what the process itself can show. A route of `more` that
    /// streams ends by itself when the shutdown begins.
    pub async fn serve_with(
        self,
        source: AdminSource,
        more: Router,
        shutdown: Shutdown,
    ) -> io::Result<()> {
        let Self {
            listener,
            file: _file,
        } = self;
        let guarded = GuardedListener {
            listener,
            owner: geteuid().as_raw(),
        };
        let routes = Router::new()
            .route("/status", get(status))
            .route("/log-level", put(set_log_level).get(log_level))
            .route("/drain", post(drain))
            .with_state(source)
            .merge(more);
        axum::serve(guarded, routes)
            .with_graceful_shutdown(async move { shutdown.draining().await })
            .await
    }
}

/// Why the administration socket cannot be had.
#[derive(Debug, Error)]
pub enum AdminError {
    #[error("cannot bind the administration socket {}", path.display())]
    Bind { path: PathBuf, source: io::Error },
    #[error("{} is served by another process", path.display())]
    InUse { path: PathBuf },
    #[error("{} exists and is no socket", path.display())]
    NotASocket { path: PathBuf },
}

async fn status(State(source): State<AdminSource>) -> Json<serde_json::Value> {
    Json((source.status)())
}

async fn log_level(State(source): State<AdminSource>) -> Response {
    match source.log_level {
        Some(handle) => Json(json!({ "level": handle.current().to_string() })).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn set_log_level(State(source): State<AdminSource>, level: String) -> Response {
    let Some(handle) = source.log_level else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let filter: LogFilter = match level.trim().parse() {
        Ok(filter) => filter,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    match handle.set(filter) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn drain(State(source): State<AdminSource>) -> StatusCode {
    source.trigger.drain();
    StatusCode::ACCEPTED
}

struct GuardedListener {
    listener: UnixListener,
    owner: u32,
}

impl Listener for GuardedListener {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (UnixStream, SocketAddr) {
        loop {
            let (stream, address) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept on the administration socket");
                    // Out of descriptors: accepting again at once would spin.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            match stream.peer_cred() {
                Ok(peer) if is_permitted(peer.uid(), self.owner) => return (stream, address),
                Ok(peer) => tracing::warn!(uid = peer.uid(), "administration refused: other user"),
                Err(error) => tracing::warn!(%error, "administration refused: peer unknown"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

fn is_permitted(peer: u32, owner: u32) -> bool {
    peer == owner || peer == 0
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A file left behind is replaced by the next start.
        drop(fs::remove_file(&self.0));
    }
}

fn remove_stale(path: &Path) -> Result<(), AdminError> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(AdminError::NotASocket {
            path: path.to_owned(),
        });
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(AdminError::InUse {
            path: path.to_owned(),
        });
    }
    fs::remove_file(path).map_err(|source| AdminError::Bind {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
