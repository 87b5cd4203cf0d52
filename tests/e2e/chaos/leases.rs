//! Two replicas that want the same work: the one that has it sleeps past its time, the other takes
//! over, and what the sleeper does when it wakes is refused.

use mesh_tests::invariants::{Witness, renew};
use mesh_tests::replicas::Replicas;
use mesh_tests::stranger::{Line, join};
use mesh_tests::waiting::{DEADLINE, eventually};
use postgres_cluster::shared;
use runtime::Clock;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::gate::{Gate, Held, ROLES};
use super::log_steps::LogSteps;
use super::replicated::{LIFETIMES, Replicated};

const ORDERS: &str = "spiffe://mesh.test/ns/shop/sa/orders";

#[tokio::test]
async fn a_sequencer_that_slept_past_its_lease_changes_nothing_when_it_wakes() {
    let Some(cluster) = shared() else {
        return;
    };
    let database = cluster.database();
    Gate::make_roles(cluster, &database);
    let (_mesh, replicas) = Replicas::start_as(database.clone(), &ROLES[..2], "").await;
    let ca = &replicas[0];
    ca.register("shop", "orders").await;
    let token = ca.join_token("web-7", &["shop/orders"]).await;
    let agent = join(&token, &Clock::system()).await;
    let mut witness = Witness::of(ca).await;
    let steps = LogSteps::count(cluster, &database).await;
    let tiles = steps.lock().await;
    let line = Line::mutual(ca.agents_address(), &agent, &Clock::system()).await;
    let serial = renew(&line, &agent, ORDERS).await.expect("the CA issues");
    witness.got(ORDERS, serial);
    let sleeper = tiles.waited_for().await;
    let other = 1 - sleeper;
    let (tried, made) = (steps.tried_by(sleeper), steps.made_by(sleeper));
    let made_by_other = steps.made_by(other);
    replicas[sleeper].suspend();
    tiles.unlock().await;

    eventually("the other one takes over", || async {
        (steps.made_by(other) > made_by_other).then_some(())
    })
    .await;
    replicas[sleeper].resume();

    eventually("the sleeper goes on with its step", || async {
        (steps.tried_by(sleeper) > tried).then_some(())
    })
    .await;
    let awake = replicas[sleeper].admin().get("/v1/about").await;
    awake.expect("it answers again");
    steps.cover_all().await;
    assert_eq!(steps.made_by(sleeper), made, "a late step was made");
    steps.follow_each_other();
    for replica in &replicas {
        witness.holds(replica).await;
    }
}

#[tokio::test]
async fn a_rotation_ends_although_a_replica_sleeps_in_the_middle_of_its_step() {
    let Some(cas) = Replicated::open(2, LIFETIMES).await else {
        return;
    };
    let gate = Gate::close(cas.cluster, &cas.mesh);
    let mut asked = JoinSet::new();
    asked.spawn(
        cas.replica(0)
            .countersign(&["authority", "rotate", "--compromised"]),
    );
    gate.open("active").await;
    let Held::Step { state, by: sleeper } = gate.next().await else {
        panic!("nobody goes on");
    };
    cas.replica(sleeper).suspend();
    gate.open_for_good().await;

    gate.left(&state).await;
    assert!(matches!(gate.next().await, Held::Settled));
    cas.replica(sleeper).resume();

    let ended = timeout(DEADLINE, asked.join_next()).await;
    assert!(ended.is_ok(), "the operator's program waits for ever");
    assert_eq!(gate.state().await, "removed! active");
}
