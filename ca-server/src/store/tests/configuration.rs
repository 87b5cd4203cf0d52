//! Claims about revisions: whole or not at all, in order, without gaps.

use policy::{ObjectKey, Revision};

use super::*;

impl TestStore {
    /// Judges `changes` on what the store holds.
    async fn stage(&self, changes: Changes) -> Staged {
        let current = self.store.in_force().await.unwrap();
        Staged::try_new(&current, changes, &mesh()).unwrap()
    }

    async fn put(&self, resource: Resource) -> Result<Revision, CommitError> {
        let staged = self
            .stage(Changes {
                upserts: vec![resource],
                ..Changes::default()
            })
            .await;
        self.store.commit(&staged, &authorship()).await
    }
}

fn authorship() -> Authorship {
    Authorship {
        author: "admin/1".to_owned(),
        reason: "test".to_owned(),
        at: NOW,
    }
}

on_each_database![
    a_write_that_fails_half_way_leaves_nothing,
    a_change_judged_on_an_older_revision_is_refused,
    a_failed_precondition_leaves_nothing,
    a_change_of_nothing_makes_no_revision,
    revisions_and_history_cannot_be_changed,
    the_note_of_enforcement_stays_the_first,
    equal_content_has_an_equal_digest,
    what_is_written_and_deleted_reads_back,
    more_objects_than_are_read_at_once_read_back,
    a_name_keeps_its_place_and_no_other_gets_it,
    a_service_of_a_build_without_places_gets_one_at_opening,
];

async fn a_write_that_fails_half_way_leaves_nothing(test: TestStore) {
    let first = test.put(workload("orders", 1)).await.unwrap();
    let before = test.store.in_force().await.unwrap();
    test.tamper(match &*test.store.database {
        Database::Sqlite(_) => {
            "CREATE TRIGGER planted BEFORE UPDATE ON revision_counter
             BEGIN SELECT RAISE(ABORT, 'planted'); END"
        }
        Database::Postgres(_) => {
            "CREATE TRIGGER planted BEFORE UPDATE ON revision_counter
             FOR EACH ROW EXECUTE FUNCTION refuse('planted')"
        }
    })
    .await
    .unwrap();
    let failed = test.put(workload("checkout", 2)).await;
    assert!(matches!(failed, Err(CommitError::Store(_))));
    assert_eq!(test.store.in_force().await.unwrap(), before);
    assert_eq!(test.store.revisions(9, None).await.unwrap().len(), 1);
    test.drop_trigger("planted", "revision_counter")
        .await
        .unwrap();
    let second = test.put(workload("checkout", 2)).await.unwrap();
    assert_eq!(second.number, first.number + 1);
}

async fn a_change_judged_on_an_older_revision_is_refused(test: TestStore) {
    let changes = Changes {
        upserts: vec![workload("orders", 1)],
        ..Changes::default()
    };
    let stale = test.stage(changes).await;
    let head = test.put(workload("checkout", 2)).await.unwrap();
    let refused = test.store.commit(&stale, &authorship()).await;
    assert!(matches!(refused, Err(CommitError::Moved { head: found }) if found == head));
}

async fn a_failed_precondition_leaves_nothing(test: TestStore) {
    let head = test.put(workload("orders", 1)).await.unwrap();
    let key = workload("orders", 1).key();
    for expected in [
        Expected::Absent,
        Expected::AnyOf(vec![Revision { number: 7, ..head }]),
    ] {
        let changes = Changes {
            upserts: vec![workload("orders", 2)],
            preconditions: vec![Precondition {
                key: key.clone(),
                expected,
            }],
            ..Changes::default()
        };
        let staged = test.stage(changes).await;
        let refused = test.store.commit(&staged, &authorship()).await;
        assert!(matches!(
            refused,
            Err(CommitError::PreconditionFailed { found: Some(found), .. }) if found == head
        ));
    }
    assert_eq!(test.store.head().await.unwrap(), head);
}

async fn a_change_of_nothing_makes_no_revision(test: TestStore) {
    let first = test.put(workload("orders", 1)).await.unwrap();
    assert_eq!(test.put(workload("orders", 1)).await.unwrap(), first);
    assert_eq!(test.store.revisions(9, None).await.unwrap().len(), 1);
}

