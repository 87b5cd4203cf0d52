//! Claims on bundle updates: the number decides.

use super::*;

fn update(number: u64) -> BundleUpdateRow {
    BundleUpdateRow {
        number,
        text: format!("csu1.{number}"),
        author: "admin/1".to_owned(),
        published_at: NOW,
    }
}

on_each_database![
    an_update_that_is_not_above_all_others_is_not_kept,
    a_number_that_no_database_holds_is_not_kept,
];

async fn an_update_that_is_not_above_all_others_is_not_kept(test: TestStore) {
    assert_eq!(test.store.bundle_update().await.unwrap(), None);
    assert!(test.store.put_bundle_update(&update(7)).await.unwrap());
    for number in [6, 7] {
        assert!(!test.store.put_bundle_update(&update(number)).await.unwrap());
    }
    assert_eq!(test.store.bundle_update().await.unwrap(), Some(update(7)));
    assert!(test.store.put_bundle_update(&update(9)).await.unwrap());
    assert_eq!(test.store.bundle_update().await.unwrap(), Some(update(9)));
}

async fn a_number_that_no_database_holds_is_not_kept(test: TestStore) {
    assert!(
        !test
            .store
            .put_bundle_update(&update(u64::MAX))
            .await
            .unwrap()
    );
}
