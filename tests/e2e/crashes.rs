//! kill -9 of the real binaries.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use identity::JoinToken;
use mesh_tests::operator::CaProcess;
use mesh_tests::processes::Process;
use mesh_tests::stranger::{Joined, Line, join, key_and_csr, verified};
use mesh_tests::waiting::{DEADLINE, eventually};
use proto::agent::v1::issue_result::Result as Issued;
use runtime::Clock;
use runtime::files::{private_directory, write_private};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use workload_api::{Endpoint, X509Source};

const ORDERS: &str = "spiffe://mesh.test/ns/shop/sa/orders";
const LINES: usize = 4;
/// Fewer than one page of the issuance records, with what comes before the crash is noticed.
const ENOUGH: usize = 100;

#[tokio::test]
async fn every_certificate_that_an_agent_got_is_on_record_after_a_crash() {
    let ca = CaProcess::start().await;
    let agent = joined(&ca).await;
    let (report, mut reports) = mpsc::unbounded_channel();
    let mut lines = JoinSet::new();
    for _ in 0..LINES {
        let line = Line::mutual(ca.agents_address(), &agent, &Clock::system()).await;
        lines.spawn(issue_until_it_fails(line, agent.clone(), report.clone()));
    }
    drop(report);
    let mut got = BTreeSet::new();
    while got.len() < ENOUGH {
        let serial = timeout(DEADLINE, reports.recv()).await.expect("in time");
        got.insert(serial.expect("the CA issues"));
    }
    let ca = ca.crash_and_restart().await;
    while let Some(serial) = reports.recv().await {
        got.insert(serial);
    }
    let missing: Vec<_> = got.difference(&recorded(&ca).await).cloned().collect();
    assert!(missing.is_empty(), "issued without a record: {missing:?}");
}

#[tokio::test]
async fn after_a_crash_the_ca_issues_again_to_the_agents_that_it_knew() {
    let ca = CaProcess::start().await;
    let agent = joined(&ca).await;
    let ca = ca.crash_and_restart().await;
    let line = Line::mutual(ca.agents_address(), &agent, &Clock::system()).await;
    let serial = issue(&line, &agent).await.expect("it is still an agent");
    assert!(recorded(&ca).await.contains(&serial));
}

#[tokio::test]
async fn an_agent_killed_while_the_ca_is_down_serves_the_same_certificate() {
    let ca = CaProcess::start().await;
    ca.register("shop", "orders").await;
    let token = ca.join_token("web-7", &["shop/orders"]).await;
    let host = Host::prepare(ca.directory(), &token);
    let agent = host.start();
    let before = host.served(&agent).await;
    let _directory = ca.crash().await;
    agent.kill().await;
    let agent = host.start();
    assert_eq!(host.served(&agent).await, before);
}

async fn joined(ca: &CaProcess) -> Joined {
    ca.register("shop", "orders").await;
    let token = ca.join_token("web-7", &["shop/orders"]).await;
    join(&token, &Clock::system()).await
}

async fn issue_until_it_fails(line: Line, agent: Joined, got: mpsc::UnboundedSender<String>) {
    while let Some(serial) = issue(&line, &agent).await {
        got.send(serial).expect("the test listens");
    }
}

/// The serial of a new certificate, unless the CA is gone.
async fn issue(line: &Line, agent: &Joined) -> Option<String> {
    let (key, csr) = key_and_csr();
    match line.issue(ORDERS, csr).await.ok()?.result {
        Some(Issued::Svid(svid)) => {
            let svid = verified(svid, key, &agent.bundles, &Clock::system());
            Some(svid.svid().serial().to_string())
        }
        other => panic!("not issued: {other:?}"),
    }
}

async fn recorded(ca: &CaProcess) -> BTreeSet<String> {
    let path = format!("/v1/svids?spiffeId={ORDERS}&limit=1000");
    let answer = ca.admin().get(&path).await.expect("the CA answers");
    let items = answer["items"].as_array().expect("a list");
    let serials = items.iter().filter_map(|item| item["serial"].as_str());
    serials.map(str::to_owned).collect()
}

/// Where an agent's files are.
struct Host(PathBuf);

impl Host {
    fn prepare(directory: &Path, token: &JoinToken) -> Self {
        let directory = directory.join("host");
        private_directory(&directory).expect("a directory");
        let token_file = directory.join("join-token");
        write_private(token_file, token.to_string().as_bytes()).expect("writable");
        Self(directory)
    }

    fn start(&self) -> Process {
        let at = self.0.display();
        let config = format!(
            "state_dir = \"{at}/state\"\n\
             [join]\ntoken_file = \"{at}/join-token\"\n\
             [workload_api]\nsocket = \"{at}/workload.sock\"\n\
             [log]\nlevel = \"warn\"\n"
        );
        Process::start("countersign-agent", &self.0, "agent", &config)
    }

    /// The serial of what the Workload API hands out.
    async fn served(&self, agent: &Process) -> String {
        let socket = self.0.join("workload.sock");
        eventually("the Workload API is served", || async {
            tokio::net::UnixStream::connect(&socket).await.ok()
        })
        .await;
        let source = X509Source::start(Endpoint::Unix(socket), Clock::system());
        let context = timeout(DEADLINE, source.wait_ready()).await;
        let context = context.unwrap_or_else(|_| panic!("the agent said: {}", agent.said()));
        let context = context.expect("an identity");
        let identity = context.default_identity();
        identity.svid.svid().serial().to_string()
    }
}
