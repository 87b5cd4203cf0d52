//! What a development run adds to the mesh, and takes away again at its end.
//!
//! Invariant: only what this run created is removed, and only while nobody else uses it.

use anyhow::Context;
use crypto::random::{Random, SystemRandom};
use data_encoding::HEXLOWER;
use identity::{AgentId, QualifiedName};
use runtime::exit::one_line;
use rustix::process::geteuid;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::place::{Place, Record};
use crate::admin::{Client, ClientError};
use crate::objects;
use crate::output::{self, cell};
use crate::port_spec::PortSpec;

const ATTESTOR: &str = "join-token";
/// How often a concurrent change of the Workload is met by reading it again.
const ATTEMPTS: usize = 5;

/// The traces of one run in the CA.
pub(super) struct Registration {
    client: Client,
    workload: QualifiedName,
    agent: AgentId,
    token: Zeroizing<String>,
    created: Vec<String>,
}

impl Registration {
    /// A name that no other run has.
    pub(super) fn agent_name(workload: &QualifiedName) -> String {
        let suffix: [u8; 4] = SystemRandom.bytes();
        format!("run-{}-{}", workload.name, HEXLOWER.encode(&suffix))
    }

    /// Creates what is missing of Workload and Service, and a token for an agent of this run.
    pub(super) async fn create(
        client: Client,
        workload: &QualifiedName,
        ports: &[PortSpec],
        (agent, place): (&str, &Place),
    ) -> anyhow::Result<Self> {
        let created = create_missing(&client, workload, ports).await?;
        let record = Record {
            workload: workload.clone(),
            agent: agent.to_owned(),
            created,
        };
        let recorded = place.record(&record);
        let mut registration = Self::of(client, record)?;
        let token = match recorded {
            Ok(()) => registration.create_token().await,
            Err(error) => Err(error),
        };
        match token {
            Ok(token) => registration.token = token,
            Err(error) => {
                registration.withdraw().await;
                return Err(error);
            }
        }
        Ok(registration)
    }

    /// What a run has left, so that it can be withdrawn.
    pub(super) fn of(client: Client, record: Record) -> anyhow::Result<Self> {
        Ok(Self {
            agent: AgentId::new(client.trust_domain(), ATTESTOR, &record.agent)?,
            client,
            workload: record.workload,
            token: Zeroizing::default(),
            created: record.created,
        })
    }

    pub(super) fn token(&self) -> Zeroizing<String> {
        self.token.clone()
    }

    /// Removes what this run created. What cannot be removed is named on standard error.
    pub(super) async fn withdraw(self) {
        let path = format!("/v1/agents/{ATTESTOR}/{}", self.agent.name());
        match self.client.delete(&path).await {
            Err(error) if error.status() != Some(404) => self.left("the agent", &error),
            _ => {}
        }
        if let Err(error) = self.leave_workload().await {
            self.left("the Workload", &error);
        }
    }

    async fn create_token(&self) -> anyhow::Result<Zeroizing<String>> {
        let request = json!({
            "agent": self.agent.name(),
            "workloads": [self.workload.to_string()],
            "count": 1,
        });
        let mut answer = self.client.post("/v1/join-tokens", &request).await?;
        match answer.pointer_mut("/tokens/0/token").map(Value::take) {
            Some(Value::String(token)) => Ok(Zeroizing::new(token)),
            _ => anyhow::bail!("the CA made no join token; do its version and this one fit?"),
        }
    }

    /// The last agent of a Workload that this run created takes it away; any other agent only
    /// leaves it.
    async fn leave_workload(&self) -> Result<(), ClientError> {
        let path = format!("/v1/workloads/{}", self.workload);
        for _ in 0..ATTEMPTS {
            let (mut workload, tag) = match self.client.get_tagged(&path).await {
                Err(error) if error.status() == Some(404) => return Ok(()),
                answer => answer?,
            };
            let others = other_agents(&workload, &self.agent);
            let last = others.is_empty() && self.created.iter().any(|kind| kind == "Workload");
            if last && self.delete_created().await {
                return Ok(());
            }
            workload["spec"]["agents"] = json!(others);
            workload
                .as_object_mut()
                .map(|fields| fields.remove("revision"));
            match self.client.put(&path, &workload, &tag).await {
                Err(error) if error.status() == Some(412) => {}
                answer => return answer.map(drop),
            }
        }
        Ok(())
    }

    /// Whether it was removed. Something else may need it by now, such as a Policy for the Service.
    async fn delete_created(&self) -> bool {
        let deletion = |kind: &String| objects::deletion(kind, &self.workload);
        let changeset = json!({
            "reason": format!("countersign run: end of {}", self.agent.name()),
            "apply": [],
            "delete": self.created.iter().map(deletion).collect::<Vec<_>>(),
            "dryRun": false,
        });
        let deleted = self.client.post("/v1/changesets", &changeset).await;
        if let Err(error) = &deleted {
            self.left(&self.created.join(" and "), error);
        }
        deleted.is_ok()
    }

