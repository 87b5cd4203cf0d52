//! A join token that parses prints a text that means the same.
#![no_main]

use identity::JoinToken;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(token) = text.parse::<JoinToken>() else { return };
    let again: JoinToken = token.to_string().parse().expect("what was printed parses");
    assert_eq!(again.to_string(), token.to_string());
});
