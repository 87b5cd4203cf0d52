//! Load and the backend that answers it, as thin as they can be, so that what is measured is the
//! proxies: requests are built once, answers are read in place and checked to the last byte.
//!
//! Invariant: a figure over failures means nothing, so one wrong status, length or byte ends the
//! run with an error.

pub(crate) mod backend;
mod frames;
pub(crate) mod h2;
mod h2_backend;
pub(crate) mod handshakes;
pub(crate) mod http1;
mod message;
mod pace;
pub(crate) mod tcp;

use anyhow::{Result, ensure};

/// Every body is made of it.
pub(crate) const FILL: u8 = b'x';
/// The answer to a plain GET.
pub(crate) const ANSWER_BYTES: usize = 1024;
/// What the load writes and reads at once where a body is large.
const CHUNK: usize = 64 * 1024;

static FILLED: [u8; CHUNK] = [FILL; CHUNK];

fn check_body(bytes: &[u8]) -> Result<()> {
    ensure!(
        bytes.iter().all(|byte| *byte == FILL),
        "a body came back changed"
    );
    Ok(())
}
