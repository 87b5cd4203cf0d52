//! Claims about the transparency log as it is served.

use crypto::random::SeededRandom;
use identity::SerialNumber;
use tlog::{Checkpoint, Edge, TilePath, Tiles, verify_consistency, verify_inclusion};

use super::*;
use crate::log::Sequencer;
use crate::metrics::Metrics;
use crate::store::IssuedRow;
use crate::store::tests::NOW;

fn row(seed: u64) -> IssuedRow {
    let id: identity::SpiffeId = "spiffe://corp.example/ns/shop/sa/orders".parse().unwrap();
    IssuedRow {
        serial: SerialNumber::random(&mut SeededRandom::new(seed)),
        spiffe_id: id.clone(),
        agent_id: id,
        issuer: "ab".repeat(32),
        not_before: NOW,
        not_after: NOW,
        issued_at: NOW,
        leaf_sha256: Sha256::of(&seed.to_be_bytes()),
    }
}

/// Records, and makes leaves of them; the root of the mesh and the replica's intermediate are two
/// more, in the first step.
async fn log(api: &TestApi, seeds: std::ops::Range<u64>) {
    let rows: Vec<_> = seeds.map(row).collect();
    api.store.store.record_issued(&rows).await.unwrap();
    let metrics = Metrics::new(&mut prometheus_client::registry::Registry::default());
    let mut sequencer = Sequencer::new(
        api.store.store.clone(),
        "ca-1".to_owned(),
        api.log_signer.clone(),
        api.parts.clock.clone(),
        metrics,
    );
    sequencer.look().await.unwrap();
}

async fn checkpoint(api: &TestApi) -> tlog::VerifiedCheckpoint {
    let answer = api.get("/v1/log/checkpoint").await;
    let note = String::from_utf8(answer.body).unwrap();
    Checkpoint::open(&note, &api.parts.log_key).unwrap()
}

fn hashes(value: &Value) -> Vec<Sha256> {
    let texts = value.as_array().unwrap().iter();
    texts
        .map(|text| text.as_str().unwrap().parse().unwrap())
        .collect()
}

#[tokio::test]
async fn a_log_without_a_checkpoint_is_not_served_yet() {
    let api = TestApi::start().await;
    let answer = api.get("/v1/log/checkpoint").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.json()["code"], "log-not-begun");
}

#[tokio::test]
async fn what_is_no_tile_of_the_log_is_refused() {
    let api = TestApi::start().await;
    log(&api, 0..3).await;
    let code = async |path: &str| {
        let answer = api.get(path).await;
        (answer.status.as_u16(), answer.json()["code"].clone())
    };
    assert_eq!(code("/v1/log/tile/0/0").await, (400, json!("bad-tile")));
    assert_eq!(code("/v1/log/tile/64/000").await, (400, json!("bad-tile")));
    assert_eq!(code("/v1/log/tile/0/000").await, (404, json!("not-found")));
    assert_eq!(
        code("/v1/log/tile/0/000.p/6").await,
        (404, json!("not-found"))
    );
    assert_eq!(
        code("/v1/log/tile/1/000.p/1").await,
        (404, json!("not-found"))
    );
    assert_eq!(
        code("/v1/log/tile/entries/001.p/1").await,
        (404, json!("not-found"))
    );
}

#[tokio::test]
async fn a_proof_that_cannot_be_is_refused() {
    let api = TestApi::start().await;
    log(&api, 0..3).await;
    let status = async |path: &str| api.get(path).await.status.as_u16();
    assert_eq!(status("/v1/log/inclusion").await, 400);
    assert_eq!(status("/v1/log/inclusion?leaf=1&serial=7f").await, 400);
    assert_eq!(status("/v1/log/inclusion?serial=zz").await, 400);
    assert_eq!(status("/v1/log/inclusion?serial=7f").await, 404);
    assert_eq!(status("/v1/log/inclusion?leaf=5").await, 404);
    assert_eq!(
        status("/v1/log/inclusion?leaf=18446744073709551615").await,
        404
    );
    assert_eq!(status("/v1/log/consistency?from=0").await, 400);
    assert_eq!(status("/v1/log/consistency?from=3&to=2").await, 400);
    assert_eq!(status("/v1/log/consistency?from=1&to=6").await, 400);
}

#[tokio::test]
async fn entries_that_were_pruned_are_gone_and_their_hashes_are_not() {
    let api = TestApi::start().await;
    log(&api, 0..300).await;
    let tomorrow = NOW + std::time::Duration::from_secs(86_400);
    for _ in 0..3 {
        api.store.store.prune(tomorrow).await.unwrap();
    }
    let gone = api.get("/v1/log/tile/entries/000").await;
    assert_eq!(gone.status, StatusCode::GONE);
    assert_eq!(gone.json()["code"], "entries-pruned");
    assert_eq!(api.get("/v1/log/tile/0/000").await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_tiles_make_the_tree_that_the_checkpoint_states() {
    let api = TestApi::start().await;
    log(&api, 0..700).await;
    let checkpoint = checkpoint(&api).await;
    let size = checkpoint.size();
    let mut tiles = Tiles::default();
    for path in Edge::tiles(size) {
        let answer = api.get(&format!("/v1/log/{path}")).await;
        assert_eq!(
            answer.headers[header::CONTENT_TYPE],
            "application/octet-stream"
        );
        let caching = &answer.headers[header::CACHE_CONTROL];
        assert_eq!(caching, "private, max-age=31536000, immutable");
        tiles.insert(path, &answer.body).unwrap();
    }
    assert_eq!(Edge::load(size, &tiles).unwrap().root(), checkpoint.root());
    let full: TilePath = "tile/0/001".parse().unwrap();
    let answer = api.get(&format!("/v1/log/{full}")).await;
    assert_eq!(answer.body.len(), 256 * 32);
    let about = api.get("/v1/log").await.json();
    assert_eq!(about["key"], api.parts.log_key.to_string());
    assert_eq!(about["size"], size);
}

#[tokio::test]
async fn proofs_lead_to_the_checkpoint() {
    let api = TestApi::start().await;
    log(&api, 0..300).await;
    let before = checkpoint(&api).await;
    log(&api, 300..600).await;
    let after = checkpoint(&api).await;
    let serial = SerialNumber::random(&mut SeededRandom::new(7));
    let included = api
        .get(&format!("/v1/log/inclusion?serial={serial}"))
        .await
        .json();
    let leaf = included["leafHash"].as_str().unwrap().parse().unwrap();
    let index = included["leaf"].as_u64().unwrap();
    let proof = hashes(&included["proof"]);
    assert_eq!(
        verify_inclusion(index, after.size(), leaf, &proof, after.root()),
        Ok(())
    );
    let path = format!("/v1/log/consistency?from={}", before.size());
    let proof = hashes(&api.get(&path).await.json()["proof"]);
    let (before, after) = ((before.size(), before.root()), (after.size(), after.root()));
    assert_eq!(verify_consistency(before, after, &proof), Ok(()));
}
