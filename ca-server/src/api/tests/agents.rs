//! Claims about agents over REST.

use identity::{SerialNumber, SpiffeId};

use super::*;
use crate::store::{AgentRow, IssuedRow};

const BAN: &str = "/v1/agents/x509pop/web-7/ban";

fn agent() -> SpiffeId {
    "spiffe://corp.example/countersign/agent/x509pop/web-7"
        .parse()
        .unwrap()
}

impl TestApi {
    /// With an agent whose only SVID ends in an hour.
    async fn with_agent(self) -> Self {
        let now = self.parts.clock.now();
        let serial = SerialNumber::from_bytes(&[7]).unwrap();
        let not_after = now + std::time::Duration::from_secs(3600);
        let row = AgentRow {
            spiffe_id: agent(),
            attested_at: now,
            serial,
            not_after,
            selectors: policy::resource::AgentSelectors::none(),
        };
        assert!(self.store.store.record_agent(row).await.unwrap());
        let issued = IssuedRow {
            serial,
            spiffe_id: agent(),
            agent_id: agent(),
            issuer: "ca-1".to_owned(),
            not_before: now,
            not_after,
            issued_at: now,
            leaf_sha256: Sha256::of(b"leaf"),
        };
        self.store.store.record_issued(&[issued]).await.unwrap();
        self
    }
}

#[tokio::test]
async fn a_ban_without_a_reason_is_refused() {
    let api = TestApi::start().await;
    for reason in ["", " ", "two\nlines"] {
        let answer = api.post(BAN, json!({"reason": reason})).await;
        let problem = answer.problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid-value");
        assert_eq!(problem["pointer"], "/reason");
    }
}

#[tokio::test]
async fn a_ban_is_a_revision_and_says_what_it_hits() {
    let api = TestApi::start().await.with_agent().await;
    let answer = api.post(BAN, json!({"reason": "stolen"})).await;
    let answer = answer.is(StatusCode::OK).json();
    assert_eq!(answer["liveSvids"], 1);
    assert!(answer["liveUntil"].is_string());
    assert!(answer["revision"].as_str().unwrap().ends_with("-1"));
}

#[tokio::test]
async fn a_banned_agent_is_listed_with_who_and_why() {
    let api = TestApi::start().await.with_agent().await;
    api.post(BAN, json!({"reason": "stolen"})).await;
    let listed = api.get("/v1/agents").await.json();
    let shown = api.get("/v1/agents/x509pop/web-7").await.json();
    for ban in [
        &listed["items"][0]["ban"],
        &listed["bans"][0]["ban"],
        &shown["ban"],
    ] {
        assert_eq!(ban["reason"], "stolen");
        assert_eq!(ban["author"], "admin/test");
    }
}

#[tokio::test]
async fn an_agent_that_never_attested_is_listed_among_the_bans_alone() {
    let api = TestApi::start().await;
    api.post(BAN, json!({"reason": "stolen"})).await;
    let listed = api.get("/v1/agents").await.json();
    assert_eq!(listed["items"], json!([]));
    assert_eq!(listed["bans"][0]["agentId"], agent().as_str());
    let shown = api.get("/v1/agents/x509pop/web-7").await;
    shown.problem(StatusCode::NOT_FOUND, "not-found");
}

#[tokio::test]
async fn a_ban_is_lifted_once() {
    let api = TestApi::start().await.with_agent().await;
    api.post(BAN, json!({"reason": "stolen"})).await;
    api.delete(BAN).await.is(StatusCode::NO_CONTENT);
    api.delete(BAN)
        .await
        .problem(StatusCode::NOT_FOUND, "not-found");
    let shown = api.get("/v1/agents/x509pop/web-7").await.json();
    assert_eq!(shown["ban"], Value::Null);
}

#[tokio::test]
async fn a_purge_of_no_age_is_refused() {
    let api = TestApi::start().await;
    for age in ["", "long", "11years"] {
        let answer = api
            .post("/v1/agents/purge", json!({"expiredFor": age}))
            .await;
        let problem = answer.problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid-value");
        assert_eq!(problem["pointer"], "/expiredFor");
    }
}

#[tokio::test]
async fn an_agent_that_lives_is_not_purged() {
    let api = TestApi::start().await.with_agent().await;
    let purge = json!({"expiredFor": "0s"});
    let purged = api.post("/v1/agents/purge", purge).await.json();
    assert_eq!(purged["agents"], json!([]));
    api.get("/v1/agents/x509pop/web-7").await.is(StatusCode::OK);
}

#[tokio::test]
async fn an_agent_that_has_not_attested_holds_nothing_and_that_is_why() {
    let api = TestApi::start().await;
    let held = api.get("/v1/agents/x509pop/web-7/workloads/shop/orders");
    let held = held.await.is(StatusCode::OK).json();
    assert_eq!(held["held"], false);
    let why = held["whyNot"].as_str().unwrap();
    assert!(why.contains("has attested"), "{why}");
}

#[tokio::test]
async fn what_is_no_workloads_name_is_no_question() {
    let api = TestApi::start().await;
    let asked = api.get("/v1/agents/x509pop/web-7/workloads/shop/Orders");
    asked
        .await
        .problem(StatusCode::BAD_REQUEST, "invalid-value");
}

#[tokio::test]
async fn a_list_of_agents_says_what_each_holds() {
    let api = TestApi::start().await;
    let now = api.parts.clock.now();
    let row = AgentRow {
        spiffe_id: agent(),
        attested_at: now,
        serial: SerialNumber::from_bytes(&[7]).unwrap(),
        not_after: now,
        selectors: r#"{"rack": "r1"}"#.parse().unwrap(),
    };
    assert!(api.store.store.record_agent(row).await.unwrap());
    let listed = api.get("/v1/agents").await.json();
    assert_eq!(listed["items"][0]["selectors"], json!({"rack": "r1"}));
}
