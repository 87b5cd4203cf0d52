//! The mesh that the agents are in: each holds one workload, a hundred of them serve a Service
//! together, and each calls the next three Services.

use anyhow::{Result, ensure};
use identity::JoinToken;
use serde_json::{Value, json};

use crate::operator::Operator;

const TOGETHER: usize = 100;
const CALLED: usize = 3;
const LIMITS: &str = "[limits]
attest_per_address_per_second = 1000000
attest_per_second = 1000000
issue_per_second = 1000000
agent_connections = 40000
";

/// Where one agent stands.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) token: JoinToken,
    pub(super) workload: String,
    pub(super) serves: String,
    pub(super) address: String,
    pub(super) calls: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Mesh {
    pub(super) operator: Operator,
    agents: usize,
}

impl Mesh {
    pub(super) async fn open(agents: usize) -> Result<Self> {
        ensure!(
            agents >= TOGETHER && agents.is_multiple_of(TOGETHER),
            "the number of agents is a multiple of {TOGETHER}"
        );
        let mesh = Self {
            operator: Operator::start(LIMITS).await?,
            agents,
        };
        for group in 0..mesh.groups() {
            let members = (1..=TOGETHER).map(|member| workload(group, member));
            let objects = members.chain([service(group), policy(group)]);
            mesh.operator.apply(objects.collect()).await?;
        }
        mesh.change(1).await?;
        Ok(mesh)
    }

    fn groups(&self) -> usize {
        self.agents / TOGETHER
    }

    pub(super) async fn places(&self) -> Result<Vec<Place>> {
        let mut places = Vec::with_capacity(self.agents);
        for group in 0..self.groups() {
            let called = (1..=CALLED).map(|next| (group + next) % self.groups());
            let called: Vec<_> = called.map(|group| format!("s{group}.fleet")).collect();
            let name = format!("h{group}");
            let tokens = self.operator.join_tokens(&name, TOGETHER).await?;
            places.extend(tokens.into_iter().zip(1..).map(|(token, member)| Place {
                token,
                workload: format!("fleet/w{group}-{member}"),
                serves: format!("s{group}"),
                address: format!("10.{}.{}.{member}", group / 256, group % 256),
                calls: called.clone(),
            }));
        }
        Ok(places)
    }

    /// A Baseline of the whole mesh: every agent hosts a Service that it is about.
    pub(super) async fn change(&self, turn: usize) -> Result<()> {
        let deny = match turn % 2 {
            0 => json!([{"id": "nobody", "from": [{"namespace": "nowhere"}]}]),
            _ => json!([]),
        };
        let baseline = json!({
            "apiVersion": "countersign.dev/v1",
            "kind": "Baseline",
            "metadata": {"name": "mesh"},
            "spec": {"scope": {"mesh": true}, "deny": deny, "allow": []},
        });
        self.operator.apply(vec![baseline]).await.map(drop)
    }
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "countersign.dev/v1",
        "kind": kind,
        "metadata": {"namespace": "fleet", "name": name},
        "spec": spec,
    })
}

fn workload(group: usize, member: usize) -> Value {
    let agent = format!("spiffe://mesh.bench/countersign/agent/join-token/h{group}-{member}");
    let spec = json!({"agents": [agent], "selectors": {"unix": {"uid": 1000}}});
    object("Workload", &format!("w{group}-{member}"), &spec)
}

fn service(group: usize) -> Value {
    let workloads = (1..=TOGETHER).map(|member| format!("fleet/w{group}-{member}"));
    let spec = json!({
        "workloads": workloads.collect::<Vec<_>>(),
        "ports": [{"name": "http", "port": 80, "protocol": "http", "app": 8080}],
    });
    object("Service", &format!("s{group}"), &spec)
}

fn policy(group: usize) -> Value {
    let spec = json!({
        "targets": [{"service": format!("s{group}"), "port": "http"}],
        "allow": [{"id": "fleet", "from": [{"namespace": "fleet"}]}],
    });
    object("Policy", &format!("p{group}"), &spec)
}
