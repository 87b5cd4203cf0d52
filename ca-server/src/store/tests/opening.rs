//! Claims about opening: what is not ours, newer than we read, or in use is left untouched.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::*;

async fn refused(config: &StoreConfig) -> OpenError {
    Store::open(config, NOW).await.unwrap_err()
}

#[tokio::test]
async fn a_second_ca_on_one_file_is_refused() {
    let test = TestStore::open().await;
    let error = refused(&test.config).await;
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
}

on_each_database![
    a_store_of_another_trust_domain_is_refused,
    a_store_with_another_template_is_refused,
    a_schema_that_needs_a_newer_build_is_refused_and_untouched,
    a_newer_schema_that_this_build_reads_is_opened,
    epoch_and_decision_key_outlive_a_restart,
    the_first_sealed_key_wins,
];

async fn a_store_of_another_trust_domain_is_refused(mut test: TestStore) {
    test.config.trust_domain = "other.example".parse().unwrap();
    drop_store(&test).await;
    let error = refused(&test.config).await;
    assert!(
        matches!(error, OpenError::OtherTrustDomain { .. }),
        "{error}"
    );
}

async fn a_store_with_another_template_is_refused(mut test: TestStore) {
    test.config.id_template = "/w/{namespace}/{name}".parse().unwrap();
    drop_store(&test).await;
    let error = refused(&test.config).await;
    assert!(matches!(error, OpenError::OtherTemplate { .. }), "{error}");
}

async fn a_schema_that_needs_a_newer_build_is_refused_and_untouched(test: TestStore) {
    test.tamper("UPDATE schema SET version = 99, min_reader = 98")
        .await
        .unwrap();
    drop_store(&test).await;
    let before = test.dump();
    let error = refused(&test.config).await;
    assert!(
        matches!(
            error,
            OpenError::TooNew {
                version: 99,
                min_reader: 98,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(test.dump(), before);
}

async fn a_newer_schema_that_this_build_reads_is_opened(test: TestStore) {
    test.tamper("UPDATE schema SET version = 99").await.unwrap();
    drop_store(&test).await;
    assert_eq!(reopen(&test).await.head().await.unwrap().number, 0);
}

#[tokio::test]
async fn another_programs_database_is_refused_and_untouched() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(StorePlace::Sqlite(directory.path().join("notes.sqlite")));
    fs::write(file_of(&config), "").unwrap();
    fs::set_permissions(file_of(&config), Permissions::from_mode(0o600)).unwrap();
    tamper(&config, "CREATE TABLE notes (text TEXT)")
        .await
        .unwrap();
    let before = fs::read(file_of(&config)).unwrap();
    let error = refused(&config).await;
    assert!(matches!(error, OpenError::NotAStore { .. }), "{error}");
    assert_eq!(fs::read(file_of(&config)).unwrap(), before);
}

#[tokio::test]
async fn another_programs_database_on_a_server_is_refused_and_untouched() {
    let Some(server) = fresh_database() else {
        return;
    };
    let config = config(StorePlace::Postgres(server.clone()));
    tamper(&config, "CREATE TABLE notes (text TEXT)")
        .await
        .unwrap();
    let cluster = postgres_cluster::shared().unwrap();
    let before = cluster.dump(&server.database);
    let error = refused(&config).await;
    assert!(matches!(error, OpenError::NotAStore { .. }), "{error}");
    assert_eq!(cluster.dump(&server.database), before);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(StorePlace::Sqlite(directory.path().join("text")));
    fs::write(
        file_of(&config),
        "not a database, but long enough to be looked at".repeat(20),
    )
    .unwrap();
    fs::set_permissions(file_of(&config), Permissions::from_mode(0o600)).unwrap();
    let error = refused(&config).await;
    assert!(matches!(error, OpenError::NotAStore { .. }), "{error}");
}

#[tokio::test]
async fn a_file_that_others_can_read_is_refused() {
    let test = TestStore::open().await;
    drop_store(&test).await;
    fs::set_permissions(test.file(), Permissions::from_mode(0o640)).unwrap();
    let error = refused(&test.config).await;
    assert!(
        matches!(error, OpenError::Permissions { mode: 0o640, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn every_file_of_the_store_is_private() {
    let test = TestStore::open().await;
    for file in fs::read_dir(test.file().parent().unwrap()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?}", file.path());
    }
}

async fn epoch_and_decision_key_outlive_a_restart(test: TestStore) {
    drop_store(&test).await;
    let store = reopen(&test).await;
    assert_eq!(store.epoch(), test.store.epoch());
    assert_eq!(
        store.decision_key().bytes(),
        test.store.decision_key().bytes()
    );
}

async fn the_first_sealed_key_wins(test: TestStore) {
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
    let first = test
        .store
        .insert_sealed_key_if_absent(row("a"))
        .await
        .unwrap();
    let second = test
        .store
        .insert_sealed_key_if_absent(row("b"))
        .await
        .unwrap();
    assert_eq!((&first, &second), (&row("a"), &row("a")));
    assert_eq!(test.store.sealed_keys().await.unwrap(), [row("a")]);
}

/// The lock goes with the last handle, which tests keep; this makes room for another.
async fn drop_store(test: &TestStore) {
    test.store.close().await;
}

async fn reopen(test: &TestStore) -> Store {
    Store::open(&test.config, NOW).await.unwrap()
}
