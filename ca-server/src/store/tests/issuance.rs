//! Claims about issuance records: durable, complete, pruned in time.

use crypto::digest::Sha256;
use crypto::random::SeededRandom;
use identity::{SerialNumber, SpiffeId};

use super::*;

fn serial(seed: u64) -> SerialNumber {
    SerialNumber::random(&mut SeededRandom::new(seed))
}

fn agent() -> SpiffeId {
    "spiffe://corp.example/countersign/agent/join-token/web-7"
        .parse()
        .unwrap()
}

fn orders() -> SpiffeId {
    "spiffe://corp.example/ns/shop/sa/orders".parse().unwrap()
}

fn row(seed: u64, spiffe_id: SpiffeId) -> IssuedRow {
    IssuedRow {
        serial: serial(seed),
        spiffe_id,
        agent_id: agent(),
        issuer: "ab'\"\\".to_owned(),
        not_before: NOW,
        not_after: NOW + minutes(60),
        issued_at: NOW,
        leaf_sha256: Sha256::of(b"leaf"),
    }
}

on_each_database![
    one_duplicate_serial_keeps_the_whole_batch_out,
    records_come_newest_first_and_by_identity,
    the_latest_serial_of_an_agent_is_of_its_own_svids,
    records_are_pruned_by_their_end,
    a_forgotten_agent_is_not_renewed,
    a_serial_older_than_one_that_was_seen_is_told_apart,
    an_unknown_expired_or_revoked_credential_admits_nobody,
    there_is_one_first_credential,
    the_latest_of_each_identity_at_each_agent_comes_page_by_page,
    what_was_spooled_is_recorded_once_and_renews_the_agents,
];

async fn one_duplicate_serial_keeps_the_whole_batch_out(test: TestStore) {
    test.store.record_issued(&[row(1, orders())]).await.unwrap();
    let refused = test
        .store
        .record_issued(&[row(2, orders()), row(1, orders())])
        .await;
    assert!(matches!(
        refused,
        Err(StoreError::Duplicate {
            what: "serial number"
        })
    ));
    assert_eq!(
        test.store
            .issued(&IssuedFilter::default(), 9)
            .await
            .unwrap(),
        [row(1, orders())]
    );
}

#[tokio::test]
async fn a_full_disk_records_nothing_and_says_unavailable() {
    let test = TestStore::open().await;
    let Database::Sqlite(sqlite) = &*test.store.database else {
        panic!("it was opened in a file");
    };
    sqlite.fill_disk().await.unwrap();
    let rows: Vec<_> = (0..5000).map(|seed| row(seed, orders())).collect();
    let refused = test.store.record_issued(&rows).await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable(_))),
        "{refused:?}"
    );
    assert_eq!(
        test.store
            .issued(&IssuedFilter::default(), 9)
            .await
            .unwrap(),
        []
    );
}

async fn records_come_newest_first_and_by_identity(test: TestStore) {
    let rows = [row(1, orders()), row(2, agent()), row(3, orders())];
    test.store.record_issued(&rows).await.unwrap();
    let filter = IssuedFilter {
        spiffe_id: Some(orders()),
        ..IssuedFilter::default()
    };
    let found = test.store.issued(&filter, 2).await.unwrap();
    assert_eq!(found, [rows[2].clone(), rows[0].clone()]);
}

async fn the_latest_serial_of_an_agent_is_of_its_own_svids(test: TestStore) {
    test.store
        .record_issued(&[row(1, agent()), row(2, agent()), row(3, orders())])
        .await
        .unwrap();
    assert_eq!(
        test.store.latest_serial(&agent()).await.unwrap(),
        Some(serial(2))
    );
    assert_eq!(test.store.latest_serial(&orders()).await.unwrap(), None);
}

async fn records_are_pruned_by_their_end(test: TestStore) {
    let late = IssuedRow {
        not_after: NOW + minutes(61),
        ..row(2, orders())
    };
    test.store
        .record_issued(&[row(1, orders()), late.clone()])
        .await
        .unwrap();
    assert_eq!(test.store.prune(NOW + minutes(61)).await.unwrap(), 0);
    test.store.settle_log(0, 2).await.unwrap();
    assert_eq!(test.store.prune(NOW + minutes(61)).await.unwrap(), 1);
    assert_eq!(
        test.store
            .issued(&IssuedFilter::default(), 9)
            .await
            .unwrap(),
        [late]
    );
}

async fn a_forgotten_agent_is_not_renewed(test: TestStore) {
    let row = AgentRow {
        spiffe_id: agent(),
        attested_at: NOW,
        serial: serial(1),
        not_after: NOW + minutes(60),
        selectors: policy::resource::AgentSelectors::none(),
    };
    test.store.record_agent(row.clone()).await.unwrap();
    assert_eq!(test.store.agent(&agent()).await.unwrap(), Some(row));
    assert!(test.store.forget_agent(&agent()).await.unwrap());
    assert!(
        !test
            .store
            .renew_agent(&agent(), serial(2), NOW + minutes(90))
            .await
            .unwrap()
    );
    assert_eq!(test.store.agents().await.unwrap(), []);
}

