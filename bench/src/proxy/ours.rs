//! Our pair: a real CA, one host's agent, and the proxies of `shop/checkout` and `shop/orders` with
//! the product's defaults, but for the access log, which is off as it is for the peers.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use mesh_tests::processes::{Process, free_address};
use mesh_tests::waiting::DEADLINE;
use nix::unistd::getuid;
use policy::Resource;
use runtime::files::{private_directory, write_private};
use serde_json::Value;
use tokio::time::{Duration, Instant, sleep};

use super::pair::{Door, Doors, Pair};
use crate::load::backend::Backend;
use crate::load::http1::{Callers, Request};
use crate::load::{h2, tcp};
use crate::operator::Operator;

const WORKLOADS: [&str; 3] = ["checkout", "orders", "intruder"];
const HOST: &str = "orders.shop.mesh.internal";

const OBJECTS: &str = r#"
apiVersion: countersign.dev/v1
kind: Service
metadata: {namespace: shop, name: orders}
spec:
  workloads: [shop/orders]
  ports:
  - {name: http, port: 80, protocol: http}
  - {name: h2, port: 81, protocol: http2}
  - {name: tcp, port: 82, protocol: tcp}
---
apiVersion: countersign.dev/v1
kind: Policy
metadata: {namespace: shop, name: h2}
spec:
  targets: [{service: orders, port: h2}]
  allow: [{id: checkout, from: [{workload: shop/checkout}], to: {http: [{methods: [GET], path: /}]}}]
---
apiVersion: countersign.dev/v1
kind: Policy
metadata: {namespace: shop, name: tcp}
spec:
  targets: [{service: orders, port: tcp}]
  allow: [{id: checkout, from: [{workload: shop/checkout}]}]
"#;

/// What may differ between two meshes.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Life of the workloads' leaves; they are renewed at half of it.
    pub(crate) life: &'static str,
    /// Of each proxy.
    pub(crate) workers: usize,
}

/// Running as long as this is.
#[derive(Debug)]
pub(crate) struct Ours {
    pub(crate) pair: Pair,
    pub(crate) operator: Operator,
    directory: PathBuf,
    _processes: [Process; 3],
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            life: "23h",
            workers: 1,
        }
    }
}

impl Settings {
    pub(crate) fn with_workers(workers: usize) -> Self {
        Self {
            workers,
            ..Self::default()
        }
    }
}

impl Ours {
    /// Returns when every door is open.
    pub(crate) async fn start(backend: &Backend, settings: &Settings) -> Result<Self> {
        let operator = Operator::start("").await?;
        let mut objects = parsed(OBJECTS)?;
        for name in WORKLOADS {
            objects.extend(parsed(&workload(name, settings.life))?);
        }
        objects.extend(parsed(&permission(0))?);
        operator.apply(objects).await?;
        let names = WORKLOADS.map(|name| format!("shop/{name}"));
        let token = operator
            .join_token("host", &names.each_ref().map(String::as_str))
            .await?;
        let directory = operator.directory().join("host");
        private_directory(&directory)?;
        write_private(directory.join("join-token"), token.to_string().as_bytes())?;
        let agent = agent(&directory, &names, backend);
        let agent = Process::start("countersign-agent", &directory, "agent", &agent);
        let [mesh, mesh_h2, mesh_tcp, http, tcp] = [(); 5].map(|()| free_address());
        let ports = [mesh, mesh_h2, mesh_tcp];
        let inbound = proxy(&directory, "orders", settings.workers, &receiving(ports));
        let outbound = proxy(
            &directory,
            "checkout",
            settings.workers,
            &calling(http, tcp),
        );
        let [inbound, outbound] = [("orders", inbound), ("checkout", outbound)]
            .map(|(name, config)| Process::start("countersign-proxy", &directory, name, &config));
        let door = |authority: String| Door {
            address: http,
            authority,
        };
        let pair = Pair {
            name: "ours",
            doors: Doors {
                http1: door(HOST.to_owned()),
                http2: Some(door(format!("{HOST}:81"))),
                tcp,
                mesh,
            },
            outbound: outbound.pid(),
            inbound: inbound.pid(),
        };
        let processes = [agent, inbound, outbound];
        ready(&pair, &processes).await?;
        Ok(Self {
            pair,
            operator,
            directory,
            _processes: processes,
        })
    }

