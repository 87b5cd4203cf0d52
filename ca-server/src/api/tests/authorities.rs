//! Claims on the authorities' part of the interface.

use std::time::Duration;

use crypto::random::SystemRandom;
use crypto::signing::SigningKey;
use identity::recovery::{BundleUpdate, public_to_pem};
use identity::x509::{Authority, Bundle};
use identity::{SerialNumber, Validity};
use policy::resource::AgentSelectors;

use super::*;
use crate::authority::lifecycle::Phase;
use crate::config::RecoveryConfig;
use crate::store::AgentRow;

const HOUR: Duration = Duration::from_secs(60 * 60);

async fn rotate(api: &TestApi, request: Value) -> Answer {
    let path = "/v1/authorities/rotation";
    api.call(Method::POST, path, Some(request)).await
}

#[tokio::test]
async fn what_goes_with_a_compromise_is_refused_without_one() {
    let api = TestApi::start().await;
    let answer = rotate(&api, json!({"within": "5m"})).await;
    let problem = answer.problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid-value");
    assert_eq!(problem["pointer"], "/within");
}

#[tokio::test]
async fn an_authority_that_never_was_cannot_be_compromised() {
    let api = TestApi::start().await;
    let request = json!({"compromised": true, "generation": 7});
    let answer = rotate(&api, request).await;
    answer.problem(StatusCode::UNPROCESSABLE_ENTITY, "unknown-authority");
}

#[tokio::test]
async fn a_second_rotation_is_refused_while_one_is_under_way() {
    let api = TestApi::start().await;
    let begun = rotate(&api, json!({})).await;
    let begun = begun.is(StatusCode::ACCEPTED).json();
    assert_eq!(begun["items"][1]["phase"], "published");
    let again = rotate(&api, json!({})).await;
    again.problem(StatusCode::CONFLICT, "rotation-in-progress");
}

impl TestApi {
    /// Of a replica that may have renewed without the store for so long.
    fn with_spool(mut self, spooled_for: Duration) -> Self {
        let parts = &self.parts;
        let times = Times {
            lifetimes: Lifetimes::default(),
            refresh_hint: parts.refresh_hint,
            spooled_for,
        };
        let (registry, store) = (parts.registry.clone(), parts.store.clone());
        let (keeper, clock) = (parts.keeper.clone(), parts.clock.clone());
        self.parts.rotation = Rotation::new(registry, store, keeper, times, clock);
        self.router = router(&self.parts);
        self
    }

    async fn phases(&self) -> Vec<Phase> {
        let rotation = &self.parts.rotation;
        rotation.advance().await.unwrap();
        let lifecycle = rotation.lifecycle().await.unwrap();
        lifecycle.members().iter().map(|it| it.phase).collect()
    }
}

#[tokio::test]
async fn an_agent_that_may_have_been_renewed_without_the_store_is_waited_for() {
    let api = TestApi::start().await.with_spool(2 * HOUR);
    let now = api.parts.clock.now();
    let known = AgentRow {
        spiffe_id: "spiffe://corp.example/countersign/agent/x509pop/web-7"
            .parse()
            .unwrap(),
        attested_at: now,
        serial: SerialNumber::from_bytes(&[7]).unwrap(),
        not_after: now + HOUR,
        selectors: AgentSelectors::none(),
    };
    assert!(api.store.store.record_agent(known).await.unwrap());
    rotate(&api, json!({})).await.is(StatusCode::ACCEPTED);
    api.control.advance(4 * HOUR - Duration::from_secs(1));
    assert_eq!(api.phases().await, [Phase::Active, Phase::Published]);
    api.control.advance(Duration::from_secs(1));
    assert_eq!(api.phases().await, [Phase::Draining, Phase::Active]);
}

#[tokio::test]
async fn an_answer_names_the_published_roots() {
    let api = TestApi::start().await;
    let list = api.get("/v1/authorities").await;
    let root = &list.json()["items"][0];
    assert_eq!(root["phase"], "active");
    assert_eq!(
        root["sha256"],
        list.headers["countersign-roots"].to_str().unwrap()
    );
}

const RECOVERY: &str = "/v1/authorities/recovery";

struct Recoverable {
    api: TestApi,
    key: SigningKey,
    _public: TempDir,
}

impl Recoverable {
    async fn start() -> Self {
        let (key, public) = (SigningKey::generate(), tempfile::tempdir().unwrap());
        let public_key_file = public.path().join("recovery.pub");
        std::fs::write(&public_key_file, public_to_pem(key.public_key())).unwrap();
        let api = TestApi::start_with(
            TestStore::open().await,
            Some(RecoveryConfig { public_key_file }),
        )
        .await;
        Self {
            api,
            key,
            _public: public,
        }
    }

    fn active(&self) -> Vec<u8> {
        let roots = self.api.parts.registry.snapshot().roots().clone();
        roots.active().unwrap().1.der().to_vec()
    }

    fn foreign(&self) -> Vec<u8> {
        let now = self.api.parts.clock.now();
        let validity = Validity::try_new(now - HOUR, now + HOUR).unwrap();
        let (key, serial) = (
            SigningKey::generate(),
            SerialNumber::random(&mut SystemRandom),
        );
        let trust_domain = self.api.parts.store.trust_domain();
        let root = Authority::new_root(trust_domain, &key, validity, serial).unwrap();
        root.certificate().to_vec()
    }

    async fn publish(&self, number: u64, roots: Vec<Vec<u8>>) -> Answer {
        let now = self.api.parts.clock.now();
        let validity = Validity::try_new(now - HOUR, now + HOUR).unwrap();
        let trust_domain = self.api.parts.store.trust_domain().clone();
        let bundle = Bundle::new(trust_domain, 1, roots).unwrap();
        let update = BundleUpdate::new(number, validity, bundle, Vec::new()).unwrap();
        let request = json!({ "update": update.sign(&self.key) });
        self.api.call(Method::POST, RECOVERY, Some(request)).await
    }
}

#[tokio::test]
async fn without_a_recovery_key_nothing_is_published() {
    let api = TestApi::start().await;
    let request = json!({"update": "csu1.e30.e30"});
    let answer = api.call(Method::POST, RECOVERY, Some(request)).await;
    answer.problem(StatusCode::CONFLICT, "no-recovery-key");
}

#[tokio::test]
async fn an_update_that_leads_away_from_the_ca_is_refused() {
    let recoverable = Recoverable::start().await;
    let (active, foreign) = (recoverable.active(), recoverable.foreign());
    let answer = recoverable.publish(7, vec![foreign.clone()]).await;
    let problem = answer.problem(StatusCode::UNPROCESSABLE_ENTITY, "without-active-root");
    assert_eq!(problem["pointer"], "/update");
    let answer = recoverable.publish(7, vec![active, foreign]).await;
    answer.problem(StatusCode::UNPROCESSABLE_ENTITY, "unknown-root");
}

#[tokio::test]
async fn an_update_is_published_once_and_the_next_one_has_a_higher_number() {
    let recoverable = Recoverable::start().await;
    let active = recoverable.active();
    let published = recoverable.publish(7, vec![active.clone()]).await;
    let published = published.is(StatusCode::OK).json();
    assert_eq!(published["published"]["number"], 7);
    assert_eq!(published["nextNumber"], 8);
    for number in [6, 7] {
        let answer = recoverable.publish(number, vec![active.clone()]).await;
        answer.problem(StatusCode::UNPROCESSABLE_ENTITY, "bundle-update-refused");
    }
    let seen = recoverable.api.get(RECOVERY).await.json();
    assert_eq!(seen["roots"].as_array().unwrap().len(), 1);
}
