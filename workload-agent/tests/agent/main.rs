//! The whole agent, against a CA with real certificates, over real sockets.

#[cfg(test)]
mod ca;
#[cfg(test)]
mod host;
#[cfg(test)]
mod tls_stream;

use std::time::Duration;

use proto::mesh::v1::{self as mesh, feed_message, proxy_message};
use proto::spiffe as wire;
use runtime::Clock;
use tonic::Code;

use ca::{AGENT, Ca, Serving};
use host::{Host, Proxy, fetch, next, ready, until, workload_client};

/// A CA that serves, and a host whose agent may join.
async fn mesh_of(clock: Clock) -> (Ca, Serving, Host) {
    let ca = Ca::new(clock.clone());
    let serving = ca.serve(0).await;
    let host = Host::new(clock);
    host.write_token(&ca.token(serving.address));
    (ca, serving, host)
}

#[tokio::test]
async fn request_without_the_security_header_is_an_invalid_argument() {
    let (_ca, _serving, host) = mesh_of(Clock::system()).await;
    let agent = host.start().await;
    let mut client = workload_client(&agent).await;
    let refused = client
        .fetch_x509svid(wire::X509svidRequest {})
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn process_that_is_no_workload_is_denied() {
    let (_ca, _serving, host) = mesh_of(Clock::system()).await;
    let agent = host.start_without_workload().await;
    ready(&agent).await;
    assert_eq!(
        fetch(&agent).await.unwrap_err().code(),
        Code::PermissionDenied
    );
}

#[tokio::test]
async fn agent_that_is_starting_is_unavailable() {
    let (ca, serving, host) = mesh_of(Clock::system()).await;
    drop((ca, serving));
    let agent = host.start().await;
    assert_eq!(fetch(&agent).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn token_that_another_key_used_is_shown_with_the_next_step() {
    let (ca, _serving, host) = mesh_of(Clock::system()).await;
    ca.redeem_elsewhere();
    let mut agent = host.start().await;
    let status = until(&mut agent.status(), "a problem", |s| s.problem.is_some()).await;
    let problem = status.problem.unwrap();
    assert_eq!(problem.code, "not-admitted");
    assert!(
        problem
            .next_step
            .unwrap()
            .contains("countersign join-token create")
    );
    let running = tokio::time::timeout(Duration::from_millis(1), agent.failed()).await;
    assert!(running.is_err());
}

#[tokio::test]
async fn workload_gets_its_identity_and_no_other() {
    let (_ca, _serving, host) = mesh_of(Clock::system()).await;
    let agent = host.start().await;
    let status = ready(&agent).await;
    let response = next(&mut fetch(&agent).await.unwrap()).await;
    let ids: Vec<&str> = response
        .svids
        .iter()
        .map(|svid| svid.spiffe_id.as_str())
        .collect();
    assert_eq!(ids, ["spiffe://mesh.example/ns/shop/sa/orders"]);
    assert_eq!(status.agent_id.unwrap().as_str(), AGENT);
}

#[tokio::test]
async fn open_stream_gets_the_renewed_certificate() {
    let (ca, _serving, host) = mesh_of(Clock::system()).await;
    ca.leaves_live(Duration::from_secs(4));
    let agent = host.start().await;
    ready(&agent).await;
    let mut stream = fetch(&agent).await.unwrap();
    let first = next(&mut stream).await.svids.remove(0);
    let second = next(&mut stream).await.svids.remove(0);
    assert_ne!(first.x509_svid, second.x509_svid);
    assert_ne!(first.x509_svid_key, second.x509_svid_key);
}

#[tokio::test]
async fn identity_taken_away_ends_the_stream() {
    let (ca, _serving, host) = mesh_of(Clock::system()).await;
    let agent = host.start().await;
    ready(&agent).await;
    let mut stream = fetch(&agent).await.unwrap();
    next(&mut stream).await;
    ca.configure(|snapshot| snapshot.identities.clear());
    let ended = stream.message().await.unwrap_err();
    assert_eq!(ended.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn restarted_agent_serves_from_its_cache_while_the_ca_is_down() {
    let (_ca, serving, host) = mesh_of(Clock::system()).await;
    let agent = host.start().await;
    let before = ready(&agent).await;
    until(&mut agent.status(), "a configuration", |s| {
        s.acknowledged.is_some()
    })
    .await;
    let first = next(&mut fetch(&agent).await.unwrap()).await;
    agent.kill().await;
    drop(serving);
    let agent = host.start().await;
    let again = next(&mut fetch(&agent).await.unwrap()).await;
    assert_eq!(again.svids, first.svids);
    assert_eq!(agent.status().borrow().revision, before.revision);
}

#[tokio::test]
async fn agent_that_ended_before_its_first_configuration_was_cached_finds_the_ca_again() {
    let (clock, control) = Clock::adjustable();
    let (ca, _serving, host) = mesh_of(clock).await;
    let agent = host.start().await;
    ready(&agent).await;
    agent.kill().await;
    host.forget_configuration();
    control.advance(Duration::from_secs(2 * 3600));
    let agent = host.start().await;
    until(&mut ca.heard(), "a re-attestation", |heard| {
        heard.reattested == 1
    })
    .await;
    ready(&agent).await;
}

#[tokio::test]
async fn an_agent_leaves_a_replica_that_refuses_to_sign_for_one_that_does() {
    let ca = Ca::new(Clock::system());
    let (refusing, signing) = (ca.refusing().serve(0).await, ca.serve(0).await);
    let host = Host::new(Clock::system());
    host.write_token(&ca.token_for(&[refusing.address, signing.address]));
    let agent = host.start().await;
    let status = ready(&agent).await;
    assert_eq!(status.ca_address, Some(signing.address.to_string()));
}

#[tokio::test]
async fn an_agent_whose_replicas_all_refuse_keeps_its_stream() {
    let ca = Ca::new(Clock::system());
    let (one, other) = (ca.refusing().serve(0).await, ca.refusing().serve(0).await);
    let host = Host::new(Clock::system());
    host.write_token(&ca.token_for(&[one.address, other.address]));
    let agent = host.start().await;
    let there = Some(other.address.to_string());
    until(&mut agent.status(), "the other replica", |status| {
        status.ca_address == there
    })
    .await;
    ca.configure(|snapshot| {
        let configuration = snapshot.configuration.as_mut().unwrap();
        configuration.revision = Some(mesh::Revision {
            epoch: 1,
            number: 2,
        });
    });
    until(&mut ca.heard(), "an acknowledgement", |heard| {
        heard.acknowledged == Some(2)
    })
    .await;
}

#[tokio::test]
async fn expired_agent_is_taken_back_by_reattestation() {
    let (clock, control) = Clock::adjustable();
    let (ca, _serving, host) = mesh_of(clock).await;
    let agent = host.start().await;
    ready(&agent).await;
    agent.kill().await;
    control.advance(Duration::from_secs(2 * 3600));
    let agent = host.start().await;
    until(&mut ca.heard(), "a re-attestation", |heard| {
        heard.reattested == 1
    })
    .await;
    ready(&agent).await;
    assert!(fetch(&agent).await.is_ok());
}

#[tokio::test]
async fn expired_certificate_is_not_served_from_the_cache() {
    let (clock, control) = Clock::adjustable();
    let (_ca, serving, host) = mesh_of(clock).await;
    let agent = host.start().await;
    ready(&agent).await;
    agent.kill().await;
    drop(serving);
    control.advance(Duration::from_secs(2 * 3600));
    let agent = host.start().await;
    assert_eq!(fetch(&agent).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn in_process_proxy_cannot_have_another_workloads_feed() {
    let (_ca, _serving, host) = mesh_of(Clock::system()).await;
    let agent = host.start().await;
    ready(&agent).await;
    let refused = Proxy::subscribe(&agent, "shop/checkout")
        .await
        .err()
        .unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn revision_is_acknowledged_when_the_proxy_has_applied_it() {
    let (ca, _serving, host) = mesh_of(Clock::system()).await;
    let agent = host.start().await;
    ready(&agent).await;
    let mut proxy = Proxy::subscribe(&agent, "shop/orders").await.unwrap();
    ca.configure(|snapshot| {
        let configuration = snapshot.configuration.as_mut().unwrap();
        configuration.revision = Some(mesh::Revision {
            epoch: 1,
            number: 2,
        });
    });
    let revision = proxy
        .until(|message| match message {
            feed_message::Message::Configuration(c) => c.revision.filter(|r| r.number == 2),
            _ => None,
        })
        .await;
    assert_ne!(ca.heard().borrow().acknowledged, Some(2));
    proxy
        .say(proxy_message::Message::Applied(mesh::Applied {
            revision: Some(revision),
            leaf_serial: String::new(),
            bundle_sequence: 0,
        }))
        .await;
    until(&mut ca.heard(), "an acknowledgement", |heard| {
        heard.acknowledged == Some(2)
    })
    .await;
}

#[tokio::test]
async fn feed_starts_with_welcome_and_credentials() {
    let (_ca, _serving, host) = mesh_of(Clock::system()).await;
    let agent = host.start().await;
    ready(&agent).await;
    let mut proxy = Proxy::subscribe(&agent, "").await.unwrap();
    let welcome = next(&mut proxy.feed).await.message.unwrap();
    let credentials = next(&mut proxy.feed).await.message.unwrap();
    assert!(matches!(welcome, feed_message::Message::Welcome(w) if w.workload == "shop/orders"));
    assert!(matches!(credentials, feed_message::Message::Credentials(c) if !c.key.is_empty()));
}

#[tokio::test]
async fn wanted_service_is_subscribed_and_foreign_announcement_is_not_passed_on() {
    let (ca, _serving, host) = mesh_of(Clock::system()).await;
    let agent = host.start().await;
    ready(&agent).await;
    let proxy = Proxy::subscribe(&agent, "shop/orders").await.unwrap();
    let announcement = mesh::Announcement {
        namespace: "shop".to_owned(),
        service: "checkout".to_owned(),
        endpoint: None,
    };
    proxy
        .say(proxy_message::Message::Announce(mesh::Announce {
            announcements: vec![announcement],
            sequence: 1,
        }))
        .await;
    proxy
        .say(proxy_message::Message::Want(mesh::Want {
            namespace: "shop".to_owned(),
            service: "stock".to_owned(),
        }))
        .await;
    let heard = until(&mut ca.heard(), "a subscription", |heard| {
        heard.subscriptions == ["stock.shop"]
    })
    .await;
    assert!(heard.announced_for.is_empty());
}

#[tokio::test]
async fn restarted_agent_asks_in_its_first_word_for_what_its_workloads_want() {
    let (ca, _serving, host) = mesh_of(Clock::system()).await;
    let agent = host.start().await;
    ready(&agent).await;
    let proxy = Proxy::subscribe(&agent, "shop/orders").await.unwrap();
    let want = mesh::Want {
        namespace: "shop".to_owned(),
        service: "stock".to_owned(),
    };
    proxy.say(proxy_message::Message::Want(want)).await;
    until(&mut ca.heard(), "a subscription", |heard| {
        heard.subscriptions == ["stock.shop"]
    })
    .await;
    agent.kill().await;
    let _agent = host.start().await;
    until(&mut ca.heard(), "the first word", |heard| {
        heard.first_subscriptions == ["stock.shop"]
    })
    .await;
}

#[tokio::test]
async fn the_ca_is_told_of_proxies_and_their_engines_as_they_come_and_go() {
    let (ca, _serving, host) = mesh_of(Clock::system()).await;
    let agent = host.start().await;
    ready(&agent).await;
    let proxy = Proxy::subscribe(&agent, "shop/orders").await.unwrap();
    let there = [("shop/orders".to_owned(), 1)];
    until(&mut ca.heard(), "a proxy", |heard| heard.proxies == there).await;
    drop(proxy);
    until(&mut ca.heard(), "its end", |heard| heard.proxies.is_empty()).await;
}

#[tokio::test]
async fn a_proxy_hears_when_callers_are_told_of_what_it_announced() {
    let (_ca, _serving, host) = mesh_of(Clock::system()).await;
    let agent = host.start().await;
    ready(&agent).await;
    let mut proxy = Proxy::subscribe(&agent, "shop/orders").await.unwrap();
    proxy
        .say(proxy_message::Message::Announce(mesh::Announce {
            announcements: Vec::new(),
            sequence: 7,
        }))
        .await;
    let confirmed = proxy
        .until(|message| match message {
            feed_message::Message::Announced(announced) => Some(announced),
            _ => None,
        })
        .await;
    assert_eq!(confirmed.sequence, 7);
}
