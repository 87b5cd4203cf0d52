//! Claims about several replicas on one PostgreSQL database.

use std::net::{IpAddr, Ipv4Addr};

use crypto::digest::Sha256;
use policy::Revision;
use tokio::task::JoinSet;

use super::*;

fn authorship() -> Authorship {
    Authorship {
        author: "admin/1".to_owned(),
        reason: "test".to_owned(),
        at: NOW,
    }
}

/// Judges a new workload on what `store` holds.
async fn staged(store: &Store, name: &str) -> Staged {
    let current = store.in_force().await.unwrap();
    let changes = Changes {
        upserts: vec![workload(name, 1)],
        ..Changes::default()
    };
    Staged::try_new(&current, changes, &mesh()).unwrap()
}

#[tokio::test]
async fn replicas_that_start_at_once_on_nothing_make_one_mesh() {
    let Some(server) = fresh_database() else {
        return;
    };
    let config = config(StorePlace::Postgres(server));
    let opening = (0..4).map(|_| {
        let config = config.clone();
        async move { Store::open(&config, NOW).await.unwrap() }
    });
    let stores = opening.collect::<JoinSet<_>>().join_all().await;
    let epochs: Vec<_> = stores.iter().map(Store::epoch).collect();
    assert_eq!(epochs, [epochs[0]; 4]);
}

#[tokio::test]
async fn of_two_first_roots_one_is_kept_and_both_replicas_read_it() {
    let Some(test) = TestStore::open_on_postgres().await else {
        return;
    };
    let other = test.second_replica().await;
    let row = |key_id: &str| SealedKeyRow {
        purpose: KeyPurpose::X509Root,
        key_id: key_id.to_owned(),
        version: 1,
        wrapped_data_key: vec![1],
        sealed: vec![2],
        kek_check: [3; 16],
        certificate: vec![4],
        created_at: NOW,
    };
    let (first, second) = tokio::join!(
        test.store.insert_sealed_key_if_absent(row("a")),
        other.insert_sealed_key_if_absent(row("b"))
    );
    let kept = first.unwrap();
    assert_eq!(kept, second.unwrap());
    assert_eq!(test.store.sealed_keys().await.unwrap(), [kept]);
}

