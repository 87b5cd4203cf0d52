//! Integers and strings (RFC 7541 section 5).
//!
//! It refuses integers of more than four octets after the prefix (2^28 and more), which no string,
//! index or table of ours can reach.

use super::{DecodeError, huffman};

/// Takes an integer whose first octet has `bits` bits for it.
#[inline]
pub(super) fn integer(rest: &mut &[u8], bits: u32) -> Result<usize, DecodeError> {
    let mask = (1usize << bits) - 1;
    let mut value = usize::from(octet(rest)?) & mask;
    if value < mask {
        return Ok(value);
    }
    for shift in [0, 7, 14, 21] {
        let octet = octet(rest)?;
        value += usize::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(DecodeError::IntegerOverflow)
}

/// Takes a string: a part of the block, or of `scratch` if it is Huffman-coded.
pub(super) fn string<'a, 'block: 'a>(
    rest: &mut &'block [u8],
    scratch: &'a mut Vec<u8>,
) -> Result<&'a [u8], DecodeError> {
    let coded = rest.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer(rest, 7)?;
    let (text, after) = rest
        .split_at_checked(length)
        .ok_or(DecodeError::Truncated)?;
    *rest = after;
    if !coded {
        return Ok(text);
    }
    scratch.clear();
    huffman::decode(text, scratch)?;
    Ok(scratch)
}

/// Puts an integer into the low `bits` bits of `first` and what octets it takes after it.
#[inline]
pub(super) fn put_integer(first: u8, bits: u32, value: usize, out: &mut Vec<u8>) {
    let mask = (1usize << bits) - 1;
    if value < mask {
        out.push(first | value as u8);
        return;
    }
    out.push(first | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Puts a string as it is, without Huffman coding.
pub(super) fn put_string(text: &[u8], out: &mut Vec<u8>) {
    put_integer(0, 7, text.len(), out);
    out.extend_from_slice(text);
}

#[inline]
fn octet(rest: &mut &[u8]) -> Result<u8, DecodeError> {
    let (first, after) = rest.split_first().ok_or(DecodeError::Truncated)?;
    *rest = after;
    Ok(*first)
}
