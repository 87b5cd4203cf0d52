//! Blocks that no encoder may send, and lists that are too large.

use super::{decode, octets, plain};
use crate::hpack::{DecodeError, Decoded, Decoder};

#[track_caller]
fn refused(block: &str, error: DecodeError) {
    let mut decoder = Decoder::new(4096);
    assert_eq!(decode(&mut decoder, &octets(block)), Err(error));
}

#[test]
fn an_index_of_zero_is_refused() {
    refused("80", DecodeError::Index);
}

#[test]
fn an_index_beyond_both_tables_is_refused() {
    refused("be", DecodeError::Index);
    refused("4001610162 be bf", DecodeError::Index);
    refused("7f00 00", DecodeError::Index);
    refused("0f2f 00", DecodeError::Index);
}

#[test]
fn an_index_of_an_evicted_entry_is_refused() {
    let mut decoder = Decoder::new(4096);
    decode(&mut decoder, &octets("4001610162 be")).unwrap();
    assert_eq!(
        decode(&mut decoder, &octets("20 be")),
        Err(DecodeError::Index)
    );
}

#[test]
fn an_integer_of_five_octets_after_its_prefix_is_refused() {
    refused("ff8080808000", DecodeError::IntegerOverflow);
    refused("007fffffffff0f", DecodeError::IntegerOverflow);
}

#[test]
fn a_block_that_ends_early_is_refused() {
    for block in [
        "ff", "ff80", "40", "4001", "400161", "40016101", "0484f1e3", "3f",
    ] {
        refused(block, DecodeError::Truncated);
    }
}

#[test]
fn a_string_longer_than_its_block_is_refused() {
    refused("04ffffffff7f2f", DecodeError::Truncated);
}

#[test]
fn the_end_of_string_in_a_string_is_refused() {
    refused("0484ffffffff", DecodeError::EndOfString);
    refused("048507ffffffff", DecodeError::EndOfString);
}

#[test]
fn padding_of_eight_bits_is_refused() {
    refused("0481ff", DecodeError::Padding);
    refused("048207ff", DecodeError::Padding);
}

#[test]
fn padding_that_is_not_ones_is_refused() {
    refused("048100", DecodeError::Padding);
    refused("048106", DecodeError::Padding);
}

#[test]
fn a_table_beyond_what_was_announced_is_refused() {
    refused("3fe21f", DecodeError::SizeAboveLimit);
    let nothing_announced = &mut Decoder::new(0);
    let refused = decode(nothing_announced, &octets("21"));
    assert_eq!(refused, Err(DecodeError::SizeAboveLimit));
}

#[test]
fn a_size_update_after_a_field_is_refused() {
    refused("8220", DecodeError::LateSizeUpdate);
}

#[test]
fn a_table_of_what_was_announced_is_taken() {
    let mut decoder = Decoder::new(65536);
    let fields = decode(&mut decoder, &octets("20 3fe1ff03 82"));
    assert_eq!(fields, Ok(vec![":method: GET".to_owned()]));
}

#[test]
fn an_entry_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::new(4096);
    decode(&mut decoder, &octets("3f21 4001610162")).unwrap();
    let larger = format!("400161 20 {}", "62".repeat(32));
    assert!(decode(&mut decoder, &octets(&larger)).is_ok());
    assert!(decoder.table_sizes().is_empty());
}

#[test]
fn a_field_beyond_the_list_is_decoded_but_not_given() {
    let mut decoder = Decoder::new(4096);
    let mut given = Vec::new();
    let block = octets("82 4001610162 4001610163");
    let decoded = decoder.decode(&block, 42 + 34 + 33, |field| given.push(plain(&field)));
    assert_eq!(decoded, Ok(Decoded::TooLarge));
    assert_eq!(given, [":method: GET", "a: b"]);
    assert_eq!(
        decode(&mut decoder, &octets("be")),
        Ok(vec!["a: c".to_owned()])
    );
}

#[test]
fn no_field_is_given_after_one_that_did_not_fit() {
    let mut given = 0;
    let block = octets("000161 0462626262 000161 00");
    let decoded = Decoder::new(4096).decode(&block, 36, |_| given += 1);
    assert_eq!((decoded, given), (Ok(Decoded::TooLarge), 0));
}

#[test]
fn a_list_of_just_the_size_is_given() {
    let mut given = 0;
    let decoded = Decoder::new(4096).decode(&[0x82], 42, |_| given += 1);
    assert_eq!((decoded, given), (Ok(Decoded::Complete), 1));
}
