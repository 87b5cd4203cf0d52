//! A SPIFFE ID that parses prints as it was read, and keeps to the alphabet of SPIFFE-ID §2.
#![no_main]

use identity::SpiffeId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(id) = text.parse::<SpiffeId>() else { return };
    assert_eq!(id.to_string(), text);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/.-_:".contains(&byte);
    assert!(text.bytes().all(allowed) && !text.contains("/../") && !text.ends_with('/'));
});
