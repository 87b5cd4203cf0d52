//! Tokens and sets of keys of issuers: nothing that nobody signed is believed.
#![no_main]

use identity::jwt::{Expectations, KeySet, UnverifiedJwt};
use libfuzzer_sys::fuzz_target;
use time::OffsetDateTime;

fuzz_target!(|input: (&str, &[u8])| {
    let (token, keys) = input;
    let keys = KeySet::from_json(keys);
    let (Ok(jwt), Ok(keys)) = (UnverifiedJwt::parse(token), keys) else { return };
    let issuer = jwt.claimed_issuer().unwrap_or_default().to_owned();
    let algorithms = [crypto::jws::JwsAlgorithm::Es256, crypto::jws::JwsAlgorithm::Rs256];
    let expected = Expectations {
        issuer: &issuer,
        audience: "countersign",
        algorithms: &algorithms,
    };
    let judged = jwt.verify(&keys, expected, OffsetDateTime::UNIX_EPOCH);
    assert!(judged.is_err(), "a signature was made by chance");
});
