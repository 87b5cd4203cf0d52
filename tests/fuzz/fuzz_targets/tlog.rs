//! What a log says: tile paths, signed notes, keys, checkpoints, bundles, entries.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tlog::entry::Entry;
use tlog::{Checkpoint, TilePath, UnverifiedNote, VerifierKey, bundle};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(entry) = Entry::decode(bytes) {
        assert_eq!(entry.encode().as_deref(), Ok(bytes));
    }
    for count in [1, 256] {
        if let Ok(entries) = bundle::split(bytes, count) {
            let mut again = Vec::new();
            for entry in entries {
                bundle::push(&mut again, entry).expect("it was in a bundle");
            }
            assert_eq!(again, bytes);
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(tile) = text.parse::<TilePath>() {
        assert_eq!(tile.to_string(), text);
    }
    if let Ok(key) = text.parse::<VerifierKey>() {
        assert_eq!(key.to_string(), text);
        let _ = Checkpoint::open(text, &key);
    }
    if let Ok(checkpoint) = text.parse::<Checkpoint>() {
        assert!(text.starts_with(&checkpoint.to_string()));
    }
    let _ = text.parse::<UnverifiedNote>();
});
