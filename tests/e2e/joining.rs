//! Who may join, with what, how often.

use std::time::Duration;

use crypto::signing::SigningKey;
use identity::JoinToken;
use mesh_tests::mesh::Mesh;
use mesh_tests::stranger::{Line, join, joined, key_and_csr};
use serde_json::json;
use tonic::Code;

#[tokio::test]
async fn a_used_token_is_refused_to_another_key() {
    let mesh = Mesh::start().await;
    let token = token(&mesh).await;
    join(&token, &mesh.time()).await;
    let line = Line::pinned(&token, &mesh.time()).await;
    let refused = line
        .attest(&token, line.possession(&SigningKey::generate()))
        .await;
    assert_eq!(refused.expect_err("another key"), Code::PermissionDenied);
}

#[tokio::test]
async fn of_racing_keys_exactly_one_redeems_a_token() {
    let mesh = Mesh::start().await;
    let token = token(&mesh).await;
    let attempts = (0..8).map(|_| async {
        let line = Line::pinned(&token, &mesh.time()).await;
        line.attest(&token, line.possession(&SigningKey::generate()))
            .await
    });
    let answers = futures_util::future::join_all(attempts).await;
    assert_eq!(
        answers.iter().filter(|answer| answer.is_ok()).count(),
        1,
        "{answers:?}"
    );
}

#[tokio::test]
async fn a_lost_reply_can_be_asked_for_again() {
    let mesh = Mesh::start().await;
    let token = token(&mesh).await;
    let key = SigningKey::generate();
    let line = Line::pinned(&token, &mesh.time()).await;
    let lost = line
        .attest(&token, line.possession(&key))
        .await
        .expect("the first time");
    let again = Line::pinned(&token, &mesh.time()).await;
    let answer = again
        .attest(&token, again.possession(&key))
        .await
        .expect("the second time");
    let [lost, answer] = [lost, answer].map(|it| joined(it, key.clone(), &mesh.time()));
    assert_eq!(lost.svid.spiffe_id(), answer.svid.spiffe_id());
}

#[tokio::test]
async fn a_proof_from_another_connection_is_refused() {
    let mesh = Mesh::start().await;
    let token = token(&mesh).await;
    let overheard = Line::pinned(&token, &mesh.time())
        .await
        .possession(&SigningKey::generate());
    let refused = Line::pinned(&token, &mesh.time())
        .await
        .attest(&token, overheard)
        .await;
    assert_eq!(
        refused.expect_err("the exporter differs"),
        Code::PermissionDenied
    );
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let mesh = Mesh::start().await;
    let token = token(&mesh).await;
    let line = Line::pinned(&token, &mesh.time()).await;
    mesh.clock.advance(Duration::from_secs(11 * 60));
    let refused = line
        .attest(&token, line.possession(&SigningKey::generate()))
        .await;
    assert_eq!(
        refused.expect_err("eleven minutes later"),
        Code::PermissionDenied
    );
}

#[tokio::test]
async fn a_token_is_refused_from_outside_its_network() {
    let mesh = Mesh::start().await;
    let request = json!({"agent": "web-7", "cidr": "10.0.0.0/8"});
    let token = parse(&mesh.join_tokens(&request).await[0]);
    let line = Line::pinned(&token, &mesh.time()).await;
    let key = SigningKey::generate();
    let refused = line.attest(&token, line.possession(&key)).await;
    let code = refused.expect_err("we call from 127.0.0.1");
    assert_eq!(code, Code::PermissionDenied);
}

#[tokio::test]
async fn each_of_several_tokens_makes_an_agent_of_its_own() {
    let mesh = Mesh::start().await;
    let request = json!({"agent": "web", "count": 3, "cidr": "127.0.0.0/8"});
    let mut agents = Vec::new();
    for token in mesh.join_tokens(&request).await {
        let joined = join(&parse(&token), &mesh.time()).await;
        agents.push(joined.svid.spiffe_id().to_string());
    }
    let expected = [1, 2, 3]
        .map(|number| format!("spiffe://mesh.test/countersign/agent/join-token/web-{number}"));
    assert_eq!(agents, expected);
}

#[tokio::test]
async fn a_forgotten_agent_gets_nothing_and_does_not_come_back() {
    let mesh = Mesh::start().await;
    let token = token(&mesh).await;
    let agent = join(&token, &mesh.time()).await;
    let forget = mesh.admin().delete("/v1/agents/join-token/web-7").await;
    forget.expect("the agent is known");
    let line = Line::mutual(mesh.ca.agents_address(), &agent, &mesh.time()).await;
    let id = agent.svid.spiffe_id().to_string();
    let renewal = line.issue(&id, key_and_csr().1).await;
    mesh.clock.advance(Duration::from_secs(2 * 60 * 60));
    let line = Line::pinned(&token, &mesh.time()).await;
    let comeback = line.reattest(&agent.svid, &SigningKey::generate()).await;
    let codes = (
        renewal.expect_err("forgotten"),
        comeback.expect_err("forgotten"),
    );
    assert_eq!(codes, (Code::PermissionDenied, Code::PermissionDenied));
}

#[tokio::test]
async fn an_agent_that_nobody_forgot_comes_back_after_expiry() {
    let mesh = Mesh::start().await;
    let token = token(&mesh).await;
    let agent = join(&token, &mesh.time()).await;
    mesh.clock.advance(Duration::from_secs(2 * 60 * 60));
    let line = Line::pinned(&token, &mesh.time()).await;
    let key = SigningKey::generate();
    let answer = line.reattest(&agent.svid, &key).await;
    let returned = joined(answer.expect("within a day"), key, &mesh.time());
    assert_eq!(returned.svid.spiffe_id(), agent.svid.spiffe_id());
}

async fn token(mesh: &Mesh) -> JoinToken {
    parse(&mesh.join_token("web-7", &[]).await)
}

fn parse(token: &str) -> JoinToken {
    token.parse().expect("the CA's tokens parse")
}
