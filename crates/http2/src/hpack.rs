//! Header compression (RFC 7541).
//!
//! The two sides are independent: a [`Decoder`] follows the table that the peer fills, an
//! [`Encoder`] fills the one that the peer follows. Both hold the invariant that the table here and
//! the table there are equal after each block; an error of the decoder therefore ends the connection
//! (COMPRESSION_ERROR, RFC 9113 section 4.3), whereas a field that breaks a rule of HTTP is
//! [`Field::Malformed`] and ends only its message.

mod decoder;
mod encoder;
mod error;
mod field;
mod huffman;
mod primitive;
mod static_table;
mod table;
#[cfg(test)]
mod tests;

pub use decoder::{Decoded, Decoder};
pub use encoder::Encoder;
pub use error::DecodeError;
pub use field::Field;

/// The table that either side may have until it is told otherwise, in octets (RFC 9113 section 6.5.2).
const DEFAULT_TABLE: usize = 4096;
