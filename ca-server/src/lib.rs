//! The certificate authority of a mesh: decides who gets which identity, signs it, and remembers
//! that it did.

pub mod admin;
pub mod registry;
pub mod store;
