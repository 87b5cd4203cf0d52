//! What an SVID costs at least: one bare signature verified, one bare signature made, on the
//! message sizes of a CSR and a leaf. No issuance can be cheaper.

use std::time::Duration;

use crypto::signing::SigningKey;

use crate::machine::thread_cpu;

const CSR_BYTES: usize = 220;
const LEAF_BYTES: usize = 340;
const OPERATIONS: u32 = 400;

/// CPU time of one verification and one signature.
pub(crate) fn verify_and_sign() -> Duration {
    let key = SigningKey::generate();
    let csr = [7; CSR_BYTES];
    let signature = key.sign(&csr);
    let before = thread_cpu();
    for counter in 0..OPERATIONS {
        key.public_key()
            .verify(&csr, &signature)
            .expect("our own signature verifies");
        let mut leaf = [0; LEAF_BYTES];
        leaf[..4].copy_from_slice(&counter.to_be_bytes());
        std::hint::black_box(key.sign(&leaf));
    }
    (thread_cpu() - before) / OPERATIONS
}
