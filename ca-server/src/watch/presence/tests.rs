//! Who is there, and what they acknowledged.

use proptest::prelude::*;

use super::*;
use crate::spool::StoreStanding;

fn agent(name: &str) -> SpiffeId {
    format!("spiffe://td/countersign/agent/join-token/{name}")
        .parse()
        .unwrap()
}

fn revision(number: u64) -> Revision {
    Revision { epoch: 1, number }
}

fn introduction() -> Introduction {
    Introduction {
        product: "test".to_owned(),
        engine_version: 1,
        clock_offset: time::Duration::ZERO,
        obeys_deny_lists: true,
    }
}

fn presence() -> Presence {
    Presence::new(AdmittedAgents::default())
}

#[test]
fn an_acknowledgement_of_another_epoch_enforces_nothing() {
    let presence = presence();
    let session = presence.connect(&agent("a"), introduction());
    session.acknowledged(Revision {
        epoch: 2,
        number: 9,
    });
    assert_eq!(presence.enforcement(revision(1)).pending, [agent("a")]);
}

#[test]
fn a_replaced_stream_can_no_longer_speak_for_its_agent() {
    let presence = presence();
    let older = presence.connect(&agent("a"), introduction());
    let newer = presence.connect(&agent("a"), introduction());
    older.acknowledged(revision(1));
    drop(older);
    assert_eq!(presence.enforcement(revision(1)).pending, [agent("a")]);
    newer.acknowledged(revision(1));
    assert!(presence.enforcement(revision(1)).pending.is_empty());
}

#[test]
fn an_acknowledgement_never_goes_back() {
    let presence = presence();
    let session = presence.connect(&agent("a"), introduction());
    session.acknowledged(revision(5));
    session.acknowledged(revision(3));
    assert_eq!(
        presence.agent(&agent("a")).unwrap().acknowledged,
        Some(revision(5))
    );
}

#[test]
fn a_forgotten_agent_is_no_longer_admitted() {
    let nobody_banned = watch::Sender::default().subscribe();
    let admitted = AdmittedAgents::new([agent("a")], nobody_banned, StoreStanding::default());
    let presence = Presence::new(admitted.clone());
    presence.disconnect(&agent("a"));
    assert!(!admitted.contains(&agent("a")));
}

#[tokio::test]
async fn waiting_ends_when_the_last_agent_leaves() {
    let presence = presence();
    let session = presence.connect(&agent("a"), introduction());
    let waiting = presence.wait_enforced(revision(1), Duration::from_secs(10));
    let (enforced, ()) = tokio::join!(waiting, async { drop(session) });
    assert!(enforced.pending.is_empty());
}

#[tokio::test]
async fn waiting_ends_at_its_deadline_with_who_is_missing() {
    let presence = presence();
    let _session = presence.connect(&agent("a"), introduction());
    let enforced = presence
        .wait_enforced(revision(1), Duration::from_millis(1))
        .await;
    assert_eq!(enforced.pending, [agent("a")]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn pending_are_exactly_the_connected_that_are_behind(
        acknowledged in proptest::collection::vec(proptest::option::of(0_u64..5), 0..6),
        replaced in any::<bool>(),
        gone in 0_usize..6,
        wanted in 0_u64..5,
    ) {
        let presence = presence();
        let mut sessions = Vec::new();
        let mut expected = Vec::new();
        for (index, number) in acknowledged.into_iter().enumerate() {
            let id = agent(&index.to_string());
            let session = presence.connect(&id, introduction());
            if let Some(number) = number {
                session.acknowledged(revision(number));
            }
            if number.is_none_or(|number| number < wanted) {
                expected.push(id);
            }
            sessions.push(session);
        }
        if replaced && !sessions.is_empty() {
            sessions[0] = presence.connect(&agent("0"), introduction());
            expected.retain(|id| *id != agent("0"));
            expected.insert(0, agent("0"));
        }
        if gone < sessions.len() {
            sessions.remove(gone);
            expected.retain(|id| *id != agent(&gone.to_string()));
        }
        prop_assert_eq!(presence.is_enforced(revision(wanted)), expected.is_empty());
        prop_assert_eq!(presence.enforcement(revision(wanted)).pending, expected);
    }
}
