//! Claims on steps of authorities, and on whom they wait for.

use identity::SerialNumber;

use super::*;

const ROOT: KeyPurpose = KeyPurpose::X509Root;

fn key(version: u32) -> SealedKeyRow {
    SealedKeyRow {
        purpose: ROOT,
        key_id: format!("key-{version}"),
        version,
        wrapped_data_key: vec![1],
        sealed: vec![2],
        kek_check: [3; 16],
        certificate: vec![4],
        created_at: NOW,
    }
}

fn step(from: u64, made: Option<SealedKeyRow>, destroyed: Vec<u32>) -> AuthorityStep {
    AuthorityStep {
        purpose: ROOT,
        from,
        json: format!("after {from}"),
        made,
        destroyed,
    }
}

fn system() -> Authorship {
    Authorship {
        author: "system".to_owned(),
        reason: "a test".to_owned(),
        at: NOW,
    }
}

async fn begin(test: &TestStore) {
    let store = &test.store;
    store.insert_sealed_key_if_absent(key(1)).await.unwrap();
    let first = store.insert_authority_state_if_absent(ROOT, "first").await;
    assert_eq!(first.unwrap().version, 1);
}

on_each_database![
    a_late_step_changes_nothing,
    a_key_under_the_kek_of_before_is_not_kept,
    a_certificate_is_installed_once_and_for_a_key_that_waits_for_it,
    a_second_first_state_is_not_kept,
    a_step_makes_one_revision_and_changes_keys_with_it,
    an_agent_is_live_as_long_as_anything_that_it_holds,
    an_acknowledged_bundle_never_goes_back,
    the_last_leaf_of_each_authority_is_known_and_an_unknown_issuer_is_the_firsts,
];

async fn a_late_step_changes_nothing(test: TestStore) {
    begin(&test).await;
    let store = &test.store;
    store
        .step_authority(&step(1, None, vec![]), &system())
        .await
        .unwrap();
    let head = store.head().await.unwrap();
    let late = store
        .step_authority(&step(1, Some(key(2)), vec![1]), &system())
        .await;
    assert!(matches!(late, Err(AuthorityStepError::Moved)));
    assert_eq!(store.head().await.unwrap(), head);
    assert_eq!(store.sealed_keys().await.unwrap(), [key(1)]);
    let state = store.authority_state(ROOT).await.unwrap().unwrap();
    assert_eq!((state.version, state.json.as_str()), (2, "after 1"));
}

async fn a_key_under_the_kek_of_before_is_not_kept(test: TestStore) {
    begin(&test).await;
    let store = &test.store;
    let rewrapped = SealedKeyRow {
        kek_check: [4; 16],
        ..key(1)
    };
    let rewrapped = [rewrapped];
    assert!(store.rewrap_sealed_keys([3; 16], &rewrapped).await.unwrap());
    let late = step(1, Some(key(2)), vec![]);
    let late = store.step_authority(&late, &system()).await;
    assert!(matches!(late, Err(AuthorityStepError::Moved)));
    let late = store.insert_sealed_key_if_absent(key(2)).await;
    assert!(matches!(late, Err(StoreError::OtherKek)));
    assert_eq!(store.sealed_keys().await.unwrap(), rewrapped);
    let state = store.authority_state(ROOT).await.unwrap().unwrap();
    assert_eq!(state.version, 1);
}

async fn a_certificate_is_installed_once_and_for_a_key_that_waits_for_it(test: TestStore) {
    begin(&test).await;
    let (store, purpose) = (&test.store, KeyPurpose::MeshAuthority);
    let waiting = SealedKeyRow {
        purpose,
        certificate: vec![],
        ..key(2)
    };
    let install = |key_id, certificate| store.install_certificate(purpose, key_id, certificate);
    store.insert_sealed_key_if_absent(waiting).await.unwrap();
    assert!(!install("key-1", vec![5]).await.unwrap());
    assert!(install("key-2", vec![5]).await.unwrap());
    assert!(!install("key-2", vec![6]).await.unwrap());
    let kept = store.sealed_keys().await.unwrap();
    let kept = kept.iter().find(|row| row.purpose == purpose).unwrap();
    assert_eq!(kept.certificate, [5]);
}

async fn a_second_first_state_is_not_kept(test: TestStore) {
    begin(&test).await;
    let kept = test
        .store
        .insert_authority_state_if_absent(ROOT, "second")
        .await;
    assert_eq!(kept.unwrap().json, "first");
}

