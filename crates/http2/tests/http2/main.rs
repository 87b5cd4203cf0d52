//! Claims about a connection: against a peer that says any bytes, and against the `h2` crate.
#![expect(
    clippy::unwrap_used,
    reason = "what fails here fails the claim; clippy knows only functions marked as tests"
)]

mod agreement;
mod by_h2;
mod connection_errors;
mod driver;
mod endings;
mod floods;
mod malformed_heads;
mod ours;
mod peer;
mod script;
mod stream_errors;
mod windows;
