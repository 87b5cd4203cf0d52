//! Starts a CA in a directory of its own, with a clock that is moved by hand.

use std::time::Duration;

use crypto::digest::Sha256;
use crypto::random::{Random, SystemRandom};
use data_encoding::HEXLOWER;
use identity::{AgentId, SpiffeId, TrustDomain};
use runtime::{Clock, ClockControl};
use tempfile::TempDir;

use crate::app::{Ca, StartError};
use crate::config::Config;
use crate::registry::Proposal;
use crate::store::{
    Authorship, Changes, NewJoinToken, NewRevocation, RevocationChange, RevocationSubject,
};

/// A running CA.
pub(super) struct TestCa {
    pub(super) ca: Ca,
    pub(super) clock: Clock,
    pub(super) control: ClockControl,
    pub(super) config: Config,
    pub(super) directory: TempDir,
}

/// A join token as its agent holds it.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) id: String,
    pub(super) secret: [u8; 32],
}

pub(super) fn trust_domain() -> TrustDomain {
    "td.test".parse().unwrap()
}

pub(super) fn agent_id(name: &str) -> SpiffeId {
    let agent = AgentId::new(&trust_domain(), "join-token", name).unwrap();
    agent.spiffe_id().clone()
}

pub(super) fn workload_id(name: &str) -> SpiffeId {
    format!("spiffe://td.test/ns/shop/sa/{name}")
        .parse()
        .unwrap()
}

impl TestCa {
    pub(super) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(super) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::try_start_with(change).await.unwrap()
    }

    pub(super) async fn try_start_with(
        change: impl FnOnce(&mut Config),
    ) -> Result<Self, StartError> {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::for_directory(trust_domain(), directory.path());
        change(&mut config);
        let (clock, control) = Clock::adjustable();
        let ca = Ca::start(config.clone(), clock.clone()).await?;
        Ok(Self {
            ca,
            clock,
            control,
            config,
            directory,
        })
    }

    /// Drains, and starts on the same files with `change` made to the configuration.
    pub(super) async fn restart_with(
        self,
        change: impl FnOnce(&mut Config),
    ) -> Result<Self, StartError> {
        self.ca.drain(Duration::from_secs(10)).await.unwrap();
        let mut config = self.config;
        change(&mut config);
        let ca = Ca::start(config.clone(), self.clock.clone()).await?;
        Ok(Self {
            ca,
            clock: self.clock,
            control: self.control,
            config,
            directory: self.directory,
        })
    }

    /// As `DELETE /v1/agents/…` does.
    pub(super) async fn forget(&self, agent: &str) {
        let agent = agent_id(agent);
        assert!(self.ca.store.forget_agent(&agent).await.unwrap());
        self.ca.presence.disconnect(&agent);
    }

    pub(super) async fn token(&self, agent: &str) -> Token {
        let id: [u8; 8] = SystemRandom.bytes();
        let token = Token {
            id: HEXLOWER.encode(&id),
            secret: SystemRandom.bytes(),
        };
        let now = self.clock.now();
        let row = NewJoinToken {
            id: token.id.clone(),
            secret_sha256: Sha256::of(&token.secret),
            agent_id: agent_id(agent),
            cidr: None,
            author: "test".to_owned(),
            created_at: now,
            expires_at: now + Duration::from_secs(600),
        };
        self.ca.store.create_join_tokens(vec![row]).await.unwrap();
        token
    }

    /// Applies a document of objects; returns the revision's number.
    pub(super) async fn apply(&self, yaml: &str) -> u64 {
        let upserts = policy::parse_documents(yaml).unwrap();
        self.propose(Changes {
            upserts,
            ..Changes::default()
        })
        .await
    }

    /// What `countersign revoke` does.
    pub(super) async fn revoke(&self, subject: RevocationSubject) {
        let revoke = NewRevocation {
            subject,
            expires_at: None,
        };
        self.change_revocation(RevocationChange::Revoke(revoke))
            .await;
    }

    pub(super) async fn lift(&self, subject: RevocationSubject) {
        self.change_revocation(RevocationChange::Lift(subject))
            .await;
    }

    async fn change_revocation(&self, change: RevocationChange) {
        let authorship = Authorship {
            author: "test".to_owned(),
            reason: "stolen".to_owned(),
            at: self.clock.now(),
        };
        let registry = &self.ca.registry;
        let changed = registry.change_revocation(change, Vec::new(), authorship);
        assert!(changed.await.unwrap().changed);
    }

    pub(super) async fn propose(&self, changes: Changes) -> u64 {
        let proposal = Proposal {
            changes,
            author: "test".to_owned(),
            reason: String::new(),
            dry_run: false,
        };
        self.ca
            .registry
            .apply(proposal)
            .await
            .unwrap()
            .revision
            .number
    }
}

/// A workload of namespace `shop`, held by these agents.
pub(super) fn workload(name: &str, agents: &[&str]) -> String {
    let agents: Vec<_> = agents
        .iter()
        .map(|agent| agent_id(agent).to_string())
        .collect();
    format!(
        "---\napiVersion: countersign.dev/v1\nkind: Workload\n\
         metadata: {{namespace: shop, name: {name}}}\n\
         spec: {{agents: [\"{}\"], selectors: {{unix: {{uid: 1001}}}}, \
         dnsNames: [{name}.shop.mesh.internal]}}\n",
        agents.join("\", \"")
    )
}

/// A Service of namespace `shop`, served by the workload of its name.
pub(super) fn service(name: &str) -> String {
    format!(
        "---\napiVersion: countersign.dev/v1\nkind: Service\n\
         metadata: {{namespace: shop, name: {name}}}\n\
         spec: {{workloads: [shop/{name}], ports: [{{name: http, port: 80, protocol: http}}]}}\n"
    )
}

/// A Policy for the Service of its name, which lets `caller` in.
pub(super) fn policy(name: &str, caller: &str) -> String {
    format!(
        "---\napiVersion: countersign.dev/v1\nkind: Policy\n\
         metadata: {{namespace: shop, name: {name}}}\n\
         spec: {{targets: [{{service: {name}, port: http}}], \
         allow: [{{id: callers, from: [{{workload: shop/{caller}}}]}}]}}\n"
    )
}
