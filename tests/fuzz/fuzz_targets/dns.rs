//! DNS messages are read without a panic: what is asked of us is answered in a form that is read
//! again, and an answer to our question has no more than it may have, all of it ours.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| countersign_proxy::dns::read_as_all(bytes));
