//! What the demonstration writes into the mesh: three Workloads, a Service and a Policy.
//!
//! Refuses to start where any of these exists and is not a demonstration's: it would be changed
//! now and removed at the end.

use std::collections::BTreeMap;

use crypto::random::{Random, SystemRandom};
use data_encoding::HEXLOWER;
use identity::AgentId;
use runtime::exit::one_line;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Role, workload};
use crate::admin::{Client, ClientError};
use crate::objects;
use crate::output;
use crate::port_spec::PortSpec;

const ATTESTOR: &str = "join-token";
/// The `hint` by which a Workload is known to be a demonstration's.
const HINT: &str = "countersign-demo";
const TTL: &str = "10s";
const RULE: &str = "checkout-reads";

/// The demonstration's objects, and a token for each of its agents.
pub(super) struct Registration {
    agents: Vec<AgentId>,
    tokens: BTreeMap<&'static str, Zeroizing<String>>,
}

impl Registration {
    /// Writes the objects in one changeset, then makes the tokens.
    pub(super) async fn create(client: &Client, orders_port: u16) -> anyhow::Result<Self> {
        for role in Role::ALL {
            refuse_foreign(client, role).await?;
        }
        let suffix: [u8; 4] = SystemRandom.bytes();
        let suffix = HEXLOWER.encode(&suffix);
        let agents = Role::ALL
            .iter()
            .map(|role| {
                let name = format!("demo-{}-{suffix}", role.name());
                AgentId::new(client.trust_domain(), ATTESTOR, &name)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let changeset = json!({
            "reason": "countersign up --demo",
            "apply": objects(&agents, orders_port),
            "delete": [],
            "dryRun": false,
        });
        client.post("/v1/changesets", &changeset).await?;
        let mut registration = Self {
            agents,
            tokens: BTreeMap::new(),
        };
        if let Err(error) = registration.create_tokens(client).await {
            registration.withdraw(client).await;
            return Err(error);
        }
        Ok(registration)
    }

    /// The token of this program's agent.
    pub(super) fn token(&self, role: Role) -> Zeroizing<String> {
        self.tokens.get(role.name()).cloned().unwrap_or_default()
    }

    /// Removes everything. What cannot be removed is named on standard error.
    pub(super) async fn withdraw(&self, client: &Client) {
        for agent in &self.agents {
            let path = format!("/v1/agents/{ATTESTOR}/{}", agent.name());
            match client.delete(&path).await {
                Err(error) if error.status() != Some(404) => left(&agent.to_string(), &error),
                _ => {}
            }
        }
        let orders = workload(Role::Orders);
        let mut deletions = vec![
            objects::deletion("Policy", &orders),
            objects::deletion("Service", &orders),
        ];
        deletions.extend(Role::ALL.map(|role| objects::deletion("Workload", &workload(role))));
        let changeset = json!({
            "reason": "countersign up --demo: end",
            "apply": [],
            "delete": deletions,
            "dryRun": false,
        });
        if let Err(error) = client.post("/v1/changesets", &changeset).await {
            left("the demonstration's objects", &error);
        }
    }

    async fn create_tokens(&mut self, client: &Client) -> anyhow::Result<()> {
        for (role, agent) in Role::ALL.iter().zip(&self.agents) {
            let request = json!({ "agent": agent.name(), "workloads": [], "count": 1 });
            let mut answer = client.post("/v1/join-tokens", &request).await?;
            let Some(Value::String(token)) = answer.pointer_mut("/tokens/0/token").map(Value::take)
            else {
                anyhow::bail!("the CA made no join token");
            };
            self.tokens.insert(role.name(), Zeroizing::new(token));
        }
        Ok(())
    }
}

async fn refuse_foreign(client: &Client, role: Role) -> anyhow::Result<()> {
    let name = workload(role);
    let existing = match client.get(&format!("/v1/workloads/{name}")).await {
        Err(error) if error.status() == Some(404) => return Ok(()),
        answer => answer?,
    };
    if existing.pointer("/spec/hint").and_then(Value::as_str) == Some(HINT) {
        return Ok(());
    }
    anyhow::bail!(
        "this mesh has a Workload {name} of its own, which the demonstration would replace; give it another place with --state DIR"
    )
}

fn objects(agents: &[AgentId], orders_port: u16) -> Vec<Value> {
    let mut objects: Vec<Value> = Role::ALL
        .iter()
        .zip(agents)
        .map(|(role, agent)| {
            let mut object = objects::workload(&workload(*role), std::slice::from_ref(agent));
            object["spec"]["ttl"] = json!(TTL);
            object["spec"]["hint"] = json!(HINT);
            object
        })
        .collect();
    let orders = workload(Role::Orders);
    let port: PortSpec = format!("http={orders_port}")
        .parse()
        .expect("a bound port is not 0");
    objects.push(objects::service(&orders, &[port]));
    objects.push(objects::policy(&orders, RULE, &workload(Role::Checkout)));
    objects
}

fn left(what: &str, error: &ClientError) {
    output::remark(&format!(
        "note: {what} stay registered: {}",
        one_line(error)
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_valid_together() {
        let agent: AgentId = "spiffe://demo.example/countersign/agent/join-token/a"
            .parse()
            .unwrap();
        let parsed: Vec<_> = objects(&[agent.clone(), agent.clone(), agent], 4711)
            .iter()
            .map(|object| policy::parse_json(object).unwrap().key().to_string())
            .collect();
        assert_eq!(
            parsed,
            [
                "Workload shop/orders",
                "Workload shop/checkout",
                "Workload shop/intruder",
                "Service shop/orders",
                "Policy shop/orders",
            ]
        );
    }
}
