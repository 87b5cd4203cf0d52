//! An agent that was away while a compromised root was removed finds back by the recovery key, and
//! without one it is told why it does not.

use std::time::Duration;

use crypto::digest::Sha256;
use crypto::signing::SigningKey;
use data_encoding::BASE64;
use identity::Validity;
use identity::recovery::{BundleUpdate, public_to_pem};
use identity::x509::Bundle;
use mesh_tests::mesh::{DRAIN, Mesh};
use mesh_tests::waiting::eventually;
use serde_json::{Value, json};
use tempfile::TempDir;
use workload_agent::{Agent, AgentStatus};

const RECOVERY: &str = "/v1/authorities/recovery";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A mesh, an agent that is away, and a root that it has not seen go.
struct Away {
    mesh: Mesh,
    agent: workload_agent::Config,
    key: SigningKey,
    _public: TempDir,
}

impl Away {
    async fn while_a_root_is_removed(with_key: bool) -> Self {
        let (key, public) = (
            SigningKey::generate(),
            tempfile::tempdir().expect("a directory"),
        );
        let file = public.path().join("recovery.pub");
        std::fs::write(&file, public_to_pem(key.public_key())).expect("writable");
        let mesh = Mesh::configured(|config| {
            let recovery = ca_server::config::RecoveryConfig {
                public_key_file: file,
            };
            config.recovery = with_key.then_some(recovery);
        });
        let mesh = mesh.await;
        let agent = mesh.workload("shop/orders").join().await;
        let running = start(&mesh, &agent).await;
        until(&running, |status| {
            status.connected && status.acknowledged.is_some()
        })
        .await;
        running.drain(DRAIN).await.expect("an orderly end");
        let request = json!({"compromised": true, "within": "1s"});
        let rotated = mesh.admin().post("/v1/authorities/rotation", &request);
        rotated.await.expect("the rotation begins");
        eventually("the rotation ends", || async {
            let list = mesh.admin().get("/v1/authorities").await.ok()?;
            (list["settled"] == true).then_some(())
        })
        .await;
        Self {
            mesh,
            agent,
            key,
            _public: public,
        }
    }

    /// What the key's owner signs, away from any CA.
    async fn update(&self, key: &SigningKey) -> String {
        // For a moment the web listener may still show a chain to the root that has gone.
        let what = "the CA says what there is to sign";
        let request = eventually(what, || async {
            self.mesh.admin().get(RECOVERY).await.ok()
        });
        let request = request.await;
        let number = |field: &str| request[field].as_u64().expect("a number");
        let der = |root: &Value| {
            let text = root["certificate"].as_str().expect("base64");
            BASE64.decode(text.as_bytes()).expect("base64")
        };
        let roots = request["roots"].as_array().expect("a list");
        let trust_domain = request["trustDomain"].as_str().expect("text");
        let trust_domain = trust_domain.parse().expect("a trust domain");
        let roots = roots.iter().map(der).collect();
        let bundle = Bundle::new(trust_domain, number("bundleSequence"), roots);
        let now = self.mesh.time().now();
        let validity = Validity::try_new(now - DAY, now + DAY).expect("in order");
        let update = BundleUpdate::new(
            number("nextNumber"),
            validity,
            bundle.expect("a bundle"),
            vec![Sha256::of(b"a root of before")],
        );
        update.expect("an update").sign(key)
    }

    async fn publish(&self, update: &str) -> Result<Value, String> {
        let request = json!({"update": update});
        let published = self.mesh.admin().post(RECOVERY, &request).await;
        published.map_err(|error| error.to_string())
    }
}

async fn start(mesh: &Mesh, config: &workload_agent::Config) -> Agent {
    let agent = Agent::start(config.clone(), mesh.time());
    agent.await.expect("the agent starts")
}

async fn until(agent: &Agent, wanted: impl Fn(&AgentStatus) -> bool) -> AgentStatus {
    let status = agent.status();
    eventually("the agent is as wanted", || async {
        let now = status.borrow().clone();
        wanted(&now).then_some(now)
    })
    .await
}

#[tokio::test]
async fn without_a_recovery_key_an_agent_that_was_away_is_told_to_join_again() {
    let away = Away::while_a_root_is_removed(false).await;
    let refused = away.publish(&away.update(&away.key).await).await;
    assert!(refused.expect_err("no key").contains("no-recovery-key"));
    let agent = start(&away.mesh, &away.agent).await;
    let status = until(&agent, |status| status.problem.is_some()).await;
    let problem = status.problem.expect("waited for");
    assert_eq!(problem.code, "ca-not-trusted");
    let next_step = problem.next_step.expect("a way out");
    assert!(next_step.contains("join it again"), "{next_step}");
    assert!(!status.connected);
}

#[tokio::test]
async fn an_agent_that_was_away_while_a_root_was_removed_recovers_by_the_key_it_has_pinned() {
    let away = Away::while_a_root_is_removed(true).await;
    let thiefs = away.update(&SigningKey::generate()).await;
    let refused = away.publish(&thiefs).await;
    assert!(
        refused
            .expect_err("another key")
            .contains("bundle-update-refused")
    );
    let update = away.update(&away.key).await;
    away.publish(&update).await.expect("published");
    let replayed = away.publish(&update).await;
    assert!(
        replayed
            .expect_err("replayed")
            .contains("bundle-update-refused")
    );
    let agent = start(&away.mesh, &away.agent).await;
    let back = until(&agent, |status| {
        status.connected && !status.identities.is_empty()
    });
    assert_eq!(back.await.problem, None);
}

#[tokio::test]
async fn an_update_that_is_put_onto_the_host_needs_no_ca() {
    let away = Away::while_a_root_is_removed(true).await;
    let update = away.update(&away.key).await;
    let file = away.agent.state_dir.join("bundle-update");
    std::fs::write(file, update).expect("writable");
    let agent = start(&away.mesh, &away.agent).await;
    let back = until(&agent, |status| {
        status.connected && !status.identities.is_empty()
    });
    assert_eq!(back.await.problem, None);
}
