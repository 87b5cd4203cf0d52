//! Whichever side is ours, a script comes to what it says, and nothing is left of it.

use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::io::duplex;
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::script::{Call, Outcome, Script, Seen, scripts};
use super::{by_h2, ours};

/// Far more than any takes.
const HANGS: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
enum By {
    Ours,
    H2,
}

fn run(script: &Script, client: By, server: By) -> (Vec<Outcome>, Vec<(usize, Seen)>) {
    let script = Rc::new(script.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let both = async {
        let (here, there) = duplex(script.wire);
        let serve = async {
            match server {
                By::Ours => ours::server(there, Rc::clone(&script)).await,
                By::H2 => by_h2::server(there, Rc::clone(&script)).await,
            }
        };
        let call = async {
            match client {
                By::Ours => ours::client(here, Rc::clone(&script)).await,
                By::H2 => by_h2::client(here, Rc::clone(&script)).await,
            }
        };
        tokio::join!(call, serve)
    };
    let tasks = LocalSet::new();
    let both = tasks.run_until(async { timeout(HANGS, both).await });
    runtime.block_on(both).expect("it hangs")
}

/// Each call comes to what the script says; if the server leaves, it may not be processed instead.
fn check(script: &Script, client: By, server: By) {
    let (outcomes, seen) = run(script, client, server);
    let large = script.leaves.is_none().then(Call::large);
    let calls: Vec<&Call> = script.calls.iter().chain(&large).collect();
    assert_eq!(outcomes.len(), calls.len());
    for (at, (outcome, call)) in outcomes.iter().zip(calls).enumerate() {
        if script.leaves.is_some() && *outcome == Outcome::Unprocessed {
            continue;
        }
        assert_eq!(
            *outcome,
            call.outcome(),
            "call {at}, {client:?} to {server:?}"
        );
        if let Some(expected) = call.request_seen() {
            let seen = seen.iter().find(|(other, _)| *other == at);
            let seen = seen.map(|(_, seen)| seen);
            assert_eq!(seen, Some(&expected), "call {at}, {client:?} to {server:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]

    #[test]
    fn our_client_and_the_server_of_h2_agree(script in scripts()) {
        check(&script, By::Ours, By::H2);
    }

    #[test]
    fn the_client_of_h2_and_our_server_agree(script in scripts()) {
        check(&script, By::H2, By::Ours);
    }

    #[test]
    fn our_client_and_our_server_agree(script in scripts()) {
        check(&script, By::Ours, By::Ours);
    }
}
