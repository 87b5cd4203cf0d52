//! A trace context that is read says the same when it is sent on, and never more than its limits.
#![no_main]

use countersign_proxy::trace_context::{TraceContext, TraceState};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(context) = TraceContext::parse(bytes) {
        let text = context.to_string();
        assert_eq!(TraceContext::parse(text.as_bytes()), Ok(context));
    }
    if let Ok(Some(state)) = TraceState::parse(bytes.split(|byte| *byte == 0)) {
        assert!(state.as_str().len() <= 512);
        assert_eq!(TraceState::parse([state.as_str().as_bytes()]), Ok(Some(state)));
    }
});
