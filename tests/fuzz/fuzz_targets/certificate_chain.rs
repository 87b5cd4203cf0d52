//! No bytes make the chain reader panic, and none verify without a root.
#![no_main]

use identity::x509::{BundleSet, UnverifiedChain};
use libfuzzer_sys::fuzz_target;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

fuzz_target!(|chain: Vec<Vec<u8>>| {
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    let Ok(chain) = UnverifiedChain::from_der(chain) else { return };
    let verified = chain.verify(&BundleSet::default(), OffsetDateTime::UNIX_EPOCH);
    assert!(verified.is_err());
});
