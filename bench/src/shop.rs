//! The demonstration's mesh on the release binaries: a CA, one host's agent, and a proxy beside each
//! of `shop/orders`, `shop/checkout` and `shop/intruder`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use http::StatusCode;
use mesh_tests::processes::{Process, free_address};
use mesh_tests::waiting::DEADLINE;
use nix::unistd::getuid;
use policy::Resource;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::operator::Operator;
use crate::sidecar::{Host, Sidecar};

pub(crate) const ORDERS: &str = "http://orders.shop.mesh.internal/";
pub(crate) const WORKLOADS: [&str; 3] = ["shop/orders", "shop/checkout", "shop/intruder"];

const PAUSE: Duration = Duration::from_millis(2);

const CHECKOUT_MAY_CALL: &str = r#"
apiVersion: countersign.dev/v1
kind: Policy
metadata: {namespace: shop, name: orders}
spec:
  targets: [{service: orders, port: http}]
  allow:
  - id: checkout
    from: [{workload: shop/checkout}]
    to: {http: [{methods: [GET], path: "/"}]}
"#;

const NOBODY_MAY_CALL: &str = r#"
apiVersion: countersign.dev/v1
kind: Policy
metadata: {namespace: shop, name: orders}
spec:
  targets: [{service: orders, port: http}]
  allow: []
"#;

const SERVICE: &str = r#"
apiVersion: countersign.dev/v1
kind: Service
metadata: {namespace: shop, name: orders}
spec:
  workloads: [shop/orders]
  ports: [{name: http, port: 80, protocol: http, app: 8080}]
"#;

/// Running; what is not stopped in order is killed when dropped.
#[derive(Debug)]
pub(crate) struct Shop {
    pub(crate) operator: Operator,
    pub(crate) host: Host,
    pub(crate) agent: Process,
    pub(crate) orders: Sidecar,
    pub(crate) checkout: Sidecar,
    pub(crate) intruder: Sidecar,
    /// From starting the CA to the first permitted call's answer.
    pub(crate) up_after: Duration,
}

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permitted {
    Checkout,
    Nobody,
}

impl Shop {
    /// Returns when `shop/checkout` has been answered by `application`.
    pub(crate) async fn open(application: SocketAddr) -> Result<Self> {
        let started = Instant::now();
        let operator = Operator::start("").await?;
        let workloads: Vec<String> = WORKLOADS.into_iter().map(workload).collect();
        let objects = workloads
            .iter()
            .map(String::as_str)
            .chain([SERVICE, CHECKOUT_MAY_CALL]);
        operator.apply(objects.flat_map(parsed).collect()).await?;
        let token = operator.join_token("host", &WORKLOADS).await?;
        let host = Host::prepare(operator.directory(), &token, &WORKLOADS, application)?;
        let mesh_address = free_address();
        let agent = host.start();
        let orders = host.sidecar("shop/orders", Some(mesh_address.port()));
        let checkout = host.sidecar("shop/checkout", None);
        let intruder = host.sidecar("shop/intruder", None);
        let mut shop = Self {
            operator,
            host,
            agent,
            orders,
            checkout,
            intruder,
            up_after: Duration::ZERO,
        };
        shop.answered(StatusCode::OK).await?;
        shop.up_after = started.elapsed();
        Ok(shop)
    }

    /// Calls as `shop/checkout` until the answer is `expected`.
    pub(crate) async fn answered(&self, expected: StatusCode) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let answer = self.checkout.call(ORDERS).await;
            if matches!(answer, Ok(status) if status == expected) {
                return Ok(());
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "the last answer was {answer:?}, not {expected}; the agent said:\n{}\nthe proxy:\n{}",
                self.agent.said(),
                self.checkout.process.said(),
            );
            sleep(PAUSE).await;
        }
    }

    /// The revision.
    pub(crate) async fn permit(&self, who: Permitted) -> Result<String> {
        let policy = match who {
            Permitted::Checkout => CHECKOUT_MAY_CALL,
            Permitted::Nobody => NOBODY_MAY_CALL,
        };
        self.operator.apply(parsed(policy)).await
    }
}

fn parsed(yaml: &str) -> Vec<Value> {
    let objects = policy::parse_documents(yaml).expect("our own objects are valid");
    objects.iter().map(Resource::to_json).collect()
}

fn workload(name: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("namespace/name");
    let uid = getuid();
    format!(
        r#"
apiVersion: countersign.dev/v1
kind: Workload
metadata: {{namespace: {namespace}, name: {name}}}
spec: {{selectors: {{unix: {{uid: {uid}}}}}}}
"#
    )
}
