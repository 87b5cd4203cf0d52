//! Claims on both databases: what is recorded is in the log once, and the log is one tree.

use crypto::ed25519::Ed25519Key;
use crypto::random::SeededRandom;
use identity::{SerialNumber, SpiffeId};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use tlog::entry::{Entry, Kind};
use tlog::{Checkpoint, Content, bundle, leaf_hash};

use super::*;
use crate::config::StorePlace;
use crate::store::tests::{NOW, TestStore, on_each_database};
use crate::store::{AuthorityCertificate, IntermediateRow, IssuedRow};

on_each_database![
    tiles_that_do_not_make_the_checkpoint_are_not_built_upon,
    a_checkpoint_that_another_key_signed_is_not_built_upon,
    a_duty_that_another_replica_has_is_left_to_it,
    of_two_steps_from_one_state_one_is_made,
    a_record_is_one_leaf_however_often_it_is_looked_for,
    every_record_and_authority_is_a_leaf_of_the_signed_tree,
    a_log_goes_on_in_the_bundle_and_the_tiles_that_it_ended_in,
    more_than_a_step_takes_is_done_in_several,
    entries_go_when_all_of_a_bundle_ended_and_hashes_stay,
];

fn signer(seed: u8) -> NoteSigner {
    let key = Ed25519Key::from_seed([seed; 32]);
    NoteSigner::try_new("corp.example/countersign-log", key).unwrap()
}

fn sequencer(test: &TestStore, replica: &str) -> Sequencer {
    let clock = Clock::system();
    let metrics = Metrics::new(&mut prometheus_client::registry::Registry::default());
    Sequencer::new(
        test.store.clone(),
        replica.to_owned(),
        signer(7),
        clock,
        metrics,
    )
}

fn orders() -> SpiffeId {
    "spiffe://corp.example/ns/shop/sa/orders".parse().unwrap()
}

fn row(seed: u64) -> IssuedRow {
    IssuedRow {
        serial: SerialNumber::random(&mut SeededRandom::new(seed)),
        spiffe_id: orders(),
        agent_id: "spiffe://corp.example/countersign/agent/join-token/web-7"
            .parse()
            .unwrap(),
        issuer: "ab".repeat(32),
        not_before: NOW,
        not_after: NOW + Duration::from_secs(3600),
        issued_at: NOW,
        leaf_sha256: crypto::digest::Sha256::of(&seed.to_be_bytes()),
    }
}

async fn record(test: &TestStore, seeds: std::ops::Range<u64>) {
    let rows: Vec<_> = seeds.map(row).collect();
    test.store.record_issued(&rows).await.unwrap();
}

/// Looks until nothing is left.
async fn settle(sequencer: &mut Sequencer) {
    while sequencer.look().await.unwrap() == Looked::More {}
}

/// The entries of the log, once it was verified that they make the tree which its checkpoint states.
async fn verified(test: &TestStore) -> Vec<Entry> {
    let state = test.store.log_state().await.unwrap();
    let note = state.checkpoint.unwrap();
    let checkpoint = Checkpoint::open(&note, signer(7).verifier()).unwrap();
    assert_eq!(checkpoint.size(), state.size);
    let mut entries = Vec::new();
    let mut edge = Edge::default();
    for number in 0..checkpoint.size().div_ceil(256) {
        let path = TilePath::in_tree(Content::Entries, number, checkpoint.size()).unwrap();
        let bytes = test.store.log_tile(path).await.unwrap().unwrap();
        let some = bundle::split(&bytes, path.width()).unwrap();
        edge.append(some.iter().map(|entry| leaf_hash(entry)));
        entries.extend(some.iter().map(|entry| Entry::decode(entry).unwrap()));
    }
    assert_eq!(edge.root(), checkpoint.root());
    entries
}