async fn a_serial_older_than_one_that_was_seen_is_told_apart(test: TestStore) {
    let known = AgentRow {
        spiffe_id: agent(),
        attested_at: NOW,
        serial: serial(2),
        not_after: NOW + minutes(60),
        selectors: policy::resource::AgentSelectors::none(),
    };
    test.store.record_agent(known).await.unwrap();
    test.store
        .record_issued(&[row(1, agent()), row(2, agent()), row(3, orders())])
        .await
        .unwrap();
    test.store
        .note_seen_serial(&agent(), serial(2))
        .await
        .unwrap();
    // Neither an earlier one, nor another identity's, takes its place.
    test.store
        .note_seen_serial(&agent(), serial(1))
        .await
        .unwrap();
    test.store
        .note_seen_serial(&agent(), serial(3))
        .await
        .unwrap();
    assert!(
        test.store
            .newer_serial_seen(&agent(), serial(1))
            .await
            .unwrap()
    );
    assert!(
        !test
            .store
            .newer_serial_seen(&agent(), serial(2))
            .await
            .unwrap()
    );
}

fn credential(id: &str, secret: &[u8]) -> AdminCredentialRow {
    AdminCredentialRow {
        id: id.to_owned(),
        secret_sha256: Sha256::of(secret),
        created_at: NOW,
        expires_at: NOW + minutes(60),
        revoked_at: None,
    }
}

async fn an_unknown_expired_or_revoked_credential_admits_nobody(test: TestStore) {
    test.store
        .put_admin_credential(credential("1", b"a"))
        .await
        .unwrap();
    let (right, wrong) = (Sha256::of(b"a"), Sha256::of(b"b"));
    assert_eq!(test.store.check_admin(&wrong, NOW).await.unwrap(), None);
    assert_eq!(
        test.store
            .check_admin(&right, NOW + minutes(60))
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        test.store
            .check_admin(&right, NOW)
            .await
            .unwrap()
            .unwrap()
            .id(),
        "1"
    );
    assert!(test.store.revoke_admin_credential("1", NOW).await.unwrap());
    assert_eq!(test.store.check_admin(&right, NOW).await.unwrap(), None);
}

async fn there_is_one_first_credential(test: TestStore) {
    assert!(
        test.store
            .put_first_admin_credential(credential("1", b"a"))
            .await
            .unwrap()
    );
    assert!(
        !test
            .store
            .put_first_admin_credential(credential("2", b"b"))
            .await
            .unwrap()
    );
    assert_eq!(
        test.store.admin_credentials().await.unwrap(),
        [credential("1", b"a")]
    );
}

async fn the_latest_of_each_identity_at_each_agent_comes_page_by_page(test: TestStore) {
    let ending = |seed: u64, id: SpiffeId, after: u64| IssuedRow {
        not_after: NOW + minutes(after),
        issued_at: NOW + minutes(after) - minutes(60),
        ..row(seed, id)
    };
    let rows = [
        ending(1, orders(), 10),
        ending(2, orders(), 50),
        ending(3, agent(), 40),
        ending(
            4,
            "spiffe://corp.example/ns/shop/sa/over".parse().unwrap(),
            0,
        ),
    ];
    test.store.record_issued(&rows).await.unwrap();
    let first = test.store.latest_svids(NOW, None, 1).await.unwrap();
    let rest = test
        .store
        .latest_svids(NOW, first.first(), 9)
        .await
        .unwrap();
    let ids = |page: &[LatestSvid]| -> Vec<_> {
        let ends = page
            .iter()
            .map(|svid| (svid.spiffe_id.clone(), svid.not_after));
        ends.collect()
    };
    assert_eq!(ids(&first), [(agent(), NOW + minutes(40))]);
    assert_eq!(ids(&rest), [(orders(), NOW + minutes(50))]);
}

async fn what_was_spooled_is_recorded_once_and_renews_the_agents(test: TestStore) {
    let known = AgentRow {
        spiffe_id: agent(),
        attested_at: NOW,
        serial: serial(1),
        not_after: NOW + minutes(10),
        selectors: policy::resource::AgentSelectors::none(),
    };
    assert!(test.store.record_agent(known).await.unwrap());
    test.store.record_issued(&[row(1, agent())]).await.unwrap();
    let spooled = [row(1, agent()), row(2, agent()), row(3, orders())];
    for _ in 0..2 {
        test.store.record_spooled(&spooled).await.unwrap();
    }
    let all = test
        .store
        .issued(&IssuedFilter::default(), 9)
        .await
        .unwrap();
    assert_eq!(all, [row(3, orders()), row(2, agent()), row(1, agent())]);
    let agents = test.store.agents().await.unwrap();
    assert_eq!(agents[0].not_after, NOW + minutes(60));
    test.store.probe_write().await.unwrap();
}
