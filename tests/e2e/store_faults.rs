//! What goes wrong between the CA and PostgreSQL, with real processes: nothing hangs, whatever was
//! issued comes to be on record, and everything recovers by itself.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use mesh_tests::faulty_line::{FaultyLine, Line};
use mesh_tests::operator::CaProcess;
use mesh_tests::processes::free_address;
use mesh_tests::replicas::Replicas;
use mesh_tests::stranger::{Joined, Line as AgentLine, join, key_and_csr, verified};
use mesh_tests::waiting::eventually;
use postgres_cluster::{Cluster, Database};
use proto::agent::v1::issue_result::Result as Issued;
use runtime::Clock;
use tokio::time::timeout;

const ORDERS: &str = "spiffe://mesh.test/ns/shop/sa/orders";
/// A statement is given up after 10 s, and a connection is waited for 5 s.
const BOUND: Duration = Duration::from_secs(25);

/// A server on a port of loopback, one CA that reaches it over a line, and an agent of it.
struct World {
    cluster: Cluster,
    database: Database,
    line: FaultyLine,
    ca: CaProcess,
    agent: Joined,
    got: BTreeSet<String>,
    _mesh: Replicas,
}

impl World {
    async fn open() -> Option<Self> {
        let server = free_address();
        let settings = ["listen_addresses = '127.0.0.1'"];
        let cluster = Cluster::start(server.port(), &settings, &[])?;
        let database = cluster.database();
        cluster.sql(&database, "ALTER ROLE countersign PASSWORD 'correct horse'");
        let line = FaultyLine::to(server).await;
        let (mesh, mut replicas) =
            Replicas::start_over(&database, line.address(), "correct horse", 1).await;
        let ca = replicas.remove(0);
        ca.register("shop", "orders").await;
        let token = ca.join_token("web-7", &["shop/orders"]).await;
        let agent = join(&token, &Clock::system()).await;
        let mut world = Self {
            cluster,
            database,
            line,
            ca,
            agent,
            got: BTreeSet::new(),
            _mesh: mesh,
        };
        world.issues_again().await;
        Some(world)
    }

    /// Asks for one certificate; whatever comes of it comes in time.
    async fn issue(&mut self) {
        let serial = timeout(BOUND, issued(self.ca.agents_address(), &self.agent)).await;
        self.got.extend(serial.expect("an answer in bounded time"));
    }

    async fn issues_again(&mut self) {
        let issued = eventually("the CA issues", || {
            issued(self.ca.agents_address(), &self.agent)
        });
        let serial = issued.await;
        self.got.insert(serial);
    }

    /// Of those who connect from now on; who is connected is sent away.
    fn takes_writes(&self, writes: bool) {
        let admin = Database {
            name: "postgres".to_owned(),
            ..self.database.clone()
        };
        let only = if writes { "off" } else { "on" };
        let name = &self.database.name;
        let set = format!("ALTER DATABASE {name} SET default_transaction_read_only = {only}");
        self.cluster.sql(&admin, &set);
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                   WHERE application_name = 'countersign-ca'";
        self.cluster.sql(&admin, end);
    }

    /// Every certificate that came out comes to be on record.
    async fn nothing_is_missing(&self) {
        eventually("every certificate is on record", || async {
            let recorded = self
                .cluster
                .sql(&self.database, "SELECT serial FROM issued");
            let recorded: BTreeSet<_> = recorded.lines().map(str::to_owned).collect();
            self.got.is_subset(&recorded).then_some(())
        })
        .await;
    }

    async fn recovers(mut self) {
        self.issues_again().await;
        eventually("the CA writes", || async {
            let workload = "apiVersion: countersign.dev/v1\nkind: Workload\n\
                metadata: {namespace: shop, name: later}\nspec: {selectors: {unix: {uid: 1}}}";
            self.ca.try_apply(workload).await
        })
        .await;
        self.nothing_is_missing().await;
    }
}

#[tokio::test]
async fn a_database_that_falls_silent_holds_nobody_up_for_good() {
    let Some(mut world) = World::open().await else {
        return;
    };
    world.line.is(Line::Silent);
    world.issue().await;
    world.line.is(Line::Whole);
    world.recovers().await;
}

#[tokio::test]
async fn a_line_that_is_cut_and_then_slow_is_connected_again() {
    let Some(mut world) = World::open().await else {
        return;
    };
    world.line.is(Line::Cut);
    world.issue().await;
    world.line.is(Line::Slow(Duration::from_millis(300)));
    world.recovers().await;
}

#[tokio::test]
async fn a_database_that_takes_no_writes_is_waited_for() {
    let Some(mut world) = World::open().await else {
        return;
    };
    world.takes_writes(false);
    world.issue().await;
    world.takes_writes(true);
    world.recovers().await;
}

#[tokio::test]
async fn a_database_that_crashes_and_comes_back_is_found_again() {
    let Some(mut world) = World::open().await else {
        return;
    };
    world.cluster.halt();
    world.issue().await;
    world.cluster.resume();
    world.recovers().await;
}

/// The serial of a certificate, unless it is refused.
async fn issued(agents: SocketAddr, agent: &Joined) -> Option<String> {
    let line = AgentLine::mutual(agents, agent, &Clock::system()).await;
    let (key, csr) = key_and_csr();
    match line.issue(ORDERS, csr).await.ok()?.result {
        Some(Issued::Svid(svid)) => {
            let svid = verified(svid, key, &agent.bundles, &Clock::system());
            Some(svid.svid().serial().to_string())
        }
        _ => None,
    }
}
