//! Claims of starting, stopping and coming back.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::app::{BindError, Ca, StartError, rotate_seal};
use crate::authority::{KekError, RootError};
use crate::config::{Config, KekPlace};
use crate::store::{OpenError, StorePlace};
use runtime::Clock;

use super::harness::TestCa;

fn kek_file(config: &Config) -> PathBuf {
    match &config.keys.kek {
        KekPlace::File(path) => path.clone(),
        other => panic!("{other} is no file"),
    }
}

#[tokio::test]
async fn a_wrong_kek_is_refused_and_the_data_is_untouched() {
    let ca = TestCa::start().await;
    let StorePlace::Sqlite(sqlite) = ca.config.store.clone() else {
        panic!("it is in a file");
    };
    let kek = kek_file(&ca.config);
    let (config, directory) = (ca.config.clone(), ca.directory);
    ca.ca.drain(Duration::from_secs(10)).await.unwrap();
    fs::write(&kek, "ab".repeat(32)).unwrap();
    let before = fs::read(&sqlite).unwrap();
    let error = Ca::start(config, Clock::system()).await.unwrap_err();
    assert!(
        matches!(error, StartError::Root(RootError::Kek(KekError::Wrong(_)))),
        "{error:?}"
    );
    assert_eq!(fs::read(&sqlite).unwrap(), before);
    drop(directory);
}

#[tokio::test]
async fn a_lost_kek_is_never_replaced_by_a_new_one() {
    let ca = TestCa::start().await;
    let (config, directory) = (ca.config.clone(), ca.directory);
    ca.ca.drain(Duration::from_secs(10)).await.unwrap();
    fs::remove_file(kek_file(&config)).unwrap();
    let error = Ca::start(config.clone(), Clock::system())
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            StartError::Root(RootError::Kek(KekError::Missing(_)))
        ),
        "{error:?}"
    );
    assert!(!kek_file(&config).exists());
    drop(directory);
}

#[tokio::test]
async fn a_second_ca_on_one_store_is_refused() {
    let ca = TestCa::start().await;
    let error = Ca::start(ca.config.clone(), Clock::system())
        .await
        .unwrap_err();
    assert!(
        matches!(error, StartError::Open(OpenError::InUse { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let ca = TestCa::start().await;
    let taken = ca.ca.agents_address();
    let refused = TestCa::try_start_with(|config| config.listen.agents = taken).await;
    let Err(StartError::Bind(BindError::Listen { address, .. })) = refused else {
        panic!("started on {taken}");
    };
    assert_eq!(address, taken);
}

#[tokio::test]
async fn a_restart_keeps_the_root_and_the_agents() {
    let ca = TestCa::start().await;
    let agent = ca.agent("web-7").await;
    let root = ca.ca.bundle().digest();
    let ca = ca.restart_with(|_| {}).await.unwrap();
    assert_eq!(ca.ca.bundle().digest(), root);
    ca.of(&agent).await.issue(Vec::new()).await.unwrap();
}

#[tokio::test]
async fn the_first_start_leaves_an_administrators_credential() {
    let ca = TestCa::start().await;
    let file = fs::read_to_string(ca.ca.admin_file()).unwrap();
    let root = ca.ca.bundle().authorities()[0].digest().to_string();
    assert!(
        file.contains(&root) && file.contains(&ca.ca.web_address().to_string()),
        "{file}"
    );
}

#[tokio::test]
async fn a_drain_ends_a_replica_in_time() {
    let ca = TestCa::start().await;
    let idle = ca.anonymous().await;
    ca.ca.drain(Duration::from_secs(10)).await.unwrap();
    drop(idle);
}

#[tokio::test]
async fn after_a_rotation_of_the_seal_the_old_kek_opens_nothing_and_the_new_one_all() {
    let ca = TestCa::start().await;
    let (root, clock) = (ca.ca.bundle().digest(), ca.clock.clone());
    let (mut config, directory) = (ca.config.clone(), ca.directory);
    ca.ca.drain(Duration::from_secs(10)).await.unwrap();
    let to = KekPlace::File(directory.path().join("keys").join("kek-2"));
    assert_eq!(rotate_seal(&config, &to, &clock).await.unwrap(), 2);
    let error = Ca::start(config.clone(), clock.clone()).await.unwrap_err();
    assert!(
        matches!(error, StartError::Root(RootError::Kek(KekError::Wrong(_)))),
        "{error:?}"
    );
    config.keys.kek = to;
    let ca = Ca::start(config, clock).await.unwrap();
    assert_eq!(ca.bundle().digest(), root);
}

#[tokio::test]
async fn a_seal_is_not_rotated_to_the_key_in_use_or_to_one_beside_the_data() {
    let ca = TestCa::start().await;
    let (config, clock, directory) = (ca.config.clone(), ca.clock.clone(), ca.directory);
    ca.ca.drain(Duration::from_secs(10)).await.unwrap();
    let same = rotate_seal(&config, &config.keys.kek, &clock).await;
    assert!(matches!(
        same,
        Err(StartError::Root(RootError::Kek(KekError::Same(_))))
    ));
    let data = config.store.data_directory().unwrap();
    let beside = data.join("kek");
    let refused = rotate_seal(&config, &KekPlace::File(beside.clone()), &clock).await;
    assert!(matches!(refused, Err(StartError::Config(_))));
    assert!(!beside.exists());
    drop(directory);
}