async fn tiles_that_do_not_make_the_checkpoint_are_not_built_upon(test: TestStore) {
    let mut sequencer = sequencer(&test, "ca-1");
    record(&test, 0..3).await;
    settle(&mut sequencer).await;
    test.drop_trigger("log_tiles_only_grow", "log_tiles")
        .await
        .unwrap();
    let zeros = match test.config.place {
        StorePlace::Sqlite(_) => "zeroblob(96)",
        StorePlace::Postgres(_) => "decode(repeat('00', 96), 'hex')",
    };
    let forge = format!("UPDATE log_tiles SET hashes = {zeros}");
    test.tamper(&forge).await.unwrap();
    record(&test, 3..4).await;
    let refused = sequencer.look().await.unwrap_err();
    assert!(matches!(refused, SequencerError::Growth(GrowthError::Tree)));
    assert_eq!(test.store.log_state().await.unwrap().size, 3);
}

async fn a_checkpoint_that_another_key_signed_is_not_built_upon(test: TestStore) {
    let mut other = Sequencer {
        signer: signer(8),
        ..sequencer(&test, "ca-1")
    };
    settle(&mut other).await;
    record(&test, 0..1).await;
    let refused = sequencer(&test, "ca-1").look().await.unwrap_err();
    assert!(matches!(
        refused,
        SequencerError::Growth(GrowthError::Checkpoint(_))
    ));
}

async fn a_duty_that_another_replica_has_is_left_to_it(test: TestStore) {
    let now = Clock::system().now();
    let duty = test.store.take(Duty::Sequencing, "ca-2", LEASE, now).await;
    assert!(duty.unwrap().is_some());
    record(&test, 0..1).await;
    settle(&mut sequencer(&test, "ca-1")).await;
    assert_eq!(test.store.log_state().await.unwrap().size, 0);
    settle(&mut sequencer(&test, "ca-2")).await;
    assert_eq!(test.store.log_state().await.unwrap().size, 1);
}

async fn of_two_steps_from_one_state_one_is_made(test: TestStore) {
    record(&test, 0..3).await;
    let one = sequencer(&test, "ca-1");
    let pending = test
        .store
        .pending_leaves(&mut Settling::default(), 100)
        .await
        .unwrap();
    let first = one
        .grown(&pending.state)
        .await
        .unwrap()
        .step(&pending)
        .unwrap();
    let mut late = one
        .grown(&pending.state)
        .await
        .unwrap()
        .step(&pending)
        .unwrap();
    late.checkpoint.clear();
    let (first, late) = tokio::join!(test.store.step_log(&first), test.store.step_log(&late));
    let moved = [first, late]
        .into_iter()
        .filter_map(Result::err)
        .collect::<Vec<_>>();
    assert!(matches!(moved[..], [LogStepError::Moved]), "{moved:?}");
    assert_eq!(test.store.log_state().await.unwrap().size, 3);
}

async fn a_record_is_one_leaf_however_often_it_is_looked_for(test: TestStore) {
    let (mut one, mut restarted) = (sequencer(&test, "ca-1"), sequencer(&test, "ca-1"));
    record(&test, 0..3).await;
    settle(&mut one).await;
    settle(&mut restarted).await;
    settle(&mut one).await;
    assert_eq!(verified(&test).await.len(), 3);
}

async fn every_record_and_authority_is_a_leaf_of_the_signed_tree(test: TestStore) {
    let intermediate = IntermediateRow {
        key_id: "cd".repeat(32),
        generation: 1,
        replica: "ca-1".to_owned(),
        not_before: NOW,
        not_after: NOW,
        serial: None,
        is_superseded: false,
    };
    let certificate = AuthorityCertificate {
        der: b"no certificate at all",
        issuer: "root",
        recorded_at: NOW,
    };
    let recorded = test
        .store
        .record_intermediate(&intermediate, certificate)
        .await;
    recorded.unwrap();
    record(&test, 0..2).await;
    settle(&mut sequencer(&test, "ca-1")).await;
    let entries = verified(&test).await;
    let kinds: Vec<_> = entries.iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [Kind::X509Svid, Kind::X509Svid, Kind::X509Authority]);
    assert_eq!(entries[1].digest, row(1).leaf_sha256);
    assert_eq!(entries[1].subject, orders().to_string());
    assert_eq!(
        entries[2].digest,
        crypto::digest::Sha256::of(certificate.der)
    );
    assert_eq!(test.store.leaf_of(row(1).serial).await.unwrap(), Some(1));
    assert_eq!(test.store.leaf_of(row(2).serial).await.unwrap(), None);
}

