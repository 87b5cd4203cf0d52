//! Claims of a root that is rotated in a running replica.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use identity::x509::{BundleSet, UnverifiedChain};
use proto::agent::v1::agent_message::Message as Said;
use proto::agent::v1::ca_message::Message;
use proto::agent::v1::{self as wire};
use proto::mesh::v1 as mesh;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::agent::TestAgent;
use super::harness::{TestCa, agent_id};
use super::watching::Stream;
use crate::authority::lifecycle::{Event, Generation, Phase};
use crate::config::{Pkcs11Config, RootCurve, RootPlace};
use crate::pkcs11::tests::with_token;
use crate::rotation::{Progress, Rotation};
use crate::store::KeyPurpose;

const LONG: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_secs(60 * 60);
const LOOKING_AT_ONCE: usize = 8;

impl TestCa {
    async fn progress(&self) -> Progress {
        self.ca.rotation.progress().await.unwrap()
    }

    pub(super) async fn wish(&self, event: Event) {
        let wished = self.ca.rotation.wish(&event, "test".to_owned());
        wished.await.unwrap();
    }

    /// Waits until the roots are in these phases, and this replica knows.
    pub(super) async fn until(&self, phases: &[Phase]) -> Progress {
        // Each step is a revision.
        let mut snapshots = self.ca.registry.subscribe();
        let reaching = async {
            loop {
                let progress = self.progress().await;
                let members = progress.lifecycle.members().iter();
                let is_so = members.map(|it| it.phase).eq(phases.iter().copied());
                let known = self.ca.registry.snapshot().roots().sequence();
                if is_so && known == progress.lifecycle.sequence() {
                    return progress;
                }
                self.ca.rotation.look();
                snapshots.changed().await.expect("the registry runs");
            }
        };
        match timeout(LONG, reaching).await {
            Ok(progress) => progress,
            Err(_) => panic!("{phases:?} not reached: {:#?}", self.progress().await),
        }
    }

    pub(super) fn verifies(&self, agent: &TestAgent) -> bool {
        let chain = agent.chain.iter().cloned().map(Into::into).collect();
        let chain = UnverifiedChain::from_der(chain).unwrap();
        let bundles = BundleSet::from(self.ca.bundle());
        chain.verify(&bundles, self.clock.now()).is_ok()
    }
}

impl Stream {
    /// Takes what comes until a bundle does, and answers with it and its revision.
    async fn bundle(&mut self) -> (mesh::Bundle, mesh::Revision) {
        loop {
            let (bundle, revision) = match self.next().await {
                Message::Snapshot(snapshot) => (
                    snapshot.bundle,
                    snapshot.configuration.and_then(|it| it.revision),
                ),
                Message::Delta(delta) => (delta.bundle, delta.revision),
                _ => continue,
            };
            if let (Some(bundle), Some(revision)) = (bundle, revision) {
                return (bundle, revision);
            }
        }
    }

    async fn acknowledge(&self, revision: mesh::Revision) {
        let revision = Some(revision);
        self.say(Said::Acknowledge(wire::Acknowledge { revision }))
            .await;
    }

    async fn closed(&mut self) {
        while self.try_next().await.is_ok() {}
    }
}

#[tokio::test]
async fn a_new_root_signs_only_after_the_live_agents_have_acknowledged_it() {
    let ca = TestCa::start().await;
    let agent = ca.agent("web-7").await;
    let mut stream = ca.watch(&agent, None).await;
    ca.wish(Event::Rotate).await;
    let progress = ca.until(&[Phase::Active, Phase::Published]).await;
    assert_eq!(progress.pending[0].spiffe_id, agent_id("web-7"));
    ca.control.advance(HOUR / 3);
    let (bundle, revision) = loop {
        let told = stream.bundle().await;
        if told.0.sequence == 2 {
            break told;
        }
    };
    assert_eq!(bundle.x509_authorities.len(), 2);
    ca.until(&[Phase::Active, Phase::Published]).await;
    stream.acknowledge(revision).await;
    ca.until(&[Phase::Draining, Phase::Active]).await;
}

