//! PostgreSQL fails over to a standby that had not heard of everything: nobody goes back silently.

use std::net::SocketAddr;
use std::time::Duration;

use crypto::signing::SigningKey;
use identity::JoinToken;
use mesh_tests::faulty_line::{FaultyLine, Line};
use mesh_tests::invariants::{Witness, renew};
use mesh_tests::operator::CaProcess;
use mesh_tests::processes::free_address;
use mesh_tests::replicas::Replicas;
use mesh_tests::stranger::{Joined, Line as AgentLine, join};
use mesh_tests::waiting::eventually;
use postgres_cluster::{Cluster, Database};
use runtime::Clock;
use serde_json::json;
use tonic::Code;

use super::log_steps::cover_all;
use super::replicated::Hosts;

const ORDERS: &str = "spiffe://mesh.test/ns/shop/sa/orders";
const PASSWORD: &str = "correct horse";
const SETTINGS: [&str; 1] = ["listen_addresses = '127.0.0.1'"];
/// More than PostgreSQL hands out of a sequence before it writes that down.
const LOST_RECORDS: usize = 40;
const BAN: &str = "/v1/agents/join-token/web-8/ban";

/// A server with a standby that has fallen behind, and two replicas that reach it over a line.
struct World {
    primary: Cluster,
    standby: Cluster,
    standby_address: SocketAddr,
    database: Database,
    to_store: FaultyLine,
    to_standby: FaultyLine,
    replicas: Vec<CaProcess>,
    _mesh: Replicas,
}

impl World {
    async fn open() -> Option<Self> {
        let (server, standby_address) = (free_address(), free_address());
        let primary = Cluster::start(server.port(), &SETTINGS, &[])?;
        let database = primary.database();
        let password = format!("ALTER ROLE countersign PASSWORD '{PASSWORD}'");
        primary.sql(&database, &password);
        let to_standby = FaultyLine::to(server).await;
        let follow = (to_standby.address(), PASSWORD);
        let standby = primary.standby(standby_address.port(), &SETTINGS, follow);
        let to_store = FaultyLine::to(server).await;
        let (mesh, replicas) =
            Replicas::start_over(&database, to_store.address(), PASSWORD, 2).await;
        Some(Self {
            primary,
            standby,
            standby_address,
            database,
            to_store,
            to_standby,
            replicas,
            _mesh: mesh,
        })
    }

    /// From here on the standby hears of nothing.
    async fn standby_falls_behind(&self) {
        eventually("the standby has heard of everything", || async {
            let level = self.standby.is_level_with(&self.primary, &self.database);
            level.then_some(())
        })
        .await;
        self.to_standby.is(Line::Cut);
    }

    fn fail_over(&mut self) {
        self.primary.halt();
        self.standby.promote(&self.database);
        self.to_store.leads_to(self.standby_address);
    }
}

#[tokio::test]
async fn a_stale_standby_is_not_trusted_until_the_loss_is_accepted() {
    let Some(mut world) = World::open().await else {
        return;
    };
    let shop = Hosts::open(&world.replicas[0]).await;
    let agents = Agents::join(&world.replicas[0]).await;
    world.standby_falls_behind().await;
    agents.lose_a_ban_and_records(&world).await;
    let mut witness = Witness::of(&world.replicas[0]).await;
    world.fail_over();

    for replica in &world.replicas {
        agents.refused(replica).await;
    }
    let [ca, other] = &world.replicas[..] else {
        panic!("two were started");
    };
    let said = countersign(ca, &["store", "accept-loss"]).await;
    assert!(said.contains("are lost"), "{said}");
    let said = countersign(ca, &["store", "accept-loss", "--yes"]).await;
    assert!(said.contains("a new epoch begins"), "{said}");

    for replica in [ca, other] {
        agents.served_again(replica, &mut witness).await;
    }
    let admitted = agents.late_attests(other).await;
    assert_eq!(admitted, Ok(()));
    cover_all(&world.standby, &world.database).await;
    shop.calls.pass().await;
    shop.calls.never_failed_longer_than(Duration::ZERO);
    for replica in &world.replicas {
        witness.holds(replica).await;
    }
}

/// Agents that the test drives by hand.
struct Agents {
    honest: Joined,
    banned: Joined,
    /// Of an agent that did not join yet.
    late: JoinToken,
}

impl Agents {
    async fn join(ca: &CaProcess) -> Self {
        let honest = ca.join_token("web-7", &["shop/orders"]).await;
        let banned = ca.join_token("web-8", &["shop/orders"]).await;
        Self {
            honest: join(&honest, &Clock::system()).await,
            banned: join(&banned, &Clock::system()).await,
            late: ca.join_token("late", &[]).await,
        }
    }

    /// What happens while the standby hears of nothing.
    async fn lose_a_ban_and_records(&self, world: &World) {
        let [ca, other] = &world.replicas[..] else {
            panic!("two were started");
        };
        let banned = ca.admin().post(BAN, &json!({"reason": "test"})).await;
        banned.expect("the agent is known");
        ca.try_apply(LATER).await.expect("it is valid");
        eventually("the other replica has heard of the ban", || async {
            let refused = renewed(other, &self.banned).await.is_none();
            refused.then_some(())
        })
        .await;
        let line = AgentLine::mutual(ca.agents_address(), &self.honest, &Clock::system()).await;
        for _ in 0..LOST_RECORDS {
            let serial = renew(&line, &self.honest, ORDERS).await;
            serial.expect("the CA issues");
        }
        cover_all(&world.primary, &world.database).await;
    }

    /// Nothing is written, nobody is admitted, and who was banned stays so.
    async fn refused(&self, replica: &CaProcess) {
        eventually("the loss is noticed", || async {
            let store = replica.admin().get("/v1/store").await.ok()?;
            store["behind"].is_object().then_some(())
        })
        .await;
        assert_eq!(replica.try_apply(LATER).await, None);
        assert_eq!(self.late_attests(replica).await, Err(Code::Unavailable));
        assert_eq!(
            renewed(replica, &self.banned).await,
            None,
            "the ban is lost"
        );
    }

    async fn served_again(&self, replica: &CaProcess, witness: &mut Witness) {
        eventually("the replica writes", || replica.try_apply(LATER)).await;
        let serial = eventually("it issues", || renewed(replica, &self.honest)).await;
        witness.got(ORDERS, serial);
    }

    async fn late_attests(&self, replica: &CaProcess) -> Result<(), Code> {
        let at = replica.agents_address();
        let line = AgentLine::pinned_at(at, &self.late, &Clock::system()).await;
        let key = SigningKey::generate();
        let answer = line.attest(&self.late, line.possession(&key)).await;
        answer.map(drop)
    }
}

async fn renewed(replica: &CaProcess, agent: &Joined) -> Option<String> {
    let line = AgentLine::mutual(replica.agents_address(), agent, &Clock::system()).await;
    renew(&line, agent, ORDERS).await
}

/// What the program says of a command.
async fn countersign(ca: &CaProcess, arguments: &[&str]) -> String {
    let output = ca.countersign(arguments).await;
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const LATER: &str = "apiVersion: countersign.dev/v1
kind: Workload
metadata: {namespace: shop, name: later}
spec: {selectors: {unix: {uid: 1}}}
";