async fn a_log_goes_on_in_the_bundle_and_the_tiles_that_it_ended_in(test: TestStore) {
    let mut sequencer = sequencer(&test, "ca-1");
    for seeds in [0..1, 1..250, 250..256, 256..600] {
        record(&test, seeds).await;
        settle(&mut sequencer).await;
    }
    let entries = verified(&test).await;
    assert_eq!(entries.len(), 600);
    for seed in [0, 249, 255, 256, 599] {
        let leaf = test.store.leaf_of(row(seed).serial).await.unwrap().unwrap();
        assert_eq!(entries[leaf as usize].digest, row(seed).leaf_sha256);
    }
}

async fn more_than_a_step_takes_is_done_in_several(test: TestStore) {
    record(&test, 0..5000).await;
    let mut sequencer = sequencer(&test, "ca-1");
    assert_eq!(sequencer.look().await.unwrap(), Looked::More);
    assert_eq!(sequencer.look().await.unwrap(), Looked::Idle);
    assert_eq!(verified(&test).await.len(), 5000);
}

async fn entries_go_when_all_of_a_bundle_ended_and_hashes_stay(test: TestStore) {
    let mut sequencer = sequencer(&test, "ca-1");
    record(&test, 0..300).await;
    // What is settled is known when nobody has written meanwhile.
    for _ in 0..3 {
        settle(&mut sequencer).await;
    }
    assert_eq!(test.store.prune(row(0).not_after).await.unwrap(), 0);
    let after = row(0).not_after + Duration::from_secs(1);
    assert_eq!(test.store.prune(after).await.unwrap(), 299);
    let tile = |content, number| TilePath::in_tree(content, number, 300).unwrap();
    let read = async |path| test.store.log_tile(path).await.unwrap();
    assert_eq!(read(tile(Content::Entries, 0)).await, None);
    assert!(read(tile(Content::Entries, 1)).await.is_some());
    assert!(read(tile(Content::Hashes { level: 0 }, 0)).await.is_some());
    record(&test, 300..301).await;
    settle(&mut sequencer).await;
    assert_eq!(test.store.log_state().await.unwrap().size, 301);
}

/// A transaction that has drawn its sequence, and is not committed.
async fn writer(test: &TestStore, serial: &str) -> PgConnection {
    let StorePlace::Postgres(server) = &test.config.place else {
        panic!("it is a file");
    };
    let options = PgConnectOptions::new_without_pgpass()
        .socket(&server.host)
        .username(&server.user)
        .database(&server.database);
    let mut connection = options.connect().await.unwrap();
    let insert = format!(
        "BEGIN; INSERT INTO issued (serial, spiffe_id, agent_id, issuer, not_before, not_after,
                                    issued_at, leaf_sha256)
         VALUES ('{serial}', '{id}', '{id}', 'i', 0, 1, 0, decode(repeat('ab', 32), 'hex'))",
        id = orders()
    );
    let insert = sqlx::raw_sql(sqlx::AssertSqlSafe(insert));
    insert.execute(&mut connection).await.unwrap();
    connection
}

async fn end(mut connection: PgConnection, how: &'static str) {
    sqlx::raw_sql(how).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_record_that_is_committed_late_becomes_a_leaf() {
    let Some(test) = TestStore::open_on_postgres().await else {
        return;
    };
    let mut sequencer = sequencer(&test, "ca-1");
    let late = writer(&test, "7f01").await;
    let never = writer(&test, "7f02").await;
    for seed in 0..4 {
        record(&test, seed..seed + 1).await;
        settle(&mut sequencer).await;
    }
    assert_eq!(test.store.log_state().await.unwrap().settled, 0);
    end(late, "COMMIT").await;
    end(never, "ROLLBACK").await;
    settle(&mut sequencer).await;
    assert_eq!(verified(&test).await.len(), 5);
    settle(&mut sequencer).await;
    let state = test.store.log_state().await.unwrap();
    assert_eq!((state.size, state.settled), (5, 6));
    let leaf = test.store.leaf_of("7f01".parse().unwrap()).await.unwrap();
    assert_eq!(leaf, Some(4));
}
