//! Claims about agents that were banned, or evicted, while they live.

use std::time::Duration;

use crypto::signing::SigningKey;
use identity::x509::Denied;
use identity::{AgentId, SpiffeId};
use proto::agent::v1::ca_message::Message;
use tonic::Code;

use super::agent::{Connection, refused};
use super::harness::{TestCa, agent_id, trust_domain, workload, workload_id};
use crate::store::RevocationSubject;

impl TestCa {
    /// As `POST /v1/agents/…/ban` does.
    async fn ban(&self, agent: &str) {
        self.revoke(RevocationSubject::Agent(agent_id(agent))).await;
    }
}

impl Connection {
    /// Calls until the connection ends.
    async fn ended(&self) {
        let calls = async { while !gone(self.issue(Vec::new()).await.err()) {} };
        tokio::time::timeout(Duration::from_secs(10), calls)
            .await
            .unwrap();
    }
}

/// Whether a call failed on its way, and was not answered by the CA.
fn gone(failed: Option<tonic::Status>) -> bool {
    failed.is_some_and(|status| status.metadata().get(crate::status::REASON).is_none())
}

#[tokio::test]
async fn a_banned_agent_is_issued_nothing_and_renews_nothing() {
    let ca = TestCa::start().await;
    let agent = ca.agent("web-7").await;
    ca.ban("web-7").await;
    let key = SigningKey::generate();
    let renewal = ca
        .of(&agent)
        .await
        .issue_one(&agent_id("web-7"), &key)
        .await;
    refused(renewal, Code::PermissionDenied, "agent-banned");
}

#[tokio::test]
async fn a_banned_agent_does_not_attest_again() {
    let ca = TestCa::start().await;
    let agent = ca.agent("web-7").await;
    ca.ban("web-7").await;
    // Made after the ban, which has deleted those before.
    let token = ca.token("web-7").await;
    let line = ca.anonymous().await;
    let joined = line.attest(&token, &SigningKey::generate()).await;
    refused(joined, Code::PermissionDenied, "agent-banned");
    let returned = line.reattest(&agent, &SigningKey::generate()).await;
    refused(returned, Code::PermissionDenied, "agent-banned");
}

#[tokio::test]
async fn a_token_of_a_banned_agent_is_no_longer_known() {
    let ca = TestCa::start().await;
    let token = ca.token("web-7").await;
    ca.ban("web-7").await;
    let joined = ca
        .anonymous()
        .await
        .attest(&token, &SigningKey::generate())
        .await;
    refused(joined, Code::PermissionDenied, "unknown-token");
}

#[tokio::test]
async fn the_connections_of_a_banned_agent_end_and_those_of_others_do_not() {
    let ca = TestCa::start().await;
    let (agent, other) = (ca.agent("web-7").await, ca.agent("web-8").await);
    let (banned, spared) = (ca.of(&agent).await, ca.of(&other).await);
    banned.issue(Vec::new()).await.unwrap();
    spared.issue(Vec::new()).await.unwrap();
    ca.ban("web-7").await;
    banned.ended().await;
    spared.issue(Vec::new()).await.unwrap();
}

#[tokio::test]
async fn the_connections_of_an_evicted_agent_end() {
    let ca = TestCa::start().await;
    let connection = ca.of(&ca.agent("web-7").await).await;
    connection.issue(Vec::new()).await.unwrap();
    ca.forget("web-7").await;
    connection.ended().await;
}

#[tokio::test]
async fn what_is_still_being_recorded_when_its_agent_is_evicted_is_not_handed_out() {
    let ca = TestCa::start().await;
    ca.apply(&workload("orders", &["web-7"])).await;
    let connection = ca.of(&ca.agent("web-7").await).await;
    let (held, key) = (ca.ca.store.hold_writes().await, SigningKey::generate());
    let id = workload_id("orders");
    let evicted = async {
        // Behind it on the same connection, so that it has been judged when these are answered.
        for _ in 0..3 {
            connection.issue(Vec::new()).await.unwrap();
        }
        ca.ca.presence.disconnect(&agent_id("web-7"));
        drop(held);
    };
    let (issued, ()) = tokio::join!(connection.issue_one(&id, &key), evicted);
    refused(issued, Code::PermissionDenied, "agent-forgotten");
}

#[tokio::test]
async fn a_ban_outlasts_a_restart() {
    let ca = TestCa::start().await;
    let agent = ca.agent("web-7").await;
    ca.ban("web-7").await;
    let ca = ca.restart_with(|_| {}).await.unwrap();
    let key = SigningKey::generate();
    let renewal = ca
        .of(&agent)
        .await
        .issue_one(&agent_id("web-7"), &key)
        .await;
    refused(renewal, Code::PermissionDenied, "agent-banned");
}

#[tokio::test]
async fn an_agent_whose_ban_was_lifted_goes_on_as_before() {
    let ca = TestCa::start().await;
    let agent = ca.agent("web-7").await;
    ca.ban("web-7").await;
    ca.lift(RevocationSubject::Agent(agent_id("web-7"))).await;
    assert_eq!(ca.renew(&agent, "web-7").await.chain.len(), 2);
}

#[tokio::test]
async fn an_agent_that_never_attested_can_be_banned() {
    let ca = TestCa::start().await;
    ca.ban("web-9").await;
    let token = ca.token("web-9").await;
    let joined = ca
        .anonymous()
        .await
        .attest(&token, &SigningKey::generate())
        .await;
    refused(joined, Code::PermissionDenied, "agent-banned");
    let agent = AgentId::new(&trust_domain(), "join-token", "web-9").unwrap();
    assert_eq!(ca.ca.store.agent(agent.spiffe_id()).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_revoked_without_the_store_is_told_within_the_revision_that_the_agent_holds() {
    let ca = TestCa::start().await;
    let agent = ca.agent("web-7").await;
    let mut stream = ca.watch(&agent, None).await;
    let Message::Snapshot(held) = stream.next().await else {
        panic!("no snapshot");
    };
    let revision = held.configuration.unwrap().revision;
    let stolen: SpiffeId = "spiffe://td.test/ns/shop/sa/stolen".parse().unwrap();
    let denied = vec![(Denied::Identity(stolen.clone()), None)];
    ca.ca.registry.hold(denied).unwrap();
    let Message::Delta(delta) = stream.next().await else {
        panic!("no delta");
    };
    assert_eq!((delta.from, delta.revision), (revision, revision));
    let added = delta.denied.unwrap().added.unwrap();
    assert_eq!(added.identities, [stolen.to_string()]);
}
