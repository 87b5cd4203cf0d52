//! A deny-list that parses is the same when it is written and read again.
#![no_main]

use identity::x509::{Denied, DenyList};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<String>, Vec<Vec<u8>>, Vec<Vec<u8>>)| {
    let (identities, serials, authorities) = input;
    let Ok(list) = DenyList::parse(&identities, &serials, &authorities) else {
        return;
    };
    let (mut identities, mut serials, mut authorities) = (Vec::new(), Vec::new(), Vec::new());
    for entry in list.iter() {
        match entry {
            Denied::Identity(id) => identities.push(id.to_string()),
            Denied::Serial(serial) => serials.push(serial.as_bytes().to_vec()),
            Denied::Authority(key) => authorities.push(key.as_bytes().to_vec()),
        }
    }
    let again = DenyList::parse(&identities, &serials, &authorities);
    assert_eq!(again.expect("it was well-formed"), list);
});