#[tokio::test]
async fn of_two_first_credentials_one_is_kept() {
    let Some(test) = TestStore::open_on_postgres().await else {
        return;
    };
    let other = test.second_replica().await;
    let row = |id: &str| AdminCredentialRow {
        id: id.to_owned(),
        secret_sha256: Sha256::of(id.as_bytes()),
        created_at: NOW,
        expires_at: NOW + minutes(60),
        revoked_at: None,
    };
    let (first, second) = tokio::join!(
        test.store.put_first_admin_credential(row("a")),
        other.put_first_admin_credential(row("b"))
    );
    assert_ne!(first.unwrap(), second.unwrap());
    assert_eq!(test.store.admin_credentials().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_token_that_two_replicas_are_shown_at_once_is_bound_once() {
    let Some(test) = TestStore::open_on_postgres().await else {
        return;
    };
    let other = test.second_replica().await;
    let token = NewJoinToken {
        id: "t1".to_owned(),
        secret_sha256: Sha256::of(b"secret"),
        agent_id: "spiffe://corp.example/countersign/agent/join-token/web-7"
            .parse()
            .unwrap(),
        cidr: None,
        author: "admin/1".to_owned(),
        created_at: NOW,
        expires_at: NOW + minutes(10),
    };
    test.store.create_join_tokens(vec![token]).await.unwrap();
    let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let redeem = |store: Store, key: &'static [u8]| async move {
        let (secret, key) = (Sha256::of(b"secret"), Sha256::of(key));
        store.redeem("t1", secret, key, from, NOW).await
    };
    let (a, b) = tokio::join!(redeem(test.store.clone(), b"a"), redeem(other, b"b"));
    let (winner, loser) = if a.is_ok() { (a, b) } else { (b, a) };
    assert!(winner.is_ok());
    assert!(matches!(loser, Err(RedeemError::AlreadyUsed)), "{loser:?}");
}

#[tokio::test]
async fn of_two_writes_on_one_base_the_second_is_told_that_it_moved() {
    let Some(test) = TestStore::open_on_postgres().await else {
        return;
    };
    let other = test.second_replica().await;
    let (a, b) = (
        staged(&test.store, "orders").await,
        staged(&other, "checkout").await,
    );
    let by = authorship();
    let (a, b) = tokio::join!(test.store.commit(&a, &by), other.commit(&b, &by));
    let (winner, loser) = if a.is_ok() { (a, b) } else { (b, a) };
    let head = winner.unwrap();
    assert!(
        matches!(loser, Err(CommitError::Moved { head: found }) if found == head),
        "{loser:?}"
    );
    let in_force = test.store.in_force().await.unwrap();
    assert_eq!(in_force.objects().len(), 1);
}

#[tokio::test]
async fn revisions_of_replicas_that_write_at_once_have_no_gaps() {
    const EACH: u64 = 8;
    let Some(test) = TestStore::open_on_postgres().await else {
        return;
    };
    let writers = ["a", "b", "c"].map(|writer| {
        let config = test.config.clone();
        async move {
            let store = Store::open(&config, NOW).await.unwrap();
            let mut written = 0;
            while written < EACH {
                let staged = staged(&store, &format!("{writer}{written}")).await;
                match store.commit(&staged, &authorship()).await {
                    Ok(_) => written += 1,
                    Err(CommitError::Moved { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    });
    writers.into_iter().collect::<JoinSet<_>>().join_all().await;
    let rows = test.store.revisions(99, None).await.unwrap();
    let numbers: Vec<_> = rows.iter().rev().map(|row| row.revision.number).collect();
    assert_eq!(numbers, (1..=3 * EACH).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_revision_is_enforced_when_no_live_replica_is_behind_it() {
    let Some(test) = TestStore::open_on_postgres().await else {
        return;
    };
    let store = &test.store;
    let first = staged(store, "orders").await;
    let first = store.commit(&first, &authorship()).await.unwrap();
    let nothing = Revision { number: 0, ..first };
    store.note_enforced("ca-2", nothing, NOW).await.unwrap();

    store.note_enforced("ca-1", first, NOW).await.unwrap();
    let waiting = store.revision(first.number).await.unwrap().unwrap();
    let later = NOW + minutes(1);
    store.note_enforced("ca-1", first, later).await.unwrap();
    let alone = store.revision(first.number).await.unwrap().unwrap();

    assert_eq!(
        (waiting.enforced_at, alone.enforced_at),
        (None, Some(later))
    );
}

#[tokio::test]
async fn how_long_enforcement_took_is_counted_by_the_database_whatever_replicas_think() {
    let Some(test) = TestStore::open_on_postgres().await else {
        return;
    };
    let store = &test.store;
    let first = staged(store, "orders").await;
    let first = store.commit(&first, &authorship()).await.unwrap();
    let ahead = NOW + minutes(600);
    let ages = store.ages_of(1..=first.number, ahead).await.unwrap();
    store.note_enforced("ca-1", first, ahead).await.unwrap();
    let row = store.revision(first.number).await.unwrap().unwrap();
    assert_eq!(row.enforced_at, Some(ahead));
    for took in ages.into_iter().chain(row.enforced_after) {
        assert!(took < minutes(300), "{took:?}");
    }
}

#[tokio::test]
async fn in_a_file_enforcement_is_counted_by_the_clock_of_the_only_replica() {
    let test = TestStore::open().await;
    let store = &test.store;
    let first = staged(store, "orders").await;
    let first = store.commit(&first, &authorship()).await.unwrap();
    let committed = store.revision(first.number).await.unwrap().unwrap();
    let later = committed.committed_at + minutes(2);
    assert_eq!(store.ages_of(1..=9, later).await.unwrap(), [minutes(2)]);
    store.note_enforced("ca-1", first, later).await.unwrap();
    let row = store.revision(first.number).await.unwrap().unwrap();
    assert_eq!(
        (committed.enforced_after, row.enforced_after),
        (None, Some(minutes(2)))
    );
}

#[tokio::test]
async fn what_live_replicas_tell_of_themselves_is_known_to_the_others() {
    let Some(test) = TestStore::open_on_postgres().await else {
        return;
    };
    let store = &test.store;
    let head = store.head().await.unwrap();
    let seen = [("ca-1", NOW), ("ca-2", NOW), ("gone", NOW - minutes(1))];
    for (replica, at) in seen {
        store.note_enforced(replica, head, at).await.unwrap();
        store.tell_hold_ups(replica, replica).await.unwrap();
    }
    let others = store.other_replicas("ca-1", NOW).await.unwrap();
    let other = OtherReplica {
        name: "ca-2".to_owned(),
        enforced: head.number,
        hold_ups: Some("ca-2".to_owned()),
    };
    assert_eq!(others, [other]);
}

#[tokio::test]
async fn a_replica_that_left_holds_nobody_up() {
    let Some(test) = TestStore::open_on_postgres().await else {
        return;
    };
    let store = &test.store;
    let first = staged(store, "orders").await;
    let first = store.commit(&first, &authorship()).await.unwrap();
    let nothing = Revision { number: 0, ..first };
    store.note_enforced("ca-2", nothing, NOW).await.unwrap();
    store.leave("ca-2").await.unwrap();
    store.note_enforced("ca-1", first, NOW).await.unwrap();
    let row = store.revision(first.number).await.unwrap().unwrap();
    assert_eq!(row.enforced_at, Some(NOW));
}

#[tokio::test]
async fn of_two_replicas_that_want_a_duty_one_has_it_until_it_ends() {
    let Some(test) = TestStore::open_on_postgres().await else {
        return;
    };
    let other = test.second_replica().await;
    let (first, second) = tokio::join!(
        test.store.take(Duty::Pruning, "ca-1", minutes(1), NOW),
        other.take(Duty::Pruning, "ca-2", minutes(1), NOW)
    );
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(first.is_some() != second.is_some(), "{first:?} {second:?}");
    let late = other.take(Duty::Pruning, "ca-3", minutes(1), NOW + minutes(1));
    assert_eq!(late.await.unwrap().unwrap().version(), 2);
}

#[tokio::test]
async fn a_duty_goes_on_without_changing_hands() {
    let test = TestStore::open().await;
    let take = |at| test.store.take(Duty::Pruning, "ca-1", minutes(2), at);
    let first = take(NOW).await.unwrap().unwrap();
    let again = take(NOW + minutes(1)).await.unwrap().unwrap();
    assert_eq!(first.version(), again.version());
    assert_eq!(again.until(), NOW + minutes(3));
}

#[tokio::test]
async fn a_replica_hears_of_what_another_commits_and_forgets() {
    let Some(test) = TestStore::open_on_postgres().await else {
        return;
    };
    let other = test.second_replica().await;
    let mut notices = other.notices("ca-2").await.unwrap().unwrap();
    assert_eq!(notices.next().await, Notice::Anything);
    let agent: identity::SpiffeId = "spiffe://corp.example/countersign/agent/join-token/web-7"
        .parse()
        .unwrap();
    let row = AgentRow {
        spiffe_id: agent.clone(),
        attested_at: NOW,
        serial: identity::SerialNumber::random(&mut crypto::random::SeededRandom::new(1)),
        not_after: NOW + minutes(60),
        selectors: policy::resource::AgentSelectors::none(),
    };
    test.store.record_agent(row).await.unwrap();
    let change = staged(&test.store, "orders").await;
    test.store.commit(&change, &authorship()).await.unwrap();
    assert!(test.store.forget_agent(&agent).await.unwrap());
    assert_eq!(notices.next().await, Notice::Revision(1));
    assert_eq!(notices.next().await, Notice::Agent(agent));
}

#[tokio::test]
async fn a_restored_backup_is_the_same_mesh() {
    let Some(test) = TestStore::open_on_postgres().await else {
        return;
    };
    let change = staged(&test.store, "orders").await;
    test.store.commit(&change, &authorship()).await.unwrap();
    let StorePlace::Postgres(server) = &test.config.place else {
        panic!("it is on a server");
    };
    let copy = postgres_cluster::shared()
        .unwrap()
        .restored(&server.database);
    let place = PostgresServer::local(&server.host, server.port, &copy.name, &server.user);
    let restored = Store::open(&config(StorePlace::Postgres(place)), NOW)
        .await
        .unwrap();
    assert_eq!(restored.epoch(), test.store.epoch());
    assert_eq!(
        restored.in_force().await.unwrap(),
        test.store.in_force().await.unwrap()
    );
}

#[tokio::test]
async fn the_servers_clock_is_what_replicas_have_in_common() {
    let Some(test) = TestStore::open_on_postgres().await else {
        return;
    };
    let clock = runtime::Clock::system();
    let before = clock.now() - Duration::from_millis(1);
    let theirs = test.store.database_time().await.unwrap().unwrap();
    assert!((before..=clock.now()).contains(&theirs), "{theirs}");
    let in_a_file = TestStore::open().await;
    assert_eq!(in_a_file.store.database_time().await.unwrap(), None);
}

#[tokio::test]
async fn only_replicas_that_live_are_asked_when_what_they_sign_with_ends() {
    let Some(test) = TestStore::open_on_postgres().await else {
        return;
    };
    let store = &test.store;
    for (replica, key, ends) in [("ca-1", "a", 10), ("ca-1", "b", 90), ("ca-2", "c", 20)] {
        let row = IntermediateRow {
            key_id: key.to_owned(),
            generation: 1,
            replica: replica.to_owned(),
            not_before: NOW,
            not_after: NOW + minutes(ends),
            serial: None,
            is_superseded: false,
        };
        let certificate = AuthorityCertificate {
            der: b"certificate",
            issuer: "root",
            recorded_at: NOW,
        };
        store.record_intermediate(&row, certificate).await.unwrap();
    }
    let none = Revision {
        epoch: store.epoch(),
        number: 0,
    };
    store.note_enforced("ca-1", none, NOW).await.unwrap();
    store
        .note_enforced("ca-2", none, NOW - minutes(1))
        .await
        .unwrap();
    let ends = store.replica_ends(NOW).await.unwrap();
    let ends: Vec<_> = ends
        .iter()
        .map(|end| (end.replica.as_str(), end.not_after))
        .collect();
    assert_eq!(ends, [("ca-1", NOW + minutes(90))]);
}

#[tokio::test]
async fn a_replica_reads_what_another_announces_above_what_it_knows() {
    let Some(test) = TestStore::open_on_postgres().await else {
        return;
    };
    let other = test.second_replica().await;
    let mut notices = other.notices("ca-2").await.unwrap().unwrap();
    assert_eq!(notices.next().await, Notice::Anything);
    let change = |list: Option<&str>| AnnouncedChange {
        agent: "spiffe://corp.example/countersign/agent/join-token/web-7"
            .parse()
            .unwrap(),
        connected: list.is_some(),
        list: list.map(str::to_owned),
    };
    let changes = [change(Some("[]"))];
    let first = test.store.announce("ca-1", &changes, NOW).await.unwrap();
    let replica = "ca-1".to_owned();
    let told = Notice::Announced {
        replica: replica.clone(),
        stamp: first,
    };
    assert_eq!(notices.next().await, told);
    let known = [(replica.clone(), first - 1)].into();
    let rows = other.announced_since(&known).await.unwrap();
    assert_eq!((rows[0].stamp, rows[0].connected), (first, true));
    let known = [(replica, first)].into();
    assert_eq!(other.announced_since(&known).await.unwrap(), []);

    let changes = [change(None)];
    let second = test.store.announce("ca-1", &changes, NOW).await.unwrap();
    let rows = other.announced_since(&known).await.unwrap();
    assert_eq!((rows[0].stamp, rows[0].connected), (second, false));
}

#[tokio::test]
async fn a_replica_that_was_heard_of_again_is_not_forgotten() {
    let Some(test) = TestStore::open_on_postgres().await else {
        return;
    };
    let store = &test.store;
    let nothing = store.head().await.unwrap();
    store.note_enforced("ca-1", nothing, NOW).await.unwrap();
    let change = AnnouncedChange {
        agent: "spiffe://corp.example/countersign/agent/join-token/web-7"
            .parse()
            .unwrap(),
        connected: true,
        list: None,
    };
    let stamp = store.announce("ca-1", &[change], NOW).await.unwrap();
    let before = Some(NOW - minutes(1));
    store.forget_replica("ca-1", before, stamp).await.unwrap();
    assert_eq!(store.announced().await.unwrap().len(), 1);
    store
        .forget_replica("ca-1", Some(NOW), stamp)
        .await
        .unwrap();
    assert_eq!(store.announced().await.unwrap(), []);
}

#[tokio::test]
async fn two_replicas_of_one_name_are_refused_until_the_first_is_gone() {
    let Some(test) = TestStore::open_on_postgres().await else {
        return;
    };
    let other = test.second_replica().await;
    let first = test.store.notices("ca-1").await.unwrap().unwrap();
    let refused = other.notices("ca-1");
    let waiting = tokio::time::timeout(Duration::from_secs(1), refused).await;
    assert!(
        waiting.is_err(),
        "it waits for one that may be about to end"
    );
    assert!(other.notices("ca-2").await.unwrap().is_some());
    drop(first);
    test.store.close().await;
    assert!(test.second_replica().await.notices("ca-1").await.is_ok());
}

#[tokio::test]
async fn a_running_replica_stops_writing_when_the_schema_outgrows_it() {
    let Some(test) = TestStore::open_on_postgres().await else {
        return;
    };
    let change = staged(&test.store, "orders").await;
    test.tamper("UPDATE schema SET version = 99, min_reader = 98")
        .await
        .unwrap();
    test.store.head().await.unwrap();
    let refused = test.store.commit(&change, &authorship()).await;
    assert!(
        matches!(
            refused,
            Err(CommitError::Store(StoreError::TooNew {
                min_reader: 98,
                ..
            }))
        ),
        "{refused:?}"
    );
}
