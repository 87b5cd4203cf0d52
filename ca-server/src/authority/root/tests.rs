//! The root, in a real store.

use std::path::PathBuf;

use crypto::sealing::OpenError;
use time::macros::datetime;

use super::*;
use crate::authority::{KekError, ToldAbove};
use crate::config::{KekPlace, UpstreamCountersign};
use crate::pkcs11::TokenError;
use crate::pkcs11::tests::{TestToken, with_token};
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
        let keys = KeysConfig::file(self.kek_file());
        self.keeper_with(&keys).await.unwrap()
    }

    async fn keeper_with(&self, keys: &KeysConfig) -> Result<RootKeeper, RootError> {
        let places = KeyPlaces::of(keys, None).unwrap();
        RootKeeper::open_or_make(&self.store, "ca-1", places, Lifetimes::default(), NOW).await
    }

    /// With everything in the token.
    fn in_token(&self, token: &TestToken) -> KeysConfig {
        let config = token.config();
        KeysConfig {
            kek: KekPlace::Token(config.kek.clone().unwrap()),
            root: RootPlace::Pkcs11,
            pkcs11: Some(config),
        }
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
        keeper.issuer(&row, &[], NOW).map(drop),
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
        keeper.issuer(&row, &[], NOW).map(drop),
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
        keeper.issuer(&row, &[], NOW).map(drop),
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

#[tokio::test]
async fn a_root_in_a_token_signs_there_and_the_store_holds_a_reference() {
    with_token!(token);
    let place = Place::new().await;
    let keeper = place.keeper_with(&place.in_token(&token)).await.unwrap();
    let roots = place.roots().await;
    let intermediate = keeper.sign_intermediate(&roots, NOW).await.unwrap();
    let row = place.sealed().await;
    let kek = keeper.places.kek.open().unwrap();
    let secret = sealed::open(&row, place.store.trust_domain(), &kek).unwrap();
    let text = String::from_utf8(secret.to_vec()).unwrap();
    assert!(text.parse::<TokenKeyReference>().is_ok(), "{text}");
    assert_eq!(intermediate.root(), Generation::FIRST);
}

#[tokio::test]
async fn a_root_whose_token_is_away_signs_nothing_and_signs_again_when_it_is_back() {
    with_token!(token);
    let place = Place::new().await;
    let keys = place.in_token(&token);
    let keeper = place.keeper_with(&keys).await.unwrap();
    let roots = place.roots().await;
    token.unplug();
    assert!(matches!(
        keeper.sign_intermediate(&roots, NOW).await,
        Err(RootError::Kek(KekError::Token(TokenError::Absent(_))))
    ));
    token.plug_in();
    keeper.sign_intermediate(&roots, NOW).await.unwrap();
}

#[tokio::test]
async fn a_first_start_without_its_token_makes_no_root() {
    with_token!(token);
    let place = Place::new().await;
    token.unplug();
    for kek in [KekPlace::File(place.kek_file()), place.in_token(&token).kek] {
        let keys = KeysConfig {
            kek,
            ..place.in_token(&token)
        };
        place.keeper_with(&keys).await.unwrap_err();
        assert_eq!(place.store.sealed_keys().await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_key_that_the_token_has_lost_is_named() {
    with_token!(token);
    let place = Place::new().await;
    let keeper = place.keeper_with(&place.in_token(&token)).await.unwrap();
    let roots = place.roots().await;
    keeper.destroy_removed(&[Generation::FIRST]).await.unwrap();
    assert!(matches!(
        keeper.sign_intermediate(&roots, NOW).await,
        Err(RootError::Token(TokenError::NoKey(_)))
    ));
}

#[tokio::test]
async fn a_root_that_was_not_kept_leaves_no_key_and_harms_no_other_of_its_generation() {
    with_token!(token);
    let place = Place::new().await;
    let keeper = place.keeper_with(&place.in_token(&token)).await.unwrap();
    let lost = keeper.make(Generation::FIRST, NOW).await.unwrap();
    let row = lost.row.clone();
    keeper.unmake(lost).await.unwrap();
    let serial = SerialNumber::random(&mut SystemRandom);
    let signed = keeper.sign_with(&[row], Generation::FIRST, (serial, NOW));
    assert!(matches!(
        signed,
        Err(RootError::Token(TokenError::NoKey(_)))
    ));
    let roots = place.roots().await;
    keeper.sign_intermediate(&roots, NOW).await.unwrap();
}

#[tokio::test]
async fn a_seal_moves_into_a_token_and_out_again() {
    with_token!(token);
    let place = Place::new().await;
    let keeper = place.keeper().await;
    let roots = place.roots().await;
    let in_file = KeysConfig::file(place.kek_file());
    let in_token = KeysConfig {
        root: RootPlace::Sealed,
        ..place.in_token(&token)
    };
    let source = |keys: &KeysConfig| KekSource::of(keys).unwrap();
    let moved = rotate_kek(&place.store, source(&in_file), source(&in_token)).await;
    assert_eq!(moved.unwrap(), 1);
    assert!(matches!(
        keeper.sign_intermediate(&roots, NOW).await,
        Err(RootError::Kek(KekError::Wrong(_)))
    ));
    let keeper = place.keeper_with(&in_token).await.unwrap();
    keeper.sign_intermediate(&roots, NOW).await.unwrap();
    let moved = rotate_kek(&place.store, source(&in_token), source(&in_file)).await;
    assert_eq!(moved.unwrap(), 1);
    let keeper = place.keeper().await;
    keeper.sign_intermediate(&roots, NOW).await.unwrap();
}

#[tokio::test]
async fn a_reference_without_a_token_is_refused() {
    with_token!(token);
    let place = Place::new().await;
    let keys = KeysConfig {
        kek: KekPlace::File(place.kek_file()),
        ..place.in_token(&token)
    };
    place.keeper_with(&keys).await.unwrap();
    let keeper = place.keeper().await;
    assert!(matches!(
        keeper.sign_intermediate(&place.roots().await, NOW).await,
        Err(RootError::NoToken)
    ));
}

/// Below another instance.
async fn nested(place: &Place) -> (RootKeeper, RootsAbove) {
    place.keeper().await;
    let upstream = UpstreamConfig::Countersign(UpstreamCountersign {
        credential_file: place.directory.path().join("eu.toml"),
    });
    let keys = KeysConfig::file(place.kek_file());
    let places = KeyPlaces::of(&keys, Some(&upstream)).unwrap();
    let above = places.roots_above().unwrap().clone();
    let keeper = RootKeeper::new(&place.store, "ca-1", places, Lifetimes::default());
    (keeper, above)
}

async fn requested_key(keeper: &RootKeeper) -> String {
    let request = keeper.request(NOW).await.unwrap();
    let key = crypto::signing::verify_csr(&request).unwrap();
    key.fingerprint().to_string()
}

#[tokio::test]
async fn no_authority_is_asked_for_with_a_key_that_is_revoked_above() {
    let place = Place::new().await;
    let (keeper, above) = nested(&place).await;
    let first = requested_key(&keeper).await;
    assert_eq!(requested_key(&keeper).await, first);
    above.tell(ToldAbove {
        revoked: [first.clone()].into(),
        ..ToldAbove::default()
    });
    let next = requested_key(&keeper).await;
    assert_ne!(next, first);
    assert_eq!(requested_key(&keeper).await, next);
    let keys = place.store.sealed_keys().await.unwrap().into_iter();
    let waiting = keys.filter(|it| it.purpose == KeyPurpose::MeshAuthority);
    let waiting: Vec<_> = waiting.map(|it| it.key_id).collect();
    assert_eq!(waiting, [next]);
}
