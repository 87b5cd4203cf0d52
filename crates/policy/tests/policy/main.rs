//! What the crate promises in public files: its conformance vectors and its documentation.

#![expect(
    clippy::unwrap_used,
    reason = "a file that cannot be read fails the test"
)]

mod conformance;
mod documentation;
