//! No bytes make the CSR reader panic.
#![no_main]

use crypto::signing::verify_csr;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _refused = verify_csr(bytes);
});
