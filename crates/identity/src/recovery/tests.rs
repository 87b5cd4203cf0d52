use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use time::macros::datetime;

use super::*;
use crate::SerialNumber;
use crate::x509::Authority;
use crypto::random::SystemRandom;

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn domain() -> TrustDomain {
    "td".parse().unwrap()
}

fn bundle() -> Bundle {
    let validity = Validity::try_new(NOW - DAY, NOW + DAY).unwrap();
    let serial = SerialNumber::random(&mut SystemRandom);
    let root = Authority::new_root(&domain(), SigningKey::generate(), validity, serial).unwrap();
    Bundle::new(domain(), 7, vec![root.certificate().to_vec()]).unwrap()
}

fn update() -> BundleUpdate {
    let validity = Validity::try_new(NOW, NOW + DAY).unwrap();
    BundleUpdate::new(9, validity, bundle(), vec![Sha256::of(b"old root")]).unwrap()
}

#[track_caller]
fn verify(text: &str, key: &SigningKey) -> Result<BundleUpdate, BundleUpdateError> {
    let update: UnverifiedBundleUpdate = text.parse()?;
    update.verify(key.public_key(), &domain(), NOW)
}

/// Signed by `key`, with one field changed.
fn changed(key: &SigningKey, change: impl Fn(&mut Value)) -> String {
    let mut fields = serde_json::to_value(update().fields()).unwrap();
    change(&mut fields);
    let statement = serde_json::to_vec(&fields).unwrap();
    let signature = BASE64URL_NOPAD.encode(&key.sign(&signed_bytes(&statement)));
    format!("{PREFIX}{}.{signature}", BASE64URL_NOPAD.encode(&statement))
}

#[test]
fn an_update_of_another_key_is_refused() {
    let text = update().sign(&SigningKey::generate());
    let refused = verify(&text, &SigningKey::generate());
    assert_eq!(refused, Err(BundleUpdateError::Signature(BadSignature)));
}

#[test]
fn a_signature_made_for_another_purpose_is_refused() {
    let key = SigningKey::generate();
    let statement = serde_json::to_vec(&update().fields()).unwrap();
    let signature = BASE64URL_NOPAD.encode(&key.sign(&statement));
    let statement = BASE64URL_NOPAD.encode(&statement);
    let refused = verify(&format!("{PREFIX}{statement}.{signature}"), &key);
    assert_eq!(refused, Err(BundleUpdateError::Signature(BadSignature)));
}

#[test]
fn an_update_for_another_trust_domain_is_refused() {
    let key = SigningKey::generate();
    let update: UnverifiedBundleUpdate = update().sign(&key).parse().unwrap();
    let expected: TrustDomain = "other".parse().unwrap();
    let found = domain();
    assert_eq!(
        update.verify(key.public_key(), &expected, NOW),
        Err(BundleUpdateError::OtherTrustDomain { expected, found })
    );
}

#[test]
fn an_update_is_refused_outside_of_its_time() {
    let key = SigningKey::generate();
    let update: UnverifiedBundleUpdate = update().sign(&key).parse().unwrap();
    let at = |now| update.verify(key.public_key(), &domain(), now);
    let second = Duration::from_secs(1);
    let not_before = NOW;
    assert_eq!(
        at(NOW - second),
        Err(BundleUpdateError::NotYetValid { not_before })
    );
    let not_after = NOW + DAY;
    assert_eq!(
        at(not_after + second),
        Err(BundleUpdateError::Expired { not_after })
    );
}

#[test]
fn an_update_that_was_taken_is_not_taken_again() {
    let (update, offered) = (update(), 9);
    for taken in [9, 10] {
        let replayed = BundleUpdateError::Replayed { offered, taken };
        assert_eq!(update.require_after(taken), Err(replayed));
    }
    assert_eq!(update.require_after(8), Ok(()));
}

#[test]
fn a_root_that_is_removed_is_not_trusted_by_the_same_update() {
    let validity = Validity::try_new(NOW, NOW + DAY).unwrap();
    let bundle = bundle();
    let root = bundle.authorities()[0].digest();
    let refused = BundleUpdate::new(9, validity, bundle, vec![root]);
    assert_eq!(refused, Err(BundleUpdateError::Removed(root)));
}

#[test]
fn broken_fields_are_named() {
    let key = SigningKey::generate();
    let check = |change: &dyn Fn(&mut Value), expected| {
        assert_eq!(verify(&changed(&key, change), &key), Err(expected));
    };
    let (field, entries) = ("roots", 0);
    check(
        &|it| it["roots"] = json!([]),
        BundleUpdateError::Entries { field, entries },
    );
    check(
        &|it| it["roots"] = json!(["!"]),
        BundleUpdateError::RootEncoding(0),
    );
    check(
        &|it| it["removed"] = json!(["00"]),
        BundleUpdateError::Digest(0),
    );
    check(
        &|it| it["not_after"] = json!(i64::MAX),
        BundleUpdateError::Time,
    );
    check(&|it| it["more"] = json!(1), BundleUpdateError::Fields);
}

#[test]
fn a_text_that_is_cut_off_is_refused() {
    let key = SigningKey::generate();
    let text = update().sign(&key);
    let (statement, _) = text.split_once('.').unwrap().1.split_once('.').unwrap();
    let cut = format!("{PREFIX}{statement}");
    assert_eq!(verify(&cut, &key), Err(BundleUpdateError::Encoding));
    let long = "a".repeat(MAX_TEXT + 1);
    let length = long.len();
    assert_eq!(
        verify(&long, &key),
        Err(BundleUpdateError::TooLong { length })
    );
    assert_eq!(verify("csj1.e30", &key), Err(BundleUpdateError::Version));
}

#[test]
fn an_update_survives_a_round_trip() {
    let (key, update) = (SigningKey::generate(), update());
    assert_eq!(verify(&update.sign(&key), &key), Ok(update));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn no_text_panics(text in "(csu1\\.)?[A-Za-z0-9_.-]{0,80}") {
        let _ = verify(&text, &SigningKey::generate());
    }

    #[test]
    fn no_signed_statement_panics(json in "\\{?[\"a-z:,\\[\\]0-9_]{0,80}\\}?") {
        let key = SigningKey::generate();
        let refused = UnverifiedBundleUpdate::signed_by(&key, json.as_bytes())
            .verify(key.public_key(), &domain(), NOW);
        prop_assert!(refused.is_err());
    }

    #[test]
    fn whoever_changes_a_character_is_refused(place: prop::sample::Index, to in "[A-Za-z0-9_-]") {
        let (key, update) = (SigningKey::generate(), update());
        let text = update.sign(&key);
        let place = place.index(text.len());
        let mut other = text;
        other.replace_range(place..=place, &to);
        // The last bits of base64 may say nothing.
        if let Ok(taken) = verify(&other, &key) {
            prop_assert_eq!(taken, update);
        }
    }
}