    fn left(&self, what: &str, error: &ClientError) {
        let (workload, reason) = (&self.workload, one_line(error));
        output::remark(&format!(
            "note: {what} of {workload} stay registered: {reason}"
        ));
    }
}

async fn create_missing(
    client: &Client,
    workload: &QualifiedName,
    ports: &[PortSpec],
) -> anyhow::Result<Vec<String>> {
    let mut missing = Vec::new();
    let mut created = Vec::new();
    match find(client, "workloads", workload).await? {
        Some(existing) => check_workload(workload, &existing)?,
        None => {
            missing.push(objects::workload(workload, &[]));
            created.push("Workload".to_owned());
        }
    }
    match find(client, "services", workload).await? {
        Some(existing) => check_service(workload, &existing, ports)?,
        None if ports.is_empty() => {}
        None => {
            missing.push(objects::service(workload, ports));
            created.push("Service".to_owned());
        }
    }
    if missing.is_empty() {
        return Ok(created);
    }
    let changeset = json!({
        "reason": format!("countersign run --as {workload}"),
        "apply": missing,
        "delete": [],
        "dryRun": false,
    });
    client
        .post("/v1/changesets", &changeset)
        .await
        .context("cannot register the program")?;
    let kinds = created.join(" and ");
    output::remark(&format!(
        "development: created {kinds} {workload} with the administrator's credential; removed at the end"
    ));
    Ok(created)
}

async fn find(
    client: &Client,
    plural: &str,
    name: &QualifiedName,
) -> Result<Option<Value>, ClientError> {
    match client.get(&format!("/v1/{plural}/{name}")).await {
        Err(error) if error.status() == Some(404) => Ok(None),
        answer => answer.map(Some),
    }
}

fn check_workload(name: &QualifiedName, existing: &Value) -> anyhow::Result<()> {
    let own = geteuid().as_raw();
    let uid = existing
        .pointer("/spec/selectors/unix/uid")
        .and_then(Value::as_u64);
    if uid.is_some_and(|uid| uid != u64::from(own)) {
        let uid = cell(existing, "/spec/selectors/unix/uid");
        anyhow::bail!(
            "Workload {name} is for programs of uid {uid}, and this is uid {own}; run it as that user, or change the Workload"
        );
    }
    Ok(())
}

fn check_service(name: &QualifiedName, existing: &Value, ports: &[PortSpec]) -> anyhow::Result<()> {
    let known = existing.pointer("/spec/ports").and_then(Value::as_array);
    for port in ports {
        let is_it = |known: &&Value| known["name"] == port.name.as_str();
        match known.into_iter().flatten().find(is_it) {
            None => anyhow::bail!(
                "Service {name} exists and has no port `{}`; add it with `countersign apply`, or use the name of one it has",
                port.name
            ),
            Some(known) if known["protocol"] != port.protocol.as_str() => anyhow::bail!(
                "Service {name} exists and declares port `{}` as {}; write --port {}={}/{}",
                port.name,
                cell(known, "/protocol"),
                port.name,
                port.app,
                cell(known, "/protocol"),
            ),
            Some(_) => {}
        }
    }
    Ok(())
}

fn other_agents(workload: &Value, own: &AgentId) -> Vec<String> {
    let agents = workload.pointer("/spec/agents").and_then(Value::as_array);
    let own = own.to_string();
    let all = agents.into_iter().flatten().filter_map(Value::as_str);
    all.filter(|agent| *agent != own)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders() -> QualifiedName {
        "shop/orders".parse().unwrap()
    }

    #[test]
    fn workload_of_another_user_is_refused() {
        let uid = geteuid().as_raw() + 1;
        let existing = json!({ "spec": { "selectors": { "unix": { "uid": uid } } } });
        assert!(check_workload(&orders(), &existing).is_err());
    }

    #[test]
    fn port_that_the_service_lacks_or_declares_otherwise_is_refused() {
        let existing = json!({ "spec": { "ports": [{ "name": "http", "protocol": "http" }] } });
        let check = |port: &str| check_service(&orders(), &existing, &[port.parse().unwrap()]);
        assert!(
            check("web=8080")
                .unwrap_err()
                .to_string()
                .contains("has no port `web`")
        );
        assert!(
            check("http=8080/tcp")
                .unwrap_err()
                .to_string()
                .contains("--port http=8080/http")
        );
        assert!(check("http=9090").is_ok());
    }

    #[test]
    fn other_agents_stay_in_the_workload() {
        let own: AgentId = "spiffe://a.example/countersign/agent/join-token/me"
            .parse()
            .unwrap();
        let other = "spiffe://a.example/countersign/agent/join-token/other";
        let workload = json!({ "spec": { "agents": [own.to_string(), other] } });
        assert_eq!(other_agents(&workload, &own), [other]);
    }
}
