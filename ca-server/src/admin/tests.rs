use std::fs;
use std::os::unix::fs::PermissionsExt;

use crypto::random::SeededRandom;
use crypto::sealing::SealingKey;
use proptest::prelude::{any, prop_assert_eq, proptest};

use super::*;
use crate::store::tests::{NOW, TestStore};
use crate::store::{KeyPurpose, SealedKeyRow};

fn access() -> AdminAccess {
    let bundle = Bundle::new("corp.example".parse().unwrap(), 1, Vec::new()).unwrap();
    AdminAccess {
        urls: vec!["https://127.0.0.1:8443".to_owned()],
        bundle,
    }
}

fn path(test: &TestStore) -> PathBuf {
    test.directory().join("admin.toml")
}

fn secret_in(path: &Path) -> AdminSecret {
    let file: toml::Table = toml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    file["secret"].as_str().unwrap().parse().unwrap()
}

async fn admits(test: &TestStore, secret: &AdminSecret) -> bool {
    test.store
        .check_admin(&secret.digest(), NOW)
        .await
        .unwrap()
        .is_some()
}

fn kek(byte: u8) -> Kek {
    SealingKey::from_bytes([byte; 32]).into()
}

async fn seal_with(test: &TestStore, kek: &Kek) {
    let row = SealedKeyRow {
        purpose: KeyPurpose::X509Root,
        key_id: "a".to_owned(),
        version: 1,
        wrapped_data_key: vec![1],
        sealed: vec![2],
        kek_check: kek.check_value(),
        certificate: vec![3],
        created_at: NOW,
    };
    test.store.insert_sealed_key_if_absent(row).await.unwrap();
}

#[test]
fn texts_of_another_form_are_no_secrets() {
    let good = AdminSecret::generate(&mut SeededRandom::new(1))
        .text()
        .to_string();
    for text in [
        "",
        "csa1_",
        "csa2_",
        &good[..47],
        &format!("{good}A"),
        &good.replace("csa1", "csj1"),
    ] {
        assert!(text.parse::<AdminSecret>().is_err(), "{text}");
    }
}

#[test]
fn a_secret_does_not_show_itself() {
    let secret = AdminSecret::generate(&mut SeededRandom::new(1));
    assert_eq!(format!("{secret:?}"), "BearerSecret(redacted)");
}

#[tokio::test]
async fn the_file_of_another_mesh_is_not_replaced() {
    let test = TestStore::open().await;
    fs::write(path(&test), "trust_domain = \"other.example\"").unwrap();
    let refused = make_first(&test.store, &access(), &path(&test), NOW).await;
    assert!(matches!(refused, Err(AdminError::Foreign { .. })));
    assert_eq!(
        fs::read_to_string(path(&test)).unwrap(),
        "trust_domain = \"other.example\""
    );
}

#[tokio::test]
async fn the_first_credential_is_made_once_private_and_works() {
    let test = TestStore::open().await;
    assert!(
        make_first(&test.store, &access(), &path(&test), NOW)
            .await
            .unwrap()
    );
    let before = fs::read(path(&test)).unwrap();
    assert!(
        !make_first(&test.store, &access(), &path(&test), NOW)
            .await
            .unwrap()
    );
    assert_eq!(fs::read(path(&test)).unwrap(), before);
    assert_eq!(
        fs::metadata(path(&test)).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(admits(&test, &secret_in(&path(&test))).await);
}

#[tokio::test]
async fn a_reset_with_another_key_is_refused_and_changes_nothing() {
    let test = TestStore::open().await;
    make_first(&test.store, &access(), &path(&test), NOW)
        .await
        .unwrap();
    let before = secret_in(&path(&test));
    seal_with(&test, &kek(1)).await;
    let other = kek(2);
    let refused = reset(&test.store, &other, &access(), &path(&test), NOW).await;
    assert!(matches!(refused, Err(AdminError::WrongKek)));
    assert!(admits(&test, &before).await);
}

#[tokio::test]
async fn a_reset_revokes_what_was_before() {
    let test = TestStore::open().await;
    make_first(&test.store, &access(), &path(&test), NOW)
        .await
        .unwrap();
    let before = secret_in(&path(&test));
    let kek = kek(1);
    seal_with(&test, &kek).await;
    reset(&test.store, &kek, &access(), &path(&test), NOW)
        .await
        .unwrap();
    assert!(!admits(&test, &before).await);
    assert!(admits(&test, &secret_in(&path(&test))).await);
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(256))]

    #[test]
    fn a_secret_reads_back_and_no_text_panics(seed: u64, text in any::<String>()) {
        let secret = AdminSecret::generate(&mut SeededRandom::new(seed));
        let read: AdminSecret = secret.text().parse().unwrap();
        prop_assert_eq!(read.digest(), secret.digest());
        let _ = text.parse::<AdminSecret>();
        let _ = format!("csa1_{text}").parse::<AdminSecret>();
    }
}
