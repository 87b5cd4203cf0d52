//! Claims on both databases about leaves that proxies saw.

use crypto::ed25519::Ed25519Key;
use crypto::random::SeededRandom;
use identity::{SerialNumber, Validity};
use prometheus_client::registry::Registry;
use tlog::NoteSigner;

use super::*;
use crate::log::Sequencer;
use crate::store::tests::{NOW, TestStore, on_each_database};
use crate::store::{
    AuthorityCertificate, DownstreamAuthorityRow, IssuedRow, KeyPurpose, SealedKeyRow,
};

on_each_database![
    a_leaf_without_a_record_raises_one_alarm_however_often_it_is_seen,
    a_leaf_that_differs_from_the_record_of_its_serial_number_raises_the_alarm,
    a_recorded_leaf_that_never_reached_the_log_raises_the_alarm,
    a_leaf_is_not_judged_before_it_must_be_in_the_log,
    leaves_that_are_logged_or_of_others_raise_none,
    what_an_instance_below_signs_is_not_missed_here,
    below_another_instance_only_what_leads_over_the_own_authority_is_missed,
];

fn agent() -> SpiffeId {
    "spiffe://corp.example/countersign/agent/join-token/web-7"
        .parse()
        .unwrap()
}

fn row(seed: u64) -> IssuedRow {
    IssuedRow {
        serial: SerialNumber::random(&mut SeededRandom::new(seed)),
        spiffe_id: "spiffe://corp.example/ns/shop/sa/orders".parse().unwrap(),
        agent_id: agent(),
        issuer: "ab".repeat(32),
        not_before: NOW,
        not_after: NOW + Duration::from_secs(3600),
        issued_at: NOW,
        leaf_sha256: Sha256::of(&seed.to_be_bytes()),
    }
}

fn seen(seed: u64) -> SeenLeaf {
    let row = row(seed);
    SeenLeaf {
        sha256: row.leaf_sha256,
        serial: row.serial,
        spiffe_id: row.spiffe_id,
        authorities: Vec::new(),
        agent_id: agent(),
        workload: "shop/gateway".parse().unwrap(),
    }
}

fn witness(test: &TestStore) -> Witness {
    let metrics = Metrics::new(&mut Registry::default());
    let of_whom = (Duration::ZERO, false);
    Witness::new(test.store.clone(), Clock::system(), metrics, of_whom).1
}

async fn record(test: &TestStore, seeds: std::ops::Range<u64>) {
    let rows: Vec<_> = seeds.map(row).collect();
    test.store.record_issued(&rows).await.unwrap();
}

async fn log(test: &TestStore) {
    let signer = NoteSigner::try_new("corp.example/log", Ed25519Key::from_seed([7; 32])).unwrap();
    let metrics = Metrics::new(&mut Registry::default());
    let (store, clock) = (test.store.clone(), Clock::system());
    let mut sequencer = Sequencer::new(store, "ca-1".to_owned(), signer, clock, metrics);
    sequencer.look().await.unwrap();
}

/// Judges everything that was heard.
async fn judged(witness: &mut Witness, test: &TestStore) -> Vec<SeenLeaf> {
    let later = Instant::now() + Duration::from_secs(3600);
    witness.judge(later).await.unwrap();
    let unlogged = test.store.unlogged_leaves(100).await.unwrap();
    unlogged.into_iter().map(|leaf| leaf.seen).collect()
}

async fn a_leaf_without_a_record_raises_one_alarm_however_often_it_is_seen(test: TestStore) {
    let mut witness = witness(&test);
    witness.hear(vec![seen(1), seen(1)]);
    assert_eq!(judged(&mut witness, &test).await, [seen(1)]);
    let again = SeenLeaf {
        workload: "shop/orders".parse().unwrap(),
        ..seen(1)
    };
    witness.hear(vec![again]);
    assert_eq!(judged(&mut witness, &test).await, [seen(1)]);
    let known = &test.store.unlogged_leaves(1).await.unwrap()[0];
    assert!(known.last_seen >= known.first_seen);
}

async fn a_leaf_that_differs_from_the_record_of_its_serial_number_raises_the_alarm(
    test: TestStore,
) {
    record(&test, 1..2).await;
    log(&test).await;
    let forged = SeenLeaf {
        sha256: Sha256::of(b"forged"),
        ..seen(1)
    };
    let mut witness = witness(&test);
    witness.hear(vec![forged.clone(), seen(1)]);
    assert_eq!(judged(&mut witness, &test).await, [forged]);
}

