//! JSON Web Tokens by which others say who somebody is (RFC 7519): service-account tokens of
//! Kubernetes, tokens of CI systems.
//!
//! Invariant: a [`VerifiedJwt`] exists only for a token whose signature, issuer, audience and times
//! were judged. What a token says of its own keys (`jwk`, `jku`, `x5c`, `x5u`) is never looked at,
//! and one with `crit` is refused (RFC 8725 §3).

mod keys;
mod token;

pub use keys::{KeySet, KeySetError};
pub use token::{Expectations, JwtError, UnverifiedJwt, VerifiedJwt};
