//! Claims of `Attest` and `Reattest`.

use std::time::Duration;

use crypto::random::SystemRandom;
use crypto::signing::SigningKey;
use identity::x509::{Authority, LeafSpec};
use identity::{SerialNumber, SpiffeId, Validity};
use time::OffsetDateTime;
use tonic::Code;

use super::agent::{TestAgent, possession, refused};
use super::harness::{TestCa, agent_id};
use crate::authority::lifecycle::{Event, Generation, Phase};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_possession_proven_on_another_connection_is_refused() {
    let ca = TestCa::start().await;
    let (token, key) = (ca.token("web-7").await, SigningKey::generate());
    let (here, elsewhere) = (ca.anonymous().await, ca.anonymous().await);
    let replayed = possession(&key, &elsewhere.exporter);
    let result = here.attest_with(&token, replayed).await;
    refused(result, Code::PermissionDenied, "possession-not-proven");
    // The token is as it was.
    here.attest(&token, &key).await.unwrap();
}

#[tokio::test]
async fn a_wrong_secret_is_refused_like_an_unknown_token() {
    let ca = TestCa::start().await;
    let mut token = ca.token("web-7").await;
    token.secret[0] ^= 1;
    let result = ca
        .anonymous()
        .await
        .attest(&token, &SigningKey::generate())
        .await;
    refused(result, Code::PermissionDenied, "unknown-token");
}

#[tokio::test]
async fn of_two_racing_keys_exactly_one_gets_the_token() {
    let ca = TestCa::start().await;
    let token = ca.token("web-7").await;
    let (one, other) = (ca.anonymous().await, ca.anonymous().await);
    let (key, rival) = (SigningKey::generate(), SigningKey::generate());
    let (first, second) = tokio::join!(one.attest(&token, &key), other.attest(&token, &rival));
    let loser = if first.is_ok() { second } else { first };
    refused(loser, Code::PermissionDenied, "already-used");
}

#[tokio::test]
async fn a_lost_reply_can_be_asked_for_again_with_the_same_key() {
    let ca = TestCa::start().await;
    let (token, key) = (ca.token("web-7").await, SigningKey::generate());
    ca.anonymous().await.attest(&token, &key).await.unwrap();
    let again = ca.anonymous().await.attest(&token, &key).await.unwrap();
    assert_eq!(again.svid.unwrap().spiffe_id, agent_id("web-7").as_str());
}

#[tokio::test]
async fn a_token_past_its_end_is_refused() {
    let ca = TestCa::start().await;
    let token = ca.token("web-7").await;
    ca.control.advance(Duration::from_secs(601));
    let result = ca
        .anonymous()
        .await
        .attest(&token, &SigningKey::generate())
        .await;
    refused(result, Code::PermissionDenied, "expired");
}

#[tokio::test]
async fn more_attestations_than_the_limit_are_shed_with_a_hint() {
    let ca = TestCa::start_with(|config| {
        config.limits.attest_per_second = std::num::NonZeroU32::MIN;
    })
    .await;
    let token = ca.token("web-7").await;
    let connection = ca.anonymous().await;
    let key = SigningKey::generate();
    connection.attest(&token, &key).await.unwrap();
    let shed = connection.attest(&token, &key).await.unwrap_err();
    assert_eq!(shed.code(), Code::Unavailable);
    assert!(shed.metadata().contains_key("grpc-retry-pushback-ms"));
}

#[tokio::test]
async fn an_agent_that_was_away_too_long_is_refused() {
    let ca = TestCa::start().await;
    let agent = ca.agent("web-7").await;
    ca.control.advance(HOUR * 26);
    let result = ca
        .anonymous()
        .await
        .reattest(&agent, &SigningKey::generate())
        .await;
    refused(result, Code::PermissionDenied, "svid-not-admitted");
}

#[tokio::test]
async fn a_tampered_expired_svid_is_refused() {
    let ca = TestCa::start().await;
    let mut agent = ca.agent("web-7").await;
    *agent.chain[0].last_mut().unwrap() ^= 1;
    ca.control.advance(HOUR * 2);
    let result = ca
        .anonymous()
        .await
        .reattest(&agent, &SigningKey::generate())
        .await;
    refused(result, Code::PermissionDenied, "svid-not-admitted");
}

#[tokio::test]
async fn an_expired_svid_without_its_key_is_refused() {
    let ca = TestCa::start().await;
    let mut agent = ca.agent("web-7").await;
    agent.key = SigningKey::generate();
    ca.control.advance(HOUR * 2);
    let result = ca
        .anonymous()
        .await
        .reattest(&agent, &SigningKey::generate())
        .await;
    refused(result, Code::PermissionDenied, "possession-not-proven");
}

#[tokio::test]
async fn an_expired_svid_of_which_a_newer_was_seen_is_refused() {
    let ca = TestCa::start().await;
    let copied = ca.agent("web-7").await;
    let renewed = ca.renew(&copied, "web-7").await;
    ca.of(&renewed).await;
    ca.seen(&renewed).await;
    ca.control.advance(HOUR * 2);
    let result = ca
        .anonymous()
        .await
        .reattest(&copied, &SigningKey::generate())
        .await;
    refused(result, Code::PermissionDenied, "newer-serial-seen");
}

#[tokio::test]
async fn a_forgotten_agent_does_not_come_back() {
    let ca = TestCa::start().await;
    let agent = ca.agent("web-7").await;
    ca.ca.store.forget_agent(&agent_id("web-7")).await.unwrap();
    ca.control.advance(HOUR * 2);
    let result = ca
        .anonymous()
        .await
        .reattest(&agent, &SigningKey::generate())
        .await;
    refused(result, Code::PermissionDenied, "agent-forgotten");
}