async fn a_recorded_leaf_that_never_reached_the_log_raises_the_alarm(test: TestStore) {
    log(&test).await;
    record(&test, 1..2).await;
    let mut witness = witness(&test);
    witness.hear(vec![seen(1)]);
    assert_eq!(judged(&mut witness, &test).await, [seen(1)]);
}

async fn a_leaf_is_not_judged_before_it_must_be_in_the_log(test: TestStore) {
    let mut witness = witness(&test);
    witness.hear(vec![seen(1)]);
    witness.judge(Instant::now()).await.unwrap();
    assert!(test.store.unlogged_leaves(100).await.unwrap().is_empty());
    assert_eq!(judged(&mut witness, &test).await, [seen(1)]);
}

async fn leaves_that_are_logged_or_of_others_raise_none(test: TestStore) {
    record(&test, 0..600).await;
    log(&test).await;
    let foreign = SeenLeaf {
        spiffe_id: "spiffe://partner.example/ns/a/sa/b".parse().unwrap(),
        ..seen(1000)
    };
    let mut witness = witness(&test);
    witness.hear((0..200).map(seen).chain([foreign]).collect());
    assert!(judged(&mut witness, &test).await.is_empty());
    witness.hear((0..200).map(seen).collect());
    assert!(witness.docket.pending.is_empty());
}

/// A leaf with this key above it.
fn below(seed: u64, key: Sha256) -> SeenLeaf {
    SeenLeaf {
        authorities: vec![Sha256::of(b"intermediate"), key, Sha256::of(b"root")],
        ..seen(seed)
    }
}

async fn what_an_instance_below_signs_is_not_missed_here(test: TestStore) {
    let key = Sha256::of(b"below");
    let row = DownstreamAuthorityRow {
        key_id: key.to_string(),
        downstream: "eu".to_owned(),
        generation: 1,
        serial: SerialNumber::random(&mut SeededRandom::new(9)),
        validity: Validity::try_new(NOW, NOW + Duration::from_secs(1)).unwrap(),
        chain: Vec::new(),
    };
    let certificate = AuthorityCertificate {
        der: b"der",
        issuer: "root",
        recorded_at: NOW,
    };
    let kept = test.store.record_downstream_authority(&row, certificate);
    kept.await.unwrap();
    let mut witness = witness(&test);
    let other = below(2, Sha256::of(b"other"));
    witness.hear(vec![below(1, key), other.clone()]);
    let unlogged = judged(&mut witness, &test).await;
    assert_eq!(unlogged.len(), 1);
    assert_eq!(unlogged[0].sha256, other.sha256);
}

async fn below_another_instance_only_what_leads_over_the_own_authority_is_missed(test: TestStore) {
    let own = Sha256::of(b"own");
    let key = SealedKeyRow {
        purpose: KeyPurpose::MeshAuthority,
        key_id: own.to_string(),
        version: 1,
        wrapped_data_key: vec![1],
        sealed: vec![1],
        kek_check: [0; 16],
        certificate: Vec::new(),
        created_at: NOW,
    };
    let kept = test.store.insert_sealed_key_if_absent(key);
    kept.await.unwrap();
    let mut witness = witness(&test);
    witness.is_nested = true;
    witness.hear(vec![below(1, Sha256::of(b"other")), below(2, own), seen(3)]);
    let unlogged = judged(&mut witness, &test).await.into_iter();
    let mut unlogged: Vec<_> = unlogged.map(|leaf| leaf.sha256).collect();
    let mut expected = vec![seen(2).sha256, seen(3).sha256];
    unlogged.sort_unstable();
    expected.sort_unstable();
    assert_eq!(unlogged, expected);
}

#[test]
fn one_agent_does_not_fill_the_docket() {
    let mut docket = Docket::default();
    let due = Instant::now();
    for seed in 0..300 {
        docket.enter(seen(seed), due);
    }
    assert_eq!(docket.pending.len(), MOST_OF_ONE_AGENT);
    let other = SeenLeaf {
        agent_id: "spiffe://corp.example/countersign/agent/join-token/web-8"
            .parse()
            .unwrap(),
        ..seen(1000)
    };
    docket.enter(other, due);
    assert_eq!(docket.pending.len(), MOST_OF_ONE_AGENT + 1);
    docket.settle(&docket.due(due), &HashSet::new());
    assert_eq!(
        docket.of_agent.len(),
        1 - usize::from(docket.pending.is_empty())
    );
}
