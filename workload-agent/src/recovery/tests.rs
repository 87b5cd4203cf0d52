use std::time::Duration;

use crypto::random::SystemRandom;
use crypto::signing::SigningKey;
use identity::x509::{Authority, Bundle};
use identity::{SerialNumber, Validity};
use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);
const HOUR: Duration = Duration::from_secs(3600);

struct Fixture {
    recovery: Recovery,
    key: SigningKey,
    root: Vec<u8>,
    directory: tempfile::TempDir,
}

fn domain() -> TrustDomain {
    "td".parse().unwrap()
}

fn restored(directory: &tempfile::TempDir) -> Recovery {
    let path = directory.path();
    let cache = Cache::open(path, &path.join("cache.key")).unwrap();
    Recovery::restored(domain(), cache)
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let validity = Validity::try_new(NOW - HOUR, NOW + HOUR).unwrap();
        let serial = SerialNumber::random(&mut SystemRandom);
        let key = SigningKey::generate();
        let root = Authority::new_root(&domain(), &key, validity, serial).unwrap();
        Self {
            recovery: restored(&directory),
            key: SigningKey::generate(),
            root: root.certificate().to_vec(),
            directory,
        }
    }

    async fn pinned() -> Self {
        let mut fixture = Self::new();
        let key = fixture.key.public_key().spki().to_vec();
        fixture.recovery.told(&key, "", NOW).await;
        fixture
    }

    fn update(&self, number: u64, removed: Vec<Sha256>) -> String {
        let validity = Validity::try_new(NOW, NOW + HOUR).unwrap();
        let bundle = Bundle::new(domain(), number, vec![self.root.clone()]).unwrap();
        let update = BundleUpdate::new(number, validity, bundle, removed).unwrap();
        update.sign(&self.key)
    }

    fn judge(&self, text: &str, held: u64) -> Result<BundleUpdate, RecoveryError> {
        self.recovery.judge_from(Road::Network, text, held, NOW)
    }
}

#[tokio::test]
async fn without_a_pinned_key_no_update_is_taken() {
    let fixture = Fixture::new();
    let refused = fixture.judge(&fixture.update(7, Vec::new()), 1);
    assert!(matches!(refused, Err(RecoveryError::NoKey)), "{refused:?}");
}

#[tokio::test]
async fn another_key_that_a_ca_names_later_is_not_pinned() {
    let mut fixture = Fixture::pinned().await;
    let thiefs = SigningKey::generate();
    let spki = thiefs.public_key().spki().to_vec();
    fixture.recovery.told(&spki, "", NOW).await;
    fixture.key = thiefs;
    let refused = fixture.judge(&fixture.update(7, Vec::new()), 1);
    assert!(
        matches!(
            refused,
            Err(RecoveryError::Update(BundleUpdateError::Signature(_)))
        ),
        "{refused:?}"
    );
}

#[tokio::test]
async fn an_update_is_not_taken_twice_even_after_a_restart() {
    let mut fixture = Fixture::pinned().await;
    let text = fixture.update(7, Vec::new());
    let update = fixture.judge(&text, 1).unwrap();
    fixture.recovery.took(&update).await.unwrap();
    fixture.recovery = restored(&fixture.directory);
    let refused = fixture.judge(&text, 1);
    let (offered, taken) = (7, 7);
    assert!(
        matches!(
            refused,
            Err(RecoveryError::Update(e)) if e == BundleUpdateError::Replayed { offered, taken }
        ),
        "taken twice"
    );
}

#[tokio::test]
async fn an_update_from_before_one_that_the_ca_told_of_is_refused() {
    let mut fixture = Fixture::pinned().await;
    let key = fixture.key.public_key().spki().to_vec();
    let newer = fixture.update(9, Vec::new());
    fixture.recovery.told(&key, &newer, NOW).await;
    let refused = fixture.judge(&fixture.update(8, Vec::new()), 1);
    let (offered, taken) = (8, 9);
    assert!(matches!(
        refused,
        Err(RecoveryError::Update(e)) if e == BundleUpdateError::Replayed { offered, taken }
    ));
}

#[tokio::test]
async fn only_by_hand_a_bundle_goes_back() {
    let fixture = Fixture::pinned().await;
    let text = fixture.update(7, Vec::new());
    let refused = fixture.judge(&text, 8);
    assert!(matches!(
        refused,
        Err(RecoveryError::Behind {
            offered: 7,
            held: 8
        })
    ));
    let by_hand = fixture.recovery.judge_from(Road::Hand, &text, 8, NOW);
    assert_eq!(by_hand.unwrap().number(), 7);
}

#[tokio::test]
async fn a_removed_root_is_taken_out_of_whatever_a_ca_says() {
    let mut fixture = Fixture::pinned().await;
    let (stolen, good) = (b"stolen".to_vec(), b"good".to_vec());
    let text = fixture.update(7, vec![Sha256::of(&stolen)]);
    let update = fixture.judge(&text, 1).unwrap();
    fixture.recovery.took(&update).await.unwrap();
    let said = mesh::Bundle {
        x509_authorities: vec![stolen, good.clone()],
        ..mesh::Bundle::default()
    };
    let removed = restored(&fixture.directory).removed();
    assert_eq!(without_removed(said, &removed).x509_authorities, [good]);
}
