//! Claims of one instance below another: each a real CA with a store of its own.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crypto::digest::Sha256;
use crypto::random::SystemRandom;
use crypto::signing::SigningKey;
use identity::Validity;
use identity::x509::key_id_of;
use proto::agent::v1::issue_result::Result as Issued;
use time::format_description::well_known::Rfc3339;
use tokio::time::{Instant, sleep};

use super::agent::TestAgent;
use super::harness::{TestCa, agent_id};
use crate::app::StartError;
use crate::authority::lifecycle::{Event, Generation, Phase};
use crate::bearer::{BearerSecret, Nesting};
use crate::config::{BundleConfig, Config, UpstreamConfig, UpstreamCountersign};
use crate::nesting::{AboveError, NestingError};
use crate::store::{
    AuthorityCertificate, DownstreamAuthorityRow, DownstreamRow, KeyPurpose, RevocationSubject,
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const LONG: Duration = Duration::from_secs(20);
const EU: &str = "eu";

impl TestCa {
    async fn above() -> Self {
        Self::start_with(quick).await
    }

    /// What `countersign downstream create` does.
    async fn admit(&self, name: &str) -> PathBuf {
        let secret = BearerSecret::<Nesting>::generate(&mut SystemRandom);
        let row = DownstreamRow {
            name: name.to_owned(),
            secret_sha256: secret.digest(),
            author: "test".to_owned(),
            created_at: self.clock.now(),
            bundle_sequence: 0,
            seen_at: None,
        };
        assert!(self.ca.store.put_downstream(&row).await.unwrap());
        self.credential(name, &secret)
    }

    fn credential(&self, name: &str, secret: &BearerSecret<Nesting>) -> PathBuf {
        let bundle = self.ca.bundle();
        let roots = bundle.authorities().iter();
        let roots: Vec<_> = roots.map(|root| format!("\"{}\"", root.digest())).collect();
        let file = self.directory.path().join(format!("{name}.toml"));
        let text = format!(
            "trust_domain = \"td.test\"\nurls = [\"https://{}\"]\nroot_sha256 = [{}]\n\
             created_at = \"{}\"\nsecret = \"{}\"\n",
            self.ca.web_address(),
            roots.join(", "),
            self.clock.now().format(&Rfc3339).unwrap(),
            *secret.text()
        );
        runtime::files::write_private(&file, text.as_bytes()).unwrap();
        file
    }

    async fn below(&self) -> Self {
        let credential = self.admit(EU).await;
        Self::start_with(|config| stand_below(config, credential)).await
    }

    /// Time passes for both.
    fn advance_with(&self, other: &Self, span: Duration) {
        self.control.advance(span);
        other.control.advance(span);
    }

    async fn authorities_below(&self) -> usize {
        let now = self.clock.now();
        let known = self.ca.store.downstream_authorities(now).await;
        known.unwrap().len()
    }

    /// As many authorities as one instance may have, for some minutes.
    async fn leave_no_room_for(&self, name: &str) {
        let now = self.clock.now();
        let known = self.ca.store.downstream_authorities(now).await.unwrap();
        for number in known.len()..32 {
            let row = DownstreamAuthorityRow {
                key_id: Sha256::of(&number.to_be_bytes()).to_string(),
                downstream: name.to_owned(),
                validity: Validity::try_new(now, now + MINUTE * 2).unwrap(),
                ..known[0].clone()
            };
            let certificate = AuthorityCertificate {
                der: &self.ca.bundle().authorities()[0].der().clone(),
                issuer: &row.key_id,
                recorded_at: now,
            };
            let store = &self.ca.store;
            let kept = store.record_downstream_authority(&row, certificate);
            kept.await.unwrap();
        }
    }

    fn refuses(&self, agent: &TestAgent) -> bool {
        let svid = self.svid(&agent.chain, &agent.key);
        let denials = self.ca.registry.denials().borrow().clone();
        denials.list().refuses(svid.svid()).is_some()
    }

    /// The agent's next SVID, once there is one that is not refused.
    async fn successor_of(&self, agent: &TestAgent, name: &str) -> TestAgent {
        let deadline = Instant::now() + LONG;
        loop {
            let key = SigningKey::generate();
            let issued = self.of(agent).await.issue_one(&agent_id(name), &key).await;
            if let Ok(Issued::Svid(svid)) = issued {
                let next = TestAgent {
                    key,
                    chain: svid.chain,
                };
                if !self.refuses(&next) {
                    return next;
                }
            }
            assert!(Instant::now() < deadline, "nothing else was issued");
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn trusts_the_same_as(&self, other: &Self) -> bool {
        self.ca.bundle().authorities() == other.ca.bundle().authorities()
    }
}

/// Of the authority that the instance above has signed.
fn authority_of(agent: &TestAgent) -> Sha256 {
    key_id_of(&agent.chain[2]).unwrap()
}

async fn eventually(mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_so().await {
        assert!(Instant::now() < deadline, "it did not come to that");
        sleep(Duration::from_millis(20)).await;
    }
}

fn quick(config: &mut Config) {
    config.bundle = BundleConfig {
        refresh_hint: Duration::from_secs(1),
    };
}

fn stand_below(config: &mut Config, credential_file: PathBuf) {
    quick(config);
    let above = UpstreamCountersign { credential_file };
    config.upstream = Some(UpstreamConfig::Countersign(above));
}

#[track_caller]
fn refused(started: Result<TestCa, StartError>) -> AboveError {
    match started {
        Err(StartError::Nesting(NestingError::Above(error))) => error,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it started"),
    }
}

#[tokio::test]
async fn who_is_not_admitted_above_does_not_start() {
    let above = TestCa::above().await;
    let stranger = BearerSecret::generate(&mut SystemRandom);
    let credential = above.credential("stranger", &stranger);
    let started = TestCa::try_start_with(|config| stand_below(config, credential)).await;
    let error = refused(started);
    assert!(matches!(error, AboveError::Refused { status, .. } if status == 401));
}

#[tokio::test]
async fn what_is_not_the_instance_above_is_sent_no_secret() {
    let (above, other) = (TestCa::above().await, TestCa::above().await);
    let credential = above.admit(EU).await;
    let text = std::fs::read_to_string(&credential).unwrap();
    let (here, there) = (above.ca.web_address(), other.ca.web_address());
    let text = text.replace(&here.to_string(), &there.to_string());
    runtime::files::write_private(&credential, text.as_bytes()).unwrap();
    let started = TestCa::try_start_with(|config| stand_below(config, credential)).await;
    assert!(matches!(refused(started), AboveError::NotOurs { .. }));
}

#[tokio::test]
async fn below_an_instance_below_another_there_is_no_room() {
    let above = TestCa::above().await;
    let below = above.below().await;
    let credential = below.admit("further").await;
    let started = TestCa::try_start_with(|config| stand_below(config, credential)).await;
    let error = refused(started);
    assert!(matches!(error, AboveError::Refused { status, .. } if status == 409));
}

#[tokio::test]
async fn both_have_one_root_and_believe_each_others_agents() {
    let above = TestCa::above().await;
    let below = above.below().await;
    assert_eq!(
        above.ca.bundle().authorities(),
        below.ca.bundle().authorities()
    );
    let (high, low) = (above.agent("web-7").await, below.agent("web-8").await);
    assert_eq!((high.chain.len(), low.chain.len()), (2, 3));
    assert!(above.verifies(&low) && below.verifies(&high));
}

#[tokio::test]
async fn without_the_instance_above_it_goes_on_and_starts_again() {
    let above = TestCa::above().await;
    let below = above.below().await;
    let agent = below.agent("web-8").await;
    above.ca.drain(LONG).await.unwrap();
    let below = below.restart_with(|_| {}).await.unwrap();
    below.of(&agent).await.issue(Vec::new()).await.unwrap();
    let next = below.agent("web-9").await;
    assert!(below.verifies(&next));
}

#[tokio::test]
async fn its_authority_is_renewed_at_half_of_its_life() {
    let above = TestCa::above().await;
    let below = above.below().await;
    assert_eq!(above.authorities_below().await, 1);
    above.advance_with(&below, DAY * 4);
    eventually(async || above.authorities_below().await == 2).await;
    let versions = async || {
        let keys = below.ca.store.sealed_keys().await.unwrap().into_iter();
        let own = keys.filter(|it| it.purpose == KeyPurpose::MeshAuthority);
        own.map(|it| it.version).collect::<Vec<_>>()
    };
    eventually(async || versions().await == [1, 2]).await;
    // The first has ended by then, and its key is of no use to anybody.
    above.advance_with(&below, DAY * 5);
    eventually(async || versions().await == [2, 3]).await;
}

#[tokio::test]
async fn its_next_authority_has_a_revocation_list_at_once() {
    let above = TestCa::above().await;
    let below = above.below().await;
    let agent = below.agent("web-8").await;
    let issuers = async || {
        let lists = below.ca.store.crls(below.clock.now()).await.unwrap();
        lists
            .into_iter()
            .map(|it| it.issuer)
            .collect::<BTreeSet<_>>()
    };
    let authorities = async || {
        let keys = below.ca.store.sealed_keys().await.unwrap().into_iter();
        let own = keys.filter(|it| it.purpose == KeyPurpose::MeshAuthority);
        own.map(|it| it.key_id).collect::<BTreeSet<_>>()
    };
    eventually(async || issuers().await.is_superset(&authorities().await)).await;
    above
        .revoke(RevocationSubject::Authority(authority_of(&agent)))
        .await;
    eventually(async || authorities().await.len() == 2).await;
    eventually(async || issuers().await.is_superset(&authorities().await)).await;
}

#[tokio::test]
async fn a_root_signs_above_only_when_those_below_trust_it_too() {
    let above = TestCa::above().await;
    let below = above.below().await;
    let agent = below.agent("web-8").await;
    above.wish(Event::Rotate).await;
    below.until(&[Phase::Active, Phase::Published]).await;
    above.advance_with(&below, HOUR / 3);
    // An agent below has not acknowledged it.
    let progress = above.until(&[Phase::Active, Phase::Published]).await;
    assert_eq!(progress.pending_below[0].name, EU);
    assert!(below.verifies(&agent));
    above.advance_with(&below, HOUR);
    above.until(&[Phase::Draining, Phase::Active]).await;
    below.until(&[Phase::Draining, Phase::Active]).await;
    let next = below.agent("web-9").await;
    assert!(above.verifies(&next) && below.verifies(&next));
}

#[tokio::test]
async fn a_root_that_drains_above_stays_until_nothing_below_leads_to_it() {
    let above = TestCa::above().await;
    let below = above.below().await;
    above.wish(Event::Rotate).await;
    below.until(&[Phase::Active, Phase::Published]).await;
    above.advance_with(&below, HOUR);
    below.until(&[Phase::Draining, Phase::Active]).await;
    above.advance_with(&below, DAY * 3);
    below.until(&[Phase::Draining, Phase::Active]).await;
    above.until(&[Phase::Draining, Phase::Active]).await;
    above.advance_with(&below, DAY * 5);
    above.until(&[Phase::Removed, Phase::Active]).await;
    let progress = below.until(&[Phase::Removed, Phase::Active]).await;
    assert!(progress.lifecycle.members()[0].taint.is_none());
    assert!(below.trusts_the_same_as(&above));
}

#[tokio::test]
async fn a_root_that_is_compromised_above_ends_below_as_well() {
    let above = TestCa::above().await;
    let below = above.below().await;
    let agent = below.agent("web-8").await;
    above
        .wish(Event::Compromised {
            generation: Generation::FIRST,
            within: MINUTE * 5,
        })
        .await;
    below.until(&[Phase::Active, Phase::Published]).await;
    let is_tainted = async || {
        let progress = below.ca.rotation.progress().await.unwrap();
        progress.lifecycle.active().taint.is_some()
    };
    eventually(is_tainted).await;
    above.advance_with(&below, MINUTE * 2);
    above.until(&[Phase::Draining, Phase::Active]).await;
    below.until(&[Phase::Draining, Phase::Active]).await;
    above.advance_with(&below, MINUTE * 4);
    above.until(&[Phase::Removed, Phase::Active]).await;
    below.until(&[Phase::Removed, Phase::Active]).await;
    assert!(!below.verifies(&agent));
    let next = below.agent("web-9").await;
    assert!(above.verifies(&next));
}

#[tokio::test]
async fn an_authority_that_is_revoked_above_is_replaced_below_and_refused_there() {
    let above = TestCa::above().await;
    let below = above.below().await;
    let agent = below.agent("web-8").await;
    let key = authority_of(&agent);
    above.revoke(RevocationSubject::Authority(key)).await;
    eventually(async || below.refuses(&agent)).await;
    let next = below.successor_of(&agent, "web-8").await;
    assert!(above.verifies(&next) && !above.refuses(&next));
    let now = below.clock.now();
    let subject = RevocationSubject::Authority(key);
    let revoked = below.ca.store.revocation(&subject, now).await.unwrap();
    let revoked = revoked.unwrap();
    assert_eq!(revoked.author, "upstream");
    assert!(revoked.expires_at.is_some_and(|end| end > now));
}

#[tokio::test]
async fn an_authority_that_was_revoked_above_signs_nothing_below_after_a_restart() {
    let above = TestCa::above().await;
    let below = above.below().await;
    let agent = below.agent("web-8").await;
    above
        .revoke(RevocationSubject::Authority(authority_of(&agent)))
        .await;
    eventually(async || below.refuses(&agent)).await;
    above.ca.drain(LONG).await.unwrap();
    let below = below.restart_with(|_| {}).await.unwrap();
    let next = below.agent("web-9").await;
    assert!(below.refuses(&agent) && !below.refuses(&next));
}

#[tokio::test]
async fn an_authority_that_is_revoked_above_is_refused_below_even_without_another() {
    let above = TestCa::above().await;
    let below = above.below().await;
    let agent = below.agent("web-8").await;
    let key = authority_of(&agent);
    above.leave_no_room_for(EU).await;
    above.revoke(RevocationSubject::Authority(key)).await;
    eventually(async || below.refuses(&agent)).await;
    let own = agent_id("web-8");
    let refused = below.of(&agent).await;
    let refused = refused.issue_one(&own, &SigningKey::generate()).await;
    assert!(!matches!(refused, Ok(Issued::Svid(_))), "{refused:?}");
    // Those that took the room have ended.
    above.advance_with(&below, MINUTE * 3);
    let next = below.successor_of(&agent, "web-8").await;
    assert!(!above.refuses(&next));
}

/// A root is burnt above while the instance below is away.
async fn slept_through() -> (TestCa, TestCa) {
    let above = TestCa::above().await;
    let below = above.below().await;
    below.ca.drain(LONG).await.unwrap();
    let compromised = Event::Compromised {
        generation: Generation::FIRST,
        within: MINUTE * 5,
    };
    above.wish(compromised).await;
    for phases in [
        [Phase::Active, Phase::Published],
        [Phase::Draining, Phase::Active],
        [Phase::Removed, Phase::Active],
    ] {
        above.until(&phases).await;
        above.control.advance(MINUTE * 4);
        below.control.advance(MINUTE * 4);
    }
    let ca = crate::app::Ca::start(below.config.clone(), below.clock.clone()).await;
    let below = TestCa {
        ca: ca.unwrap(),
        ..below
    };
    (above, below)
}

#[tokio::test]
async fn who_has_slept_through_the_end_of_a_root_stays_alone_until_it_is_admitted_again() {
    let (above, below) = slept_through().await;
    let standing = async || below.ca.nesting.clone().unwrap().heard();
    eventually(async || standing().await.failure.is_some()).await;
    assert!(standing().await.at.is_none());
    let again = above.admit("eu-again").await;
    std::fs::rename(again, above.directory.path().join("eu.toml")).unwrap();
    below.until(&[Phase::Removed, Phase::Active]).await;
    assert!(below.trusts_the_same_as(&above));
}
