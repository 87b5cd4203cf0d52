//! Bundle updates: no text panics, whether or not it is signed, and none is taken that says what
//! its key's owner did not.
#![no_main]

use std::sync::LazyLock;

use crypto::signing::SigningKey;
use identity::TrustDomain;
use identity::recovery::UnverifiedBundleUpdate;
use libfuzzer_sys::fuzz_target;
use time::OffsetDateTime;

static KEY: LazyLock<SigningKey> = LazyLock::new(SigningKey::generate);

fuzz_target!(|data: &[u8]| {
    let trust_domain: TrustDomain = "td".parse().expect("a literal");
    let now = OffsetDateTime::UNIX_EPOCH;
    if let Some(update) = std::str::from_utf8(data).ok().and_then(|it| it.parse::<UnverifiedBundleUpdate>().ok()) {
        assert!(update.verify(KEY.public_key(), &trust_domain, now).is_err());
    }
    let signed = UnverifiedBundleUpdate::signed_by(&KEY, data);
    if let Ok(update) = signed.verify(KEY.public_key(), &trust_domain, now) {
        let again: UnverifiedBundleUpdate = update.sign(&KEY).parse().expect("as it was written");
        assert_eq!(
            again.verify(KEY.public_key(), &trust_domain, now),
            Ok(update)
        );
    }
});
