//! Who may join, with what, how often.

use crypto::signing::SigningKey;
use identity::JoinToken;
use mesh_tests::mesh::Mesh;
use mesh_tests::stranger::{Line, join, joined};
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
    mesh.clock.advance(std::time::Duration::from_secs(11 * 60));
    let refused = line
        .attest(&token, line.possession(&SigningKey::generate()))
        .await;
    assert_eq!(
        refused.expect_err("eleven minutes later"),
        Code::PermissionDenied
    );
}

async fn token(mesh: &Mesh) -> JoinToken {
    mesh.join_token("web-7", &[])
        .await
        .parse()
        .expect("the CA's tokens parse")
}