    pub(crate) fn workload_api(&self) -> PathBuf {
        self.directory.join("workload.sock")
    }

    /// Applies a policy that differs from the last one by a name alone.
    pub(crate) async fn change_policy(&self, number: usize) -> Result<()> {
        let objects = parsed(&permission(number))?;
        self.operator.apply(objects).await.map(drop)
    }
}

/// Until a call through each door is answered.
async fn ready(pair: &Pair, processes: &[Process; 3]) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let Err(error) = call(pair).await else {
            return Ok(());
        };
        if Instant::now() > deadline {
            let said = processes.each_ref().map(Process::said).join("\n");
            bail!("our pair does not carry calls: {error:#}; agent and proxies said:\n{said}");
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn call(pair: &Pair) -> Result<()> {
    let http1 = &pair.doors.http1;
    Callers::connect(http1.address, 1, &Request::get(&http1.authority))
        .await
        .context("HTTP/1.1")?;
    let http2 = pair.doors.http2.as_ref().context("no door for HTTP/2")?;
    h2::Callers::connect(http2.address, &http2.authority, 1)
        .await
        .context("HTTP/2")?;
    tcp::up(pair.doors.tcp, 1).await.context("TCP")
}

fn workload(name: &str, life: &str) -> String {
    let uid = getuid();
    format!(
        "
apiVersion: countersign.dev/v1
kind: Workload
metadata: {{namespace: shop, name: {name}}}
spec: {{selectors: {{unix: {{uid: {uid}}}}}, dnsNames: [{name}.mesh.bench], ttl: {life}}}
"
    )
}

fn permission(number: usize) -> String {
    format!(
        "
apiVersion: countersign.dev/v1
kind: Policy
metadata: {{namespace: shop, name: http}}
spec:
  targets: [{{service: orders, port: http}}]
  allow:
  - id: checkout-{number}
    from: [{{workload: shop/checkout}}]
    to: {{http: [{{methods: [GET, POST], path: /}}, {{methods: [GET], path: \"/bytes/{{n}}\"}}]}}
"
    )
}

fn parsed(yaml: &str) -> Result<Vec<Value>> {
    let objects = policy::parse_documents(yaml)?;
    Ok(objects.iter().map(Resource::to_json).collect())
}

fn agent(directory: &Path, names: &[String], backend: &Backend) -> String {
    let at = directory.display();
    let uid = getuid();
    let ports = [
        ("http", backend.http1),
        ("h2", backend.http2),
        ("tcp", backend.tcp),
    ];
    let applications = ports.map(|(port, address)| {
        format!(
            "[[applications]]\nservice = \"shop/orders\"\nport = \"{port}\"\naddress = \"{address}\"\n"
        )
    });
    format!(
        r#"state_dir = "{at}/state"

[join]
token_file = "{at}/join-token"

[workload_api]
socket = "{at}/workload.sock"

[feed]
socket = "{at}/feed.sock"

[[proxies]]
uid = {uid}
workloads = {names:?}

{applications}
[log]
level = "warn"
"#,
        applications = applications.concat()
    )
}

fn proxy(directory: &Path, workload: &str, workers: usize, sections: &str) -> String {
    format!(
        r#"workload = "shop/{workload}"
feed = "{feed}"
{process}
{sections}
[access_log]
format = "off"

[limits]
connections = 15000
connections_per_source = 15000

[log]
level = "warn"
"#,
        feed = directory.join("feed.sock").display(),
        process = match workers {
            1 => String::new(),
            more => format!("\n[proxy]\nworkers = {more}\n"),
        },
    )
}

fn receiving(ports: [SocketAddr; 3]) -> String {
    let [http, h2, tcp] = ports.map(|address| address.port());
    format!(
        "[mesh.ports]\n\"shop/orders:http\" = {http}\n\"shop/orders:h2\" = {h2}\n\
         \"shop/orders:tcp\" = {tcp}\n"
    )
}

fn calling(http: SocketAddr, tcp: SocketAddr) -> String {
    format!(
        "[outbound]\nlisten = \"{http}\"\n\n[[reach]]\nservice = \"shop/orders\"\nport = \"tcp\"\n\
         listen = \"{tcp}\"\n"
    )
}
