//! The root is rotated by real replicas: in peace, and while one is killed at each step.

use std::time::Duration;

use crypto::random::{Random, SeededRandom};
use tokio::task::JoinSet;

use super::gate::{Gate, Held};
use super::replicated::{LIFETIMES, Replicated, Shop};

/// Of calls, which are made over leaves that live for 4 s.
const IN_PEACE: Duration = Duration::from_secs(1);
/// The same, while one of three replicas is killed again and again.
const BOUND: Duration = Duration::from_secs(4);
/// Long enough to leave a replica that hangs while what it has signed still lives.
const LONGER: &str = "agent = \"8s\"\nworkload = \"8s\"\nmargin = \"1s\"\n\
                      [bundle]\nrefresh_hint = \"1s\"";
/// Calls between a step and the next kill.
const BETWEEN: f64 = 40.0;

#[tokio::test]
async fn calls_go_on_while_an_operator_rotates_the_root_and_then_replaces_it() {
    let Some(mut shop) = Shop::open(2).await else {
        return;
    };
    let rotate = ["authority", "rotate"];
    let replace = ["authority", "rotate", "--compromised", "--within", "1m"];
    for (known, command) in [(1, &rotate[..]), (2, &replace[..])] {
        let before = shop.cas.bundle().await;
        shop.note_certificates().await;

        let rotating = shop.cas.replica(0).countersign(command);
        let settled = shop.cas.settled_with_more_roots_than(known);
        let (output, ()) = tokio::join!(rotating, settled);

        assert!(output.status.success(), "{output:?}");
        assert_ne!(shop.cas.bundle().await, before);
        shop.calls.pass().await;
    }
    shop.calls.never_failed_longer_than(IN_PEACE);
    shop.note_certificates().await;
    shop.holds().await;
}

#[tokio::test]
async fn a_rotation_ends_although_the_replica_that_makes_a_step_is_killed_at_each() {
    let states = [
        "active",
        "active prepared",
        "active published",
        "draining active",
    ];
    under_kills(&["authority", "rotate"], true, &states).await;
}

#[tokio::test]
async fn a_compromised_root_goes_although_the_replica_that_makes_a_step_is_killed_at_each() {
    let states = [
        "active",
        "active!",
        "active! prepared",
        "active! published",
        "draining! active",
    ];
    let request = ["authority", "rotate", "--compromised", "--within", "1m"];
    under_kills(&request, false, &states).await;
}

#[tokio::test]
async fn no_call_fails_while_the_root_is_replaced_and_the_replica_of_all_agents_sleeps() {
    let Some(shop) = Shop::open_with(2, LONGER).await else {
        return;
    };
    let replace = ["authority", "rotate", "--compromised", "--within", "1m"];
    shop.cas.replica(0).suspend();

    let output = shop.cas.replica(1).countersign(&replace).await;

    shop.cas.replica(0).resume();
    assert!(output.status.success(), "{output:?}");
    shop.calls.pass().await;
    shop.calls.never_failed_longer_than(IN_PEACE);
}

#[tokio::test]
async fn what_a_killed_replica_has_begun_is_ended_by_one_that_no_agent_wakes() {
    let Some(mut cas) = Replicated::open(2, LIFETIMES).await else {
        return;
    };
    let gate = Gate::close(cas.cluster, &cas.mesh);
    let mut asked = JoinSet::new();
    asked.spawn(
        cas.replica(0)
            .countersign(&["authority", "rotate", "--compromised"]),
    );
    gate.open("active").await;
    let Held::Step { by, .. } = gate.next().await else {
        panic!("nobody goes on");
    };

    cas.kill(by).await;
    gate.open_for_good().await;

    assert!(matches!(gate.next().await, Held::Settled));
}

async fn under_kills(request: &[&str], request_is_killed: bool, states: &[&str]) {
    let Some(mut shop) = Shop::open(3).await else {
        return;
    };
    let before = shop.cas.bundle().await;
    let mut random = SeededRandom::new(states.len() as u64);
    let gate = Gate::close(shop.cas.cluster, &shop.cas.mesh);
    let (mut seen, mut asked) = (Vec::new(), JoinSet::new());
    asked.spawn(shop.cas.replica(0).countersign(request));
    while let Held::Step { state, by } = gate.next().await {
        shop.cas.operators_hear_of_roots().await;
        if seen.is_empty() && !request_is_killed {
            gate.open(&state).await;
            seen.push(state);
            continue;
        }
        shop.cas.kill(by).await;
        gate.open(&state).await;
        if seen.is_empty() {
            // What was asked for has come to nothing: the operator asks another one.
            asked.spawn(shop.cas.other_than(by).countersign(request));
        }
        gate.left(&state).await;
        seen.push(state);
        shop.cas.start_again(by).await;
        shop.note_certificates().await;
        let between = random.unit() * BETWEEN;
        shop.calls.more(between as usize).await;
    }
    assert_eq!(seen, states);
    shop.cas.settled().await;
    shop.calls.pass().await;
    shop.calls.never_failed_longer_than(BOUND);
    shop.note_certificates().await;
    assert_ne!(shop.cas.bundle().await, before);
    shop.holds().await;
}