async fn revisions_and_history_cannot_be_changed(test: TestStore) {
    test.put(workload("orders", 1)).await.unwrap();
    for sql in [
        "UPDATE revisions SET author = 'x'",
        "DELETE FROM revisions",
        "UPDATE object_history SET json = NULL",
        "DELETE FROM object_history",
    ] {
        assert!(test.tamper(sql).await.is_err(), "{sql}");
    }
}

async fn the_note_of_enforcement_stays_the_first(test: TestStore) {
    let head = test.put(workload("orders", 1)).await.unwrap();
    test.store
        .note_enforced("ca-1", head, NOW + minutes(1))
        .await
        .unwrap();
    test.store
        .note_enforced("ca-1", head, NOW + minutes(2))
        .await
        .unwrap();
    let row = test.store.revision(head.number).await.unwrap().unwrap();
    assert_eq!(row.enforced_at, Some(NOW + minutes(1)));
}

async fn equal_content_has_an_equal_digest(test: TestStore) {
    test.put(workload("orders", 1)).await.unwrap();
    test.put(workload("orders", 2)).await.unwrap();
    test.put(workload("orders", 1)).await.unwrap();
    let rows = test.store.revisions(9, None).await.unwrap();
    assert_eq!(rows[0].content_sha256, rows[2].content_sha256);
    assert_ne!(rows[0].content_sha256, rows[1].content_sha256);
}

async fn what_is_written_and_deleted_reads_back(test: TestStore) {
    test.put(workload("orders", 1)).await.unwrap();
    test.put(workload("checkout", 2)).await.unwrap();
    let deletes: Vec<ObjectKey> = vec![workload("orders", 1).key()];
    let staged = test
        .stage(Changes {
            deletes,
            ..Changes::default()
        })
        .await;
    let head = test.store.commit(&staged, &authorship()).await.unwrap();
    assert_eq!(head.number, 3);
    let mut expected = InForce::nothing(head);
    let (checkout, second) = (workload("checkout", 2), Revision { number: 2, ..head });
    let json = checkout.to_json().to_string();
    expected.put(second, checkout, &json);
    assert_eq!(test.store.in_force().await.unwrap(), expected);
}

async fn more_objects_than_are_read_at_once_read_back(test: TestStore) {
    let upserts = (0..5_000).map(|number| workload(&format!("w-{number}"), 1));
    let changes = Changes {
        upserts: upserts.collect(),
        ..Changes::default()
    };
    let staged = test.stage(changes).await;
    test.store.commit(&staged, &authorship()).await.unwrap();
    assert_eq!(test.store.in_force().await.unwrap(), *staged.next());
}

async fn a_name_keeps_its_place_and_no_other_gets_it(test: TestStore) {
    test.put(workload("orders", 1)).await.unwrap();
    test.put(workload("orders-v2", 2)).await.unwrap();
    test.put(service("orders")).await.unwrap();
    let deletes = vec![service("orders").key()];
    let changes = Changes {
        deletes,
        ..Changes::default()
    };
    let staged = test.stage(changes).await;
    test.store.commit(&staged, &authorship()).await.unwrap();
    let before = test.store.places().await.unwrap();

    test.put(service("orders-v2")).await.unwrap();
    test.put(service("orders")).await.unwrap();

    let places = test.store.places().await.unwrap();
    let place = |name: &str| places[&name.parse().unwrap()];
    assert_eq!(
        place("shop/orders"),
        before[&"shop/orders".parse().unwrap()]
    );
    assert_ne!(place("shop/orders"), place("shop/orders-v2"));
    for sql in [
        "DELETE FROM service_places",
        "UPDATE service_places SET place = 9",
    ] {
        assert!(test.tamper(sql).await.is_err(), "{sql}");
    }
}

async fn a_service_of_a_build_without_places_gets_one_at_opening(test: TestStore) {
    test.put(workload("orders", 1)).await.unwrap();
    test.put(service("orders")).await.unwrap();
    test.drop_trigger("places_are_kept", "service_places")
        .await
        .unwrap();
    test.tamper("DELETE FROM service_places").await.unwrap();
    test.store.close().await;

    let store = Store::open(&test.config, NOW).await.unwrap();

    let places = store.places().await.unwrap();
    assert!(places.contains_key(&"shop/orders".parse().unwrap()));
}
