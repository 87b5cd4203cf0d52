//! Whatever YAML says, it is objects that print and parse back to themselves, or a typed error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::{parse_documents, parse_json};

fuzz_target!(|text: &str| {
    let Ok(objects) = parse_documents(text) else { return };
    for object in objects {
        let again = parse_json(&object.to_json()).expect("what was printed parses");
        assert_eq!(again, object);
    }
});
