//! kill -9 in the middle of issuing, and two replicas that are shown one token.

use crypto::random::{Random, SeededRandom};
use crypto::signing::SigningKey;
use futures_util::future::join_all;
use mesh_tests::invariants::{Witness, renew};
use mesh_tests::operator::CaProcess;
use mesh_tests::replicas::Replicas;
use mesh_tests::stranger::{Joined, Line, join};
use mesh_tests::waiting::DEADLINE;
use runtime::Clock;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

const ORDERS: &str = "spiffe://mesh.test/ns/shop/sa/orders";
const LINES: usize = 3;
const KILLS: u64 = 5;
const AT_MOST: usize = 60;
const RACERS: usize = 4;

#[tokio::test]
async fn a_ca_killed_at_any_point_of_issuing_has_a_record_of_all_that_left_it() {
    let mut ca = CaProcess::start().await;
    ca.register("shop", "orders").await;
    let token = ca.join_token("web-7", &["shop/orders"]).await;
    let agent = join(&token, &Clock::system()).await;
    let mut witness = Witness::of(&ca).await;
    for seed in 0..KILLS {
        let mut random = SeededRandom::new(seed);
        let after = 1 + (random.unit() * AT_MOST as f64) as usize;
        ca = kill_after(after, ca, &agent, &mut witness).await;
        witness.holds(&ca).await;
    }
}

/// Kills the CA when so many certificates have left it, while more are on their way.
async fn kill_after(
    count: usize,
    ca: CaProcess,
    agent: &Joined,
    witness: &mut Witness,
) -> CaProcess {
    let (report, mut reports) = mpsc::unbounded_channel();
    let mut lines = JoinSet::new();
    for _ in 0..LINES {
        let line = Line::mutual(ca.agents_address(), agent, &Clock::system()).await;
        let (agent, report) = (agent.clone(), report.clone());
        lines.spawn(async move {
            while let Some(serial) = renew(&line, &agent, ORDERS).await {
                report.send(serial).expect("the test listens");
            }
        });
    }
    drop(report);
    for _ in 0..count {
        let serial = timeout(DEADLINE, reports.recv()).await.expect("in time");
        witness.got(ORDERS, serial.expect("the CA issues"));
    }
    let ca = ca.crash_and_restart().await;
    while let Some(serial) = reports.recv().await {
        witness.got(ORDERS, serial);
    }
    ca
}

#[tokio::test]
async fn of_many_keys_that_show_one_token_to_two_replicas_at_once_one_is_admitted() {
    let Some((_mesh, replicas)) = Replicas::start(2).await else {
        return;
    };
    let mut witness = Witness::of(&replicas[0]).await;
    for round in 0..3 {
        let token = replicas[0].join_token(&format!("web-{round}"), &[]).await;
        let shown = (0..RACERS).flat_map(|_| &replicas).map(|replica| {
            let (token, at) = (token.clone(), replica.agents_address());
            async move {
                let line = Line::pinned_at(at, &token, &Clock::system()).await;
                let key = SigningKey::generate();
                line.attest(&token, line.possession(&key)).await.is_ok()
            }
        });
        let admitted = join_all(shown).await.into_iter().filter(|it| *it).count();
        assert_eq!(admitted, 1, "the token was good");
        witness.redeemed(token.id(), admitted);
    }
    for replica in &replicas {
        witness.holds(replica).await;
    }
}
