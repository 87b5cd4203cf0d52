//! Cryptography of the mesh: the only crate that names a cryptographic backend.
//!
//! Invariant: one build has exactly one backend, `aws-lc-rs` (the default) or `ring`, behind one
//! API; everything above is written once. The crate refuses to compile with both or neither.
//!
//! It holds primitives and keys, and knows nothing of identities: what a key may sign is decided
//! by its callers.

#[cfg(all(feature = "aws-lc-rs", feature = "ring"))]
compile_error!(
    "choose one cryptographic backend: `aws-lc-rs` (default) or `--no-default-features --features ring`"
);
#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
compile_error!("choose a cryptographic backend: feature `aws-lc-rs` or feature `ring`");

mod backend;
pub mod digest;
pub mod ed25519;
pub mod jws;
pub mod provider;
pub mod random;
pub mod sealing;
pub mod signing;

pub use provider::{BACKEND, provider};
