//! `h2spec` (RFC 7540 and 7541, case by case) against the listeners that speak HTTP/2.
//!
//! What is allowed to differ is named in [`AT_THE_OUTBOUND_PORT`] and `docs/conformance.md` with
//! its reason, and nothing else is.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Stdio;

use mesh_tests::holder::Holder;
use mesh_tests::shop::Shop;
use tempfile::TempDir;
use tokio::process::Command;

use crate::gateways::Edge;

/// The port takes HTTP/1.1 and HTTP/2, and tells one from the other by the first bytes: what is
/// not the preface is HTTP/1.1, and is answered with its 400, after which the connection closes.
/// h2spec wants it to close without an answer.
const AT_THE_OUTBOUND_PORT: [&str; 1] = ["http2/3.5: Sends invalid connection preface"];

#[tokio::test]
async fn the_outbound_port_speaks_http2_as_h2spec_expects() {
    let Some(h2spec) = H2spec::obtain().await else {
        return;
    };
    let shop = Shop::open().await;
    h2spec
        .judge(&plain(shop.checkout.outbound()), &AT_THE_OUTBOUND_PORT)
        .await;
}

#[tokio::test]
async fn a_mesh_listener_speaks_http2_as_h2spec_expects() {
    let Some(h2spec) = H2spec::obtain().await else {
        return;
    };
    let shop = Shop::open().await;
    let holder = Holder::of(&shop.mesh, "checkout").await;
    // It shows no client certificate.
    let bridge = holder.bridge(shop.orders.mesh_listener(), b"h2").await;
    h2spec.judge(&plain(bridge.address()), &[]).await;
}

#[tokio::test]
async fn a_gateways_listener_speaks_http2_as_h2spec_expects() {
    let Some(h2spec) = H2spec::obtain().await else {
        return;
    };
    let edge = Edge::open_for("localhost").await;
    let port = edge.gateway.gateway(443, 1).await.port();
    let at = ["--tls", "--insecure", "--host", "localhost", "--port"];
    let at: Vec<_> = at.map(str::to_owned).into();
    h2spec
        .judge(&[at, vec![port.to_string()]].concat(), &[])
        .await;
}

/// Without TLS.
fn plain(address: SocketAddr) -> Vec<String> {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    vec!["--host".to_owned(), host, "--port".to_owned(), port]
}

/// A case fails if it fails in each run: h2spec takes an answer that was on its way, when it broke
/// a rule, for the answer to that.
const RUNS: usize = 3;
/// What h2spec 2.2.1 has with `--strict`.
const CASES: usize = 146;

/// The program, which is there.
struct H2spec(());

impl H2spec {
    /// `None` where it is not installed: the claim is skipped, and says so.
    #[expect(clippy::print_stderr, reason = "a skip must be seen")]
    async fn obtain() -> Option<Self> {
        if Command::new("h2spec")
            .arg("--version")
            .output()
            .await
            .is_ok()
        {
            return Some(Self(()));
        }
        assert!(
            option_env!("CI").is_none(),
            "h2spec is missing, and CI skips nothing; ./dev test installs it"
        );
        eprintln!("SKIPPED: h2spec is not installed; ./dev test installs it");
        None
    }

    async fn judge(&self, at: &[String], differences: &[&str]) {
        let expected: BTreeSet<_> = differences.iter().map(|it| (*it).to_owned()).collect();
        let (mut failed, mut said) = self.failures(at).await;
        for _ in 1..RUNS {
            if failed != expected {
                let (again, now) = self.failures(at).await;
                failed.retain(|case| again.contains(case));
                said = now;
            }
        }
        assert_eq!(failed, expected, "{said}");
    }

    /// The cases that fail in one run, and what it says.
    async fn failures(&self, at: &[String]) -> (BTreeSet<String>, String) {
        let directory = TempDir::new().expect("a directory");
        let report = directory.path().join("report.xml");
        let output = Command::new("h2spec")
            .args(["--strict", "--timeout", "5", "--path", "/v1/orders"])
            .args(at)
            .arg("--junit-report")
            .arg(&report)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let report = std::fs::read_to_string(&report).unwrap_or_default();
        let cases = report.matches("<testcase").count();
        assert!(cases >= CASES, "{cases} cases: {said}");
        (failed(&report), said)
    }
}

/// The cases that failed, as `section/description`.
fn failed(report: &str) -> BTreeSet<String> {
    let cases = report.split("<testcase").skip(1);
    let failed = cases.filter(|case| case.contains("<failure") || case.contains("<error"));
    let name = |case: &str| {
        let attribute = |key: &str| {
            let start = format!("{key}=\"");
            let rest = case.split_once(&start).map_or("", |(_, rest)| rest);
            rest.split('"').next().unwrap_or_default().to_owned()
        };
        format!("{}: {}", attribute("package"), attribute("classname"))
    };
    failed.map(name).collect()
}
