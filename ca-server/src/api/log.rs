//! The transparency log: checkpoint and tiles as c2sp.org/tlog-tiles serves files, proofs as JSON.
//!
//! Only for administrators: entries name every identity and when each was issued, which is nobody
//! else's concern. A full tile never changes, and says so to caches.

mod proofs;
mod unlogged;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tlog::{Checkpoint, Content, TilePath, VerifiedCheckpoint, VerifierKey};
use utoipa::ToSchema;

use super::documented::Documented;
use super::problem::Problem;
use super::query::Segments;
use crate::store::Store;

/// Shows the log.
#[derive(Clone, Debug)]
pub(super) struct Logs {
    pub(super) store: Store,
    /// What its checkpoints are verified by.
    pub(super) key: VerifierKey,
}

pub(super) fn operations(logs: Logs) -> Documented {
    Documented::new()
        .on(&__path_show_log, show_log)
        .on(&__path_log_checkpoint, log_checkpoint)
        .on(&__path_log_tile, log_tile)
        .on(&proofs::__path_log_inclusion, proofs::log_inclusion)
        .on(&proofs::__path_log_consistency, proofs::log_consistency)
        .on(&unlogged::__path_list_unlogged, unlogged::list_unlogged)
        .with(logs)
}

/// Where the log stands.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LogView {
    /// Names the log; the first line of its checkpoints.
    origin: String,
    /// What checkpoints are verified by, as c2sp.org/signed-note writes keys. Whoever audits the
    /// log gets it once and keeps it.
    key: String,
    /// Leaves.
    size: u64,
    /// Of the tree, in hex.
    root: String,
}

/// Shows where the transparency log stands, and the key that it signs with.
#[utoipa::path(get, path = "/v1/log", tag = "log", responses((status = 200, body = LogView)))]
async fn show_log(State(logs): State<Logs>) -> Result<Json<LogView>, Problem> {
    let (_, checkpoint) = logs.checkpoint().await?;
    Ok(Json(LogView {
        origin: checkpoint.origin().to_owned(),
        key: logs.key.to_string(),
        size: checkpoint.size(),
        root: checkpoint.root().to_string(),
    }))
}

/// The signed state of the log (c2sp.org/tlog-checkpoint).
#[utoipa::path(get, path = "/v1/log/checkpoint", tag = "log",
    responses((status = 200, body = String, content_type = "text/plain; charset=utf-8")))]
async fn log_checkpoint(State(logs): State<Logs>) -> Result<Response, Problem> {
    let (note, _) = logs.checkpoint().await?;
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "private, no-cache"),
    ];
    Ok((headers, note).into_response())
}

/// A tile: `<level>/<number>` for hashes, `entries/<number>` for entries, with `.p/<width>` where
/// it is not full, and numbers in groups of three digits, as c2sp.org/tlog-tiles writes them.
#[utoipa::path(get, path = "/v1/log/tile/{*tile}", tag = "log",
    params(("tile" = String, Path, description = "Such as `0/x001/234` or `entries/000.p/17`.")),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream")))]
async fn log_tile(
    State(logs): State<Logs>,
    Segments(path): Segments<String>,
) -> Result<Response, Problem> {
    let tile: TilePath = format!("tile/{path}")
        .parse()
        .map_err(|error: tlog::TilePathError| {
            Problem::bad_request("bad-tile", error.to_string())
        })?;
    let Some(bytes) = logs.store.log_tile(tile).await? else {
        return Err(logs.without(tile).await?);
    };
    Ok((tile_headers(tile), bytes).into_response())
}

impl Logs {
    /// As it is served, and what it states. One that its own key has not signed is the store's
    /// fault, and is not served.
    async fn checkpoint(&self) -> Result<(String, VerifiedCheckpoint), Problem> {
        let state = self.store.log_state().await?;
        let note = state.checkpoint.ok_or_else(|| {
            Problem::unavailable("log-not-begun", "the log has no checkpoint yet")
        })?;
        let checkpoint = Checkpoint::open(&note, &self.key).map_err(|error| {
            let cause = runtime::exit::one_line(&error);
            tracing::error!(cause, "the log's checkpoint in the store cannot be used");
            Problem::internal()
        })?;
        Ok((note, checkpoint))
    }

    /// Why there is no such tile.
    async fn without(&self, tile: TilePath) -> Result<Problem, Problem> {
        let (_, checkpoint) = self.checkpoint().await?;
        let there_was = TilePath::in_tree(tile.content(), tile.number(), checkpoint.size())
            .is_some_and(|all| all.width() >= tile.width());
        match there_was && tile.content() == Content::Entries {
            true => Ok(Problem::new(
                StatusCode::GONE,
                "entries-pruned",
                format!("the entries of {tile} ended long ago and are gone; their hashes stay"),
            )),
            false => Ok(Problem::not_found(tile)),
        }
    }
}

fn tile_headers(tile: TilePath) -> [(HeaderName, HeaderValue); 2] {
    // Entries may go; hashes stay as they are, be the tile full or not.
    let caching = match tile.content() {
        Content::Hashes { .. } => "private, max-age=31536000, immutable",
        Content::Entries => "private, max-age=86400",
    };
    [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static(caching)),
    ]
}
