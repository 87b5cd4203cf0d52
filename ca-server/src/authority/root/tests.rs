//! The root, in a real store.

use std::path::PathBuf;

use time::macros::datetime;

use super::*;
use crate::config::KekPlace;
use crate::store::{StoreConfig, StorePlace};

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

struct Place {
    directory: tempfile::TempDir,
    store: Store,
}

impl Place {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = StoreConfig {
            place: StorePlace::Sqlite(directory.path().join("ca.sqlite")),
            trust_domain: "td.test".parse().unwrap(),
            id_template: identity::IdTemplate::default(),
        };
        let store = Store::open(&config, NOW).await.unwrap();
        Self { directory, store }
    }

    fn kek_file(&self) -> PathBuf {
        self.directory.path().join("keys").join("kek")
    }

    async fn keeper(&self) -> RootKeeper {
        let kek = KekSource::of(&KekPlace::File(self.kek_file())).unwrap();
        RootKeeper::open_or_make(&self.store, "ca-1", kek, Lifetimes::default(), NOW)
            .await
            .unwrap()
    }

    async fn sealed(&self) -> SealedKeyRow {
        self.store.sealed_keys().await.unwrap().remove(0)
    }

    async fn roots(&self) -> PublishedRoots {
        PublishedRoots::read(&self.store).await.unwrap()
    }
}

#[tokio::test]
async fn a_root_sealed_under_another_label_does_not_open() {
    let place = Place::new().await;
    let keeper = place.keeper().await;
    let mut row = place.sealed().await;
    row.key_id.push('0');
    assert!(matches!(
        keeper.open(&row),
        Err(RootError::Sealed(OpenError::Refused))
    ));
}

#[tokio::test]
async fn a_root_in_the_place_of_another_generation_does_not_open() {
    let place = Place::new().await;
    let keeper = place.keeper().await;
    let mut row = place.sealed().await;
    row.version = 2;
    assert!(matches!(
        keeper.open(&row),
        Err(RootError::Sealed(OpenError::Refused))
    ));
}

#[tokio::test]
async fn a_changed_bit_of_the_sealed_root_is_noticed() {
    let place = Place::new().await;
    let keeper = place.keeper().await;
    let mut row = place.sealed().await;
    *row.sealed.last_mut().unwrap() ^= 1;
    assert!(matches!(
        keeper.open(&row),
        Err(RootError::Sealed(OpenError::Refused))
    ));
}

#[tokio::test]
async fn the_sealed_row_holds_no_key_in_the_clear() {
    let place = Place::new().await;
    place.keeper().await;
    let row = place.sealed().await;
    let text = std::fs::read_to_string(place.kek_file()).unwrap();
    assert!(SigningKey::from_pkcs8(&row.sealed).is_err());
    let mut windows = row.wrapped_data_key.windows(32);
    assert!(!windows.any(|bytes| text.contains(&data_encoding::HEXLOWER.encode(bytes))));
}

#[tokio::test]
async fn two_starts_make_one_root() {
    let place = Place::new().await;
    place.keeper().await;
    let first = place.roots().await;
    place.keeper().await;
    let second = place.roots().await;
    assert_eq!(first.bundle().digest(), second.bundle().digest());
}

#[tokio::test]
async fn an_intermediate_never_outlives_a_day_or_its_root() {
    let place = Place::new().await;
    let (keeper, roots) = (place.keeper().await, place.roots().await);
    let day = Lifetimes::default().intermediate;
    let early = keeper.sign_intermediate(&roots, NOW).await.unwrap();
    assert_eq!(early.validity().not_after(), NOW + day);
    let end = roots.active().unwrap().1.validity().not_after();
    let late = keeper
        .sign_intermediate(&roots, end - day / 2)
        .await
        .unwrap();
    assert_eq!(
        late.validity().not_after(),
        end - Lifetimes::default().margin
    );
}

#[tokio::test]
async fn an_intermediate_is_recorded_before_it_signs() {
    let place = Place::new().await;
    let (keeper, roots) = (place.keeper().await, place.roots().await);
    let intermediate = keeper.sign_intermediate(&roots, NOW).await.unwrap();
    let recorded = place.store.intermediates(NOW).await.unwrap();
    assert_eq!(recorded[0].key_id, intermediate.key_id());
    assert_eq!(recorded[0].generation, 1);
}
