//! Replicas that answer, and sign nothing: agents go on through another one.

use mesh_tests::fake_clock::FakeClock;
use mesh_tests::faulty_line::{FaultyLine, Line};
use mesh_tests::host::Host;
use mesh_tests::operator::CaProcess;
use mesh_tests::processes::free_address;
use mesh_tests::replicas::Replicas;
use mesh_tests::waiting::eventually;
use postgres_cluster::Cluster;

const PASSWORD: &str = "correct horse";
/// Every renewal is one more that might have failed.
const SHORT: &str = "agent = \"8s\"\nworkload = \"8s\"\nmargin = \"1s\"";
/// A replica without its database takes some seconds to find out.
const LONGER: &str = "agent = \"20s\"\nworkload = \"20s\"\nmargin = \"1s\"";

#[tokio::test]
async fn a_host_goes_on_elsewhere_while_the_clock_of_its_replica_is_off_and_comes_back() {
    let Some(clock) = FakeClock::obtain() else {
        return;
    };
    let Some(database) = postgres_cluster::shared().map(|cluster| cluster.database()) else {
        return;
    };
    let (mesh, mut replicas) = Replicas::start_on(database, 2, SHORT).await;
    drop(replicas.remove(0).crash().await);
    let environment = clock.environment();
    let variables: Vec<_> = environment.iter().map(|(a, b)| (&**a, &**b)).collect();
    let first = mesh.restart(0, &variables).await;
    let host = host_of(&first).await;
    // Slow, so that the replica takes nobody's certificate for one that has ended.
    clock.set("-300s");
    eventually("the replica knows", || async {
        let refusal = first.admin().get("/readyz").await.err()?;
        refusal.to_string().contains("clock-off").then_some(())
    })
    .await;
    host.renewals(2).await;
    clock.set_right();
    assert!(!attends(&first).await);
    eventually("the agent comes back", || async {
        attends(&first).await.then_some(())
    })
    .await;
    host.renewals(1).await;
}

#[tokio::test]
async fn a_host_goes_on_renewing_when_its_replica_has_lost_its_database_and_has_no_spool() {
    let server = free_address();
    let settings = ["listen_addresses = '127.0.0.1'"];
    let Some(cluster) = Cluster::start(server.port(), &settings, &[]) else {
        return;
    };
    let database = cluster.database();
    let password = format!("ALTER ROLE countersign PASSWORD '{PASSWORD}'");
    cluster.sql(&database, &password);
    let line = FaultyLine::to(server).await;
    let (mesh, mut replicas) =
        Replicas::start_over_with(&database, server, PASSWORD, (2, LONGER)).await;
    drop(replicas.remove(0).crash().await);
    let port = |port: u16| format!("port = {port}\n");
    let first = mesh.launch_as(0, |config| {
        let config = config.replace(&port(server.port()), &port(line.address().port()));
        without_spool(&config)
    });
    let first = first.await;
    let host = host_of(&first).await;
    line.is(Line::Cut);
    host.renewals(2).await;
}

/// Whether the agent's stream ends at this replica.
async fn attends(replica: &CaProcess) -> bool {
    let ask = || async { replica.admin().get("/v1/agents").await.ok() };
    let agents = eventually("the replica answers", ask).await;
    let agent = &agents["items"][0];
    agent["connected"] == true && agent["connectedTo"].is_null()
}

/// Its agent's first address is that of the first replica.
async fn host_of(first: &CaProcess) -> Host {
    first.register("shop", "orders").await;
    Host::start(first, "orders-1", "shop/orders", None).await
}

fn without_spool(config: &str) -> String {
    let (before, spool) = config.split_once("[spool]").expect("it has a spool");
    let (_, after) = spool.split_once("\n[").expect("more sections follow");
    format!("{before}[{after}")
}
