//! Why a block cannot be decoded. Each is an error of the connection (RFC 9113 section 4.3).

use thiserror::Error;

/// The rule of RFC 7541 that a block breaks.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error("an index is zero or beyond both tables (RFC 7541 section 2.3.3)")]
    Index,
    #[error("an integer has more than four octets after its prefix (RFC 7541 section 5.1)")]
    IntegerOverflow,
    #[error("the block ends inside an integer or a string (RFC 7541 section 5)")]
    Truncated,
    #[error("a Huffman-coded string contains EOS (RFC 7541 section 5.2)")]
    EndOfString,
    #[error(
        "the padding of a Huffman-coded string is longer than 7 bits or not ones (RFC 7541 section 5.2)"
    )]
    Padding,
    #[error("a table size update exceeds the announced limit (RFC 7541 section 6.3)")]
    SizeAboveLimit,
    #[error("a table size update is not at the start of its block (RFC 7541 section 4.2)")]
    LateSizeUpdate,
}