#[tokio::test]
async fn what_was_known_before_a_compromise_opens_no_gate_after_it() {
    let ca = TestCa::start().await;
    let _pending = ca.agent("web-7").await;
    let is_marked = Arc::new(AtomicBool::new(false));
    let mut looking = JoinSet::new();
    for _ in 0..LOOKING_AT_ONCE {
        looking.spawn(look_until(ca.ca.rotation.clone(), is_marked.clone()));
    }
    let compromised = Event::Compromised {
        generation: Generation::FIRST,
        within: HOUR,
    };
    ca.wish(compromised).await;
    is_marked.store(true, Ordering::Relaxed);
    looking.join_all().await;
    ca.until(&[Phase::Active, Phase::Published]).await;
}

async fn look_until(rotation: Rotation, is_over: Arc<AtomicBool>) {
    while !is_over.load(Ordering::Relaxed) {
        // Whoever is outrun too often looks again.
        let _ = rotation.advance().await;
    }
}

#[tokio::test]
async fn a_drained_root_is_trusted_nowhere_and_its_key_is_destroyed() {
    let ca = TestCa::start().await;
    let before = ca.agent("web-7").await;
    ca.wish(Event::Rotate).await;
    ca.until(&[Phase::Active, Phase::Published]).await;
    // Who holds nothing that is alive is not waited for.
    ca.control.advance(HOUR * 2);
    ca.until(&[Phase::Draining, Phase::Active]).await;
    let after = ca.agent("web-8").await;
    assert!(ca.verifies(&after));
    ca.control.advance(HOUR * 2);
    ca.until(&[Phase::Removed, Phase::Active]).await;
    assert_eq!(ca.ca.bundle().authorities().len(), 1);
    let keys = ca.ca.store.sealed_keys().await.unwrap();
    let roots = keys
        .iter()
        .filter(|key| key.purpose == KeyPurpose::X509Root);
    assert_eq!(roots.map(|key| key.version).collect::<Vec<_>>(), [2]);
    assert!(!ca.verifies(&before));
}

#[tokio::test]
async fn a_connection_under_a_removed_root_is_closed() {
    let ca = TestCa::start().await;
    let agent = ca.agent("web-7").await;
    let mut stream = ca.watch(&agent, None).await;
    let generation = Generation::FIRST;
    let within = Duration::ZERO;
    ca.wish(Event::Compromised { generation, within }).await;
    ca.until(&[Phase::Removed, Phase::Active]).await;
    timeout(LONG, stream.closed()).await.unwrap();
    assert!(!ca.verifies(&agent));
}

#[tokio::test]
async fn a_restart_goes_on_with_a_rotation() {
    let ca = TestCa::start().await;
    ca.wish(Event::Rotate).await;
    ca.until(&[Phase::Active, Phase::Published]).await;
    let ca = ca.restart_with(|_| {}).await.unwrap();
    assert_eq!(ca.ca.bundle().authorities().len(), 2);
    ca.control.advance(HOUR);
    ca.until(&[Phase::Draining, Phase::Active]).await;
    let agent = ca.agent("web-7").await;
    let ca = ca.restart_with(|_| {}).await.unwrap();
    ca.of(&agent).await.issue(Vec::new()).await.unwrap();
}

#[tokio::test]
async fn the_next_root_is_made_in_the_token_and_a_removed_one_is_destroyed_there() {
    with_token!(token);
    let ca = TestCa::start_with(|config| {
        config.keys.root = RootPlace::Pkcs11;
        config.keys.pkcs11 = Some(Pkcs11Config {
            root_curve: RootCurve::P384,
            ..token.config()
        });
    });
    let ca = ca.await;
    assert_eq!(token.private_keys(), 1);
    ca.wish(Event::Rotate).await;
    ca.until(&[Phase::Active, Phase::Published]).await;
    assert_eq!(token.private_keys(), 2);
    ca.control.advance(HOUR * 2);
    ca.until(&[Phase::Draining, Phase::Active]).await;
    let agent = ca.agent("web-7").await;
    assert!(ca.verifies(&agent));
    ca.control.advance(HOUR * 2);
    ca.until(&[Phase::Removed, Phase::Active]).await;
    token.until_private_keys(1).await;
    let ca = ca.restart_with(|_| {}).await.unwrap();
    ca.agent("web-8").await;
}
