//! HTTP/1 is read in one way: however the bytes are split, and as hyper reads what both accept.
#![no_main]

#[path = "../../../proxy/tests/proxy/http1_by_codec.rs"]
mod http1_by_codec;
#[path = "../../../proxy/tests/proxy/http1_by_hyper.rs"]
mod http1_by_hyper;

use http::Method;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().build().expect("a runtime");
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let ours = http1_by_codec::requests(std::iter::once(bytes));
    let split = http1_by_codec::requests(bytes.chunks(usize::from(*first % 16) + 1));
    assert_eq!(ours, split);
    let mut theirs = block_on(http1_by_hyper::requests(bytes));
    theirs.truncate(ours.messages.len());
    assert_eq!(ours.messages, theirs);
    let method = if *first < 128 { Method::GET } else { Method::HEAD };
    if let Ok((ours, _)) = http1_by_codec::response(&method, bytes) {
        let theirs = block_on(http1_by_hyper::response(method, bytes));
        assert_eq!(Some(ours), theirs);
    }
});

fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| runtime.block_on(future))
}