async fn a_step_makes_one_revision_and_changes_keys_with_it(test: TestStore) {
    begin(&test).await;
    let store = &test.store;
    let revision = store
        .step_authority(&step(1, Some(key(2)), vec![1]), &system())
        .await
        .unwrap();
    assert_eq!(revision.number, 1);
    let row = store.revision(1).await.unwrap().unwrap();
    assert_eq!(row.author, "system");
    assert_eq!(store.sealed_keys().await.unwrap(), [key(2)]);
}

fn agent(name: &str) -> identity::SpiffeId {
    format!("spiffe://corp.example/countersign/agent/join-token/{name}")
        .parse()
        .unwrap()
}

async fn join(store: &Store, name: &str, serial: u8, not_after: OffsetDateTime) {
    let row = AgentRow {
        spiffe_id: agent(name),
        attested_at: NOW,
        serial: SerialNumber::random(&mut crypto::random::SeededRandom::new(u64::from(serial))),
        not_after,
        selectors: policy::resource::AgentSelectors::none(),
    };
    store.record_agent(row).await.unwrap();
}

fn leaf(through: &str, issuer: &str, seed: u64, not_after: OffsetDateTime) -> IssuedRow {
    IssuedRow {
        serial: SerialNumber::random(&mut crypto::random::SeededRandom::new(seed)),
        spiffe_id: "spiffe://corp.example/ns/shop/sa/orders".parse().unwrap(),
        agent_id: agent(through),
        issuer: issuer.to_owned(),
        not_before: NOW,
        not_after,
        issued_at: NOW,
        leaf_sha256: crypto::digest::Sha256::of(b"leaf"),
    }
}

async fn an_agent_is_live_as_long_as_anything_that_it_holds(test: TestStore) {
    begin(&test).await;
    let store = &test.store;
    join(store, "ended", 1, NOW).await;
    join(store, "holder", 2, NOW).await;
    join(store, "live", 3, NOW + minutes(1)).await;
    let leaves = [
        leaf("holder", "i", 10, NOW + minutes(1)),
        leaf("forgotten", "i", 11, NOW + minutes(1)),
        leaf("ended", "i", 12, NOW),
    ];
    store.record_issued(&leaves).await.unwrap();
    let live = store.live_agents(NOW).await.unwrap();
    let live: Vec<_> = live.into_iter().map(|it| it.spiffe_id).collect();
    assert_eq!(live, [agent("holder"), agent("live")]);
}

async fn an_acknowledged_bundle_never_goes_back(test: TestStore) {
    begin(&test).await;
    let store = &test.store;
    join(store, "live", 3, NOW + minutes(1)).await;
    store.note_bundle(&[agent("live")], 3).await.unwrap();
    store.note_bundle(&[agent("live")], 2).await.unwrap();
    join(store, "live", 4, NOW + minutes(1)).await;
    assert_eq!(store.live_agents(NOW).await.unwrap()[0].bundle_sequence, 3);
}

async fn the_last_leaf_of_each_authority_is_known_and_an_unknown_issuer_is_the_firsts(
    test: TestStore,
) {
    begin(&test).await;
    let store = &test.store;
    let intermediate = IntermediateRow {
        key_id: "new".to_owned(),
        generation: 2,
        replica: "ca-1".to_owned(),
        not_before: NOW,
        not_after: NOW + minutes(60),
        serial: None,
        is_superseded: false,
    };
    let certificate = AuthorityCertificate {
        der: b"certificate",
        issuer: "root",
        recorded_at: NOW,
    };
    let recorded = store.record_intermediate(&intermediate, certificate);
    recorded.await.unwrap();
    let leaves = [
        leaf("a", "new", 1, NOW + minutes(9)),
        leaf("a", "new", 2, NOW + minutes(3)),
        leaf("a", "old", 3, NOW + minutes(2)),
    ];
    store.record_issued(&leaves).await.unwrap();
    let until = store.leaves_until(NOW).await.unwrap();
    assert_eq!(
        until.into_iter().collect::<Vec<_>>(),
        [(1, NOW + minutes(2)), (2, NOW + minutes(9))]
    );
    assert_eq!(store.intermediates(NOW).await.unwrap(), [intermediate]);
}
