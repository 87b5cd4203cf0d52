//! Claims about revocations over REST.

use identity::{SerialNumber, SpiffeId};

use super::*;
use crate::issue::Standing;
use crate::store::{AuthorityCertificate, IntermediateRow, IssuedRow};

const PATH: &str = "/v1/revocations";
const ORDERS: &str = "spiffe://corp.example/ns/shop/sa/orders";
const ORDERS_PATH: &str =
    "/v1/revocations/identity/spiffe%3A%2F%2Fcorp.example%2Fns%2Fshop%2Fsa%2Forders";
const AGENT: &str = "spiffe://corp.example/countersign/agent/x509pop/web-7";

fn wish(kind: &str, subject: &str) -> Value {
    json!({"kind": kind, "subject": subject, "reason": "stolen"})
}

impl TestApi {
    /// With a certificate of `id` that ends in `minutes`, and its serial.
    async fn with_svid(self, id: &str, number: u8, minutes: i64) -> Self {
        let now = self.parts.clock.now();
        let id: SpiffeId = id.parse().unwrap();
        let issued = IssuedRow {
            serial: SerialNumber::from_bytes(&[number]).unwrap(),
            spiffe_id: id,
            agent_id: AGENT.parse().unwrap(),
            issuer: Sha256::of(b"ca-1").to_string(),
            not_before: now - time::Duration::hours(1),
            not_after: now + time::Duration::minutes(minutes),
            issued_at: now,
            leaf_sha256: Sha256::of(&[number]),
        };
        self.store.store.record_issued(&[issued]).await.unwrap();
        self
    }

    async fn refused(&self, kind: &str, subject: &str, code: &str) {
        let answer = self.post(PATH, wish(kind, subject)).await;
        let problem = answer.problem(StatusCode::UNPROCESSABLE_ENTITY, code);
        assert_eq!(problem["pointer"], "/subject");
    }
}

#[tokio::test]
async fn what_carries_the_operators_themselves_is_not_revoked() {
    let replica = "spiffe://corp.example/countersign/ca/ca-1";
    let api = TestApi::start().await.with_svid(replica, 7, 5).await;
    api.refused("serial", "07", "reserved-identity").await;
    api.refused("identity", replica, "reserved-identity").await;
    api.refused("identity", AGENT, "reserved-identity").await;
    let snapshot = api.parts.registry.snapshot();
    let (_, root) = snapshot.roots().active().unwrap();
    let root = root.key_id().to_string();
    let answer = api.post(PATH, wish("authority", &root)).await;
    answer.problem(StatusCode::CONFLICT, "authority-signs");
}

#[tokio::test]
async fn what_is_not_known_has_ended_or_is_no_subject_is_not_revoked() {
    let api = TestApi::start().await.with_svid(ORDERS, 7, 0).await;
    api.refused("serial", "07", "already-ended").await;
    api.refused("serial", "08", "unknown-serial").await;
    let key = Sha256::of(b"key").to_string();
    api.refused("authority", &key, "unknown-authority").await;
    api.refused("serial", "7", "invalid-value").await;
    api.refused("workload", ORDERS, "invalid-value").await;
    let elsewhere = AGENT.replace("corp", "other");
    api.refused("agent", &elsewhere, "other-trust-domain").await;
}