#[tokio::test]
async fn a_forgotten_agent_does_not_come_back_while_its_svid_lives_either() {
    let ca = TestCa::start().await;
    let agent = ca.agent("web-7").await;
    ca.forget("web-7").await;
    let result = ca
        .anonymous()
        .await
        .reattest(&agent, &SigningKey::generate())
        .await;
    refused(result, Code::PermissionDenied, "agent-forgotten");
}

#[tokio::test]
async fn an_agent_whose_clock_is_ahead_comes_back_before_its_svid_has_ended() {
    let ca = TestCa::start().await;
    let agent = ca.agent("web-7").await;
    let key = SigningKey::generate();
    let response = ca.anonymous().await.reattest(&agent, &key).await.unwrap();
    let chain = response.svid.unwrap().chain;
    assert_eq!(ca.svid(&chain, &key).spiffe_id(), &agent_id("web-7"));
}

#[tokio::test]
async fn a_forgotten_agent_does_not_come_back_with_the_token_that_it_joined_with() {
    let ca = TestCa::start().await;
    let (token, key) = (ca.token("web-7").await, SigningKey::generate());
    ca.anonymous().await.attest(&token, &key).await.unwrap();
    ca.forget("web-7").await;
    let again = ca.anonymous().await.attest(&token, &key).await;
    refused(again, Code::PermissionDenied, "unknown-token");
}

#[tokio::test]
async fn a_forgotten_agent_comes_back_with_a_new_token() {
    let ca = TestCa::start().await;
    ca.agent("web-7").await;
    ca.forget("web-7").await;
    let back = ca.agent("web-7").await;
    let renewed = ca.renew(&back, "web-7").await;
    assert_eq!(renewed.chain.len(), 2);
}

#[tokio::test]
async fn an_agent_that_is_not_admitted_is_not_admitted_again_by_an_expired_svid() {
    let ca = TestCa::start().await;
    let agent = ca.agent("web-7").await;
    // The store still knows it: the moment in which it is being forgotten.
    ca.ca.presence.disconnect(&agent_id("web-7"));
    ca.control.advance(HOUR * 2);
    let result = ca
        .anonymous()
        .await
        .reattest(&agent, &SigningKey::generate())
        .await;
    refused(result, Code::PermissionDenied, "agent-forgotten");
}

#[tokio::test]
async fn an_expired_svid_that_the_ca_has_no_record_of_is_refused() {
    let ca = TestCa::start().await;
    let agent = ca.agent("web-7").await;
    // The last record is never removed.
    ca.agent("web-8").await;
    ca.control.advance(HOUR * 2);
    // As a leaf would look that somebody signed with a stolen intermediate.
    let store = &ca.ca.store;
    while store.log_state().await.unwrap().settled < 1000 {
        let size = store.log_state().await.unwrap().size;
        store.settle_log(size, 1000).await.unwrap();
    }
    store.prune(ca.clock.now()).await.unwrap();
    let result = ca
        .anonymous()
        .await
        .reattest(&agent, &SigningKey::generate())
        .await;
    refused(result, Code::PermissionDenied, "svid-not-recorded");
}

#[tokio::test]
async fn a_renewal_whose_reply_was_lost_bricks_nobody() {
    let ca = TestCa::start().await;
    let agent = ca.agent("web-7").await;
    ca.of(&agent).await;
    // Renewed, but the agent never learned of it.
    ca.renew(&agent, "web-7").await;
    ca.control.advance(HOUR * 2);
    let response = ca
        .anonymous()
        .await
        .reattest(&agent, &SigningKey::generate())
        .await;
    assert_eq!(
        response.unwrap().svid.unwrap().spiffe_id,
        agent_id("web-7").as_str()
    );
}

#[tokio::test]
async fn below_a_removed_root_only_a_leaf_on_record_comes_back() {
    let ca = TestCa::start().await;
    let agent = ca.agent("web-7").await;
    let generation = Generation::FIRST;
    let within = Duration::ZERO;
    ca.wish(Event::Compromised { generation, within }).await;
    ca.until(&[Phase::Removed, Phase::Active]).await;
    assert!(!ca.verifies(&agent));
    let forged = forged(&agent_id("web-7"), ca.clock.now());
    let refusal = ca.anonymous().await;
    let refusal = refusal.reattest(&forged, &SigningKey::generate()).await;
    refused(refusal, Code::PermissionDenied, "svid-not-admitted");
    let key = SigningKey::generate();
    let back = ca.anonymous().await.reattest(&agent, &key).await.unwrap();
    let chain = back.svid.unwrap().chain;
    assert_eq!(ca.svid(&chain, &key).spiffe_id(), &agent_id("web-7"));
}

/// As whoever has stolen a root would make it.
fn forged(id: &SpiffeId, now: OffsetDateTime) -> TestAgent {
    let serial = || SerialNumber::random(&mut SystemRandom);
    let validity = Validity::try_new(now - HOUR, now + HOUR).unwrap();
    let (root, key) = (SigningKey::generate(), SigningKey::generate());
    let root = Authority::new_root(id.trust_domain(), &root, validity, serial()).unwrap();
    let leaf = LeafSpec {
        spiffe_id: id.clone(),
        public_key: *key.public_key(),
        validity,
        serial: serial(),
        dns_names: Vec::new(),
    };
    let chain = vec![root.issue(&leaf).unwrap().certificate.to_vec()];
    TestAgent { key, chain }
}
