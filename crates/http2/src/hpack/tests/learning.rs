//! What an encoder puts into the table, and what it never does.

use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::{decode, octets};
use crate::hpack::{Decoder, Encoder};

fn block(encoder: &mut Encoder, name: &'static str, value: &'static str) -> Vec<u8> {
    let mut out = Vec::new();
    encoder.begin(&mut out);
    let value = HeaderValue::from_static(value);
    encoder.field(&HeaderName::from_static(name), &value, &mut out);
    out
}

#[test]
fn a_field_is_a_literal_then_an_entry_then_an_index() {
    let mut encoder = Encoder::new();
    let blocks = [(); 4].map(|()| block(&mut encoder, "accept", "a/b"));
    let expected = ["0f04 03612f62", "53 03612f62", "be", "be"];
    assert_eq!(blocks, expected.map(octets));
}

#[test]
fn values_that_differ_never_enter_the_table() {
    let mut encoder = Encoder::new();
    for value in ["1", "2", "1", "2", "3"] {
        block(&mut encoder, "content-length", value);
    }
    assert!(encoder.table_sizes().is_empty());
}

#[test]
fn a_name_in_no_table_enters_it_once() {
    let mut encoder = Encoder::new();
    let blocks = ["1", "2", "3", "4"].map(|value| block(&mut encoder, "x-id", value));
    let expected = [
        "0004 782d6964 0131",
        "4004 782d6964 0132",
        "0f2f 0133",
        "0f2f 0134",
    ];
    assert_eq!(blocks, expected.map(octets));
}

#[test]
fn credentials_are_never_indexed() {
    for name in [
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
    ] {
        let mut encoder = Encoder::new();
        for _ in 0..3 {
            let fields = decode(&mut Decoder::new(4096), &block(&mut encoder, name, "a"));
            assert_eq!(fields.unwrap(), [format!("{name}: a!")]);
        }
        assert!(encoder.table_sizes().is_empty());
    }
}

#[test]
fn a_sensitive_value_is_never_indexed_again() {
    let mut encoder = Encoder::new();
    let mut value = HeaderValue::from_static("secret");
    value.set_sensitive(true);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    encoder.field(&HeaderName::from_static("x-key"), &value, &mut first);
    encoder.field(&HeaderName::from_static("x-key"), &value, &mut second);
    assert_eq!(first, octets("1005 782d6b6579 06736563726574"));
    assert_eq!(first, second);
}

#[test]
fn what_the_static_table_has_is_one_octet() {
    let (mut encoder, mut out) = (Encoder::new(), Vec::new());
    encoder.method(&Method::GET, &mut out);
    encoder.method(&Method::POST, &mut out);
    encoder.scheme("http", &mut out);
    encoder.scheme("https", &mut out);
    encoder.path("/", &mut out);
    for status in [200, 204, 206, 304, 400, 404, 500] {
        encoder.status(StatusCode::from_u16(status).unwrap(), &mut out);
    }
    assert_eq!(out, octets("8283868784 88898a8b8c8d8e"));
    assert_eq!(
        decode(&mut Decoder::new(4096), &out).unwrap()[11],
        ":status: 500"
    );
}

#[test]
fn a_lower_limit_is_announced_and_evicts() {
    let mut encoder = Encoder::new();
    block(&mut encoder, "accept", "a/b");
    block(&mut encoder, "accept", "a/b");
    encoder.limit(0);
    assert!(encoder.table_sizes().is_empty());
    assert_eq!(
        block(&mut encoder, "accept", "a/b"),
        octets("20 0f04 03612f62")
    );
}

#[test]
fn the_lowest_limit_between_blocks_is_announced_before_the_last() {
    let mut encoder = Encoder::new();
    encoder.limit(100);
    encoder.limit(0);
    encoder.limit(1 << 20);
    let mut out = Vec::new();
    encoder.begin(&mut out);
    encoder.begin(&mut out);
    assert_eq!(out, octets("20 3fe11f"));
}

#[test]
fn a_higher_limit_than_ours_changes_nothing() {
    let mut encoder = Encoder::new();
    encoder.limit(65536);
    assert_eq!(block(&mut encoder, "accept", "a"), octets("0f04 0161"));
}