#[tokio::test]
async fn a_revocation_says_what_it_hits_and_until_when_it_stays() {
    let api = TestApi::start().await.with_svid(ORDERS, 7, 5).await;
    let api = api.with_svid(ORDERS, 8, 9).await;
    let row = IntermediateRow {
        key_id: Sha256::of(b"ca-1").to_string(),
        generation: 1,
        replica: "ca-1".to_owned(),
        not_before: api.parts.clock.now(),
        not_after: api.parts.clock.now() + time::Duration::hours(1),
        serial: None,
        is_superseded: false,
    };
    let certificate = AuthorityCertificate {
        der: b"ca-1",
        issuer: "root",
        recorded_at: row.not_before,
    };
    let recorded = api.store.store.record_intermediate(&row, certificate);
    recorded.await.unwrap();
    for (kind, subject, hits, stays) in [
        ("identity", ORDERS, 2, true),
        ("serial", "07", 1, false),
        ("authority", &*row.key_id, 2, false),
        ("agent", AGENT, 2, true),
    ] {
        let answer = api.post(PATH, wish(kind, subject)).await;
        let view = answer.is(StatusCode::CREATED).json();
        assert_eq!(view["liveSvids"], hits, "{view}");
        assert_eq!(view["expiresAt"].is_null(), stays, "{view}");
        assert_eq!(
            (&view["author"], &view["reason"]),
            (&json!("admin/test"), &json!("stolen"))
        );
    }
    let listed = api.get(PATH).await.json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 4);
    let agents = api.get("/v1/agents").await.json();
    assert_eq!(agents["bans"][0]["agentId"], AGENT);
}

#[tokio::test]
async fn the_same_revocation_again_is_the_one_there_is() {
    let api = TestApi::start().await;
    let first = api.post(PATH, wish("identity", ORDERS)).await;
    let tag = first.is(StatusCode::CREATED).headers[header::ETAG].clone();
    let again = api.post(PATH, wish("identity", ORDERS)).await;
    assert_eq!(again.is(StatusCode::OK).headers[header::ETAG], tag);
    let shown = api.get(ORDERS_PATH).await;
    assert_eq!(shown.is(StatusCode::OK).headers[header::ETAG], tag);
}

#[tokio::test]
async fn a_precondition_that_fails_lifts_nothing() {
    let api = TestApi::start().await;
    api.post(PATH, wish("identity", ORDERS))
        .await
        .is(StatusCode::CREATED);
    let stale = [(header::IF_MATCH, "\"1-9\"")];
    let stale = api.with_headers(Method::DELETE, ORDERS_PATH, &stale, String::new());
    stale
        .await
        .problem(StatusCode::PRECONDITION_FAILED, "precondition-failed");
    api.get(ORDERS_PATH).await.is(StatusCode::OK);
}

#[tokio::test]
async fn an_agent_whose_ban_was_not_lifted_stays_banned() {
    let api = TestApi::start().await;
    let ban = "/v1/agents/x509pop/web-7/ban";
    api.post(ban, json!({"reason": "stolen"}))
        .await
        .is(StatusCode::OK);
    let stale = [(header::IF_MATCH, "\"1-9\"")];
    let stale = api.with_headers(Method::DELETE, ban, &stale, String::new());
    stale
        .await
        .problem(StatusCode::PRECONDITION_FAILED, "precondition-failed");
    let admitted = &api.parts.vitals.horizons.admitted;
    let standing = || admitted.standing(&AGENT.parse().unwrap());
    assert_eq!(standing(), Standing::Banned);
    api.delete(ban).await.is(StatusCode::NO_CONTENT);
    assert_eq!(standing(), Standing::Forgotten);
}

#[tokio::test]
async fn a_revocation_is_lifted_once() {
    let api = TestApi::start().await;
    let revoked = api.post(PATH, wish("identity", ORDERS)).await.json();
    let lifted = api.delete(ORDERS_PATH).await.is(StatusCode::OK).json();
    assert_ne!(lifted["revision"], revoked["revision"]);
    api.delete(ORDERS_PATH)
        .await
        .problem(StatusCode::NOT_FOUND, "not-found");
    assert_eq!(api.get(PATH).await.json()["items"], json!([]));
}

#[tokio::test]
async fn each_revocation_is_a_revision_with_its_author_and_reason() {
    let api = TestApi::start().await;
    let revoked = api.post(PATH, wish("identity", ORDERS)).await.json();
    let revision = revoked["revision"].as_str().unwrap();
    let revision = api.get(&format!("/v1/revisions/{revision}")).await.json();
    assert_eq!(revision["reason"], "stolen");
    assert_eq!(revision["author"], "admin/test");
}
