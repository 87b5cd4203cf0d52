//! Proofs that a certificate is in the log, and that one state of it continues another. Both can
//! be made from tiles by whoever has them; here are they for those who have not.

use axum::Json;
use axum::extract::State;
use crypto::digest::Sha256;
use identity::SerialNumber;
use serde::{Deserialize, Serialize};
use tlog::{Content, Edge, MissingTile, TILE_WIDTH, TilePath, Tiles};
use utoipa::ToSchema;

use super::Logs;
use crate::api::problem::Problem;
use crate::api::query::{Parameters, parse};

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct InclusionQuery {
    /// The certificate's serial number, in hex. This or `leaf`.
    serial: Option<String>,
    /// The number of the leaf, from 0.
    leaf: Option<u64>,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ConsistencyQuery {
    /// Size of the earlier state, at least 1.
    from: u64,
    /// Size of the later one; that of now when left out.
    to: Option<u64>,
}

/// A leaf is in the log (RFC 9162, section 2.1.3). Hashes are in hex.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct InclusionProof {
    leaf: u64,
    leaf_hash: String,
    /// Of the state that the proof leads to, which `checkpoint` states.
    size: u64,
    proof: Vec<String>,
    /// A signed note.
    checkpoint: String,
}

/// One state of the log continues another (RFC 9162, section 2.1.4). Hashes are in hex.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConsistencyProof {
    from: u64,
    from_root: String,
    to: u64,
    to_root: String,
    proof: Vec<String>,
}

/// Proves that a certificate is in the log.
#[utoipa::path(get, path = "/v1/log/inclusion", tag = "log", params(InclusionQuery),
    responses((status = 200, body = InclusionProof)))]
pub(super) async fn log_inclusion(
    State(logs): State<Logs>,
    Parameters(query): Parameters<InclusionQuery>,
) -> Result<Json<InclusionProof>, Problem> {
    let wanted = match (&query.serial, query.leaf) {
        (Some(serial), None) => Some(parse::<SerialNumber>("serial", serial)?),
        (None, Some(_)) => None,
        _ => {
            return Err(Problem::bad_request(
                "bad-query",
                "name the certificate by `serial`, or the leaf by `leaf`",
            ));
        }
    };
    let leaf = match wanted {
        Some(serial) => {
            let absent = || Problem::not_found(format!("leaf of the certificate {serial}"));
            logs.store.leaf_of(serial).await?.ok_or_else(absent)?
        }
        None => query.leaf.unwrap_or_default(),
    };
    // Read after the leaf was found, so that it states the leaf.
    let (note, checkpoint) = logs.checkpoint().await?;
    let size = checkpoint.size();
    let first = leaf / u64::from(TILE_WIDTH);
    let tile = TilePath::in_tree(Content::Hashes { level: 0 }, first, size)
        .filter(|_| leaf < size)
        .ok_or_else(|| Problem::not_found(format!("leaf {leaf}")))?;
    let tiles = logs
        .tiles(Tiles::for_inclusion(leaf, size).into_iter().chain([tile]))
        .await?;
    let hashes = tiles.hashes(tile).map_err(damaged)?;
    let place = usize::try_from(leaf % u64::from(TILE_WIDTH)).unwrap_or_default();
    Ok(Json(InclusionProof {
        leaf,
        leaf_hash: hashes[place].to_string(),
        size,
        proof: texts(&tiles.inclusion(leaf, size).map_err(damaged)?),
        checkpoint: note,
    }))
}

/// Proves that the log only grew between two of its sizes.
#[utoipa::path(get, path = "/v1/log/consistency", tag = "log", params(ConsistencyQuery),
    responses((status = 200, body = ConsistencyProof)))]
pub(super) async fn log_consistency(
    State(logs): State<Logs>,
    Parameters(query): Parameters<ConsistencyQuery>,
) -> Result<Json<ConsistencyProof>, Problem> {
    let (_, checkpoint) = logs.checkpoint().await?;
    let (from, to) = (query.from, query.to.unwrap_or_else(|| checkpoint.size()));
    if from == 0 || from > to {
        let detail = format!("`from` is {from}; it is at least 1 and at most `to`, here {to}");
        return Err(Problem::bad_request("bad-query", detail));
    }
    if to > checkpoint.size() {
        let size = checkpoint.size();
        let detail = format!("the log has {size} leaves, not {to}");
        return Err(Problem::bad_request("bad-query", detail));
    }
    let edges = Edge::tiles(from).chain(Edge::tiles(to));
    let wanted = Tiles::for_consistency(from, to).into_iter();
    let tiles = logs.tiles(wanted.chain(edges)).await?;
    let root = |size| Edge::load(size, &tiles).map(|edge| edge.root().to_string());
    Ok(Json(ConsistencyProof {
        from,
        from_root: root(from).map_err(damaged)?,
        to,
        to_root: root(to).map_err(damaged)?,
        proof: texts(&tiles.consistency(from, to).map_err(damaged)?),
    }))
}

impl Logs {
    /// At most a few dozen: what a proof needs grows with the logarithm of the log.
    async fn tiles(&self, wanted: impl Iterator<Item = TilePath>) -> Result<Tiles, Problem> {
        let mut tiles = Tiles::default();
        for path in wanted {
            if tiles.hashes(path).is_ok() {
                continue;
            }
            let bytes = self.store.log_tile(path).await?;
            let bytes = bytes.ok_or_else(|| damaged(MissingTile(path)))?;
            tiles.insert(path, &bytes).map_err(damaged)?;
        }
        Ok(tiles)
    }
}

fn texts(hashes: &[Sha256]) -> Vec<String> {
    hashes.iter().map(ToString::to_string).collect()
}

fn damaged(error: impl std::fmt::Display) -> Problem {
    tracing::error!(%error, "the log in the store is not whole");
    Problem::internal()
}
