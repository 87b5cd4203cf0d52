//! Fields that break a rule of HTTP, in blocks that are good.

use super::{decode, octets};
use crate::hpack::Decoder;
use crate::hpack::primitive::put_string;

#[track_caller]
fn malformed(name: &[u8], value: &[u8], rule: &str) {
    let mut block = vec![0];
    put_string(name, &mut block);
    put_string(value, &mut block);
    block.push(0x82);
    let fields = decode(&mut Decoder::new(4096), &block).unwrap();
    assert_eq!(fields, [&format!("malformed: {rule}"), ":method: GET"]);
}

#[test]
fn a_name_that_is_not_lowercase_is_malformed() {
    malformed(
        b"Accept",
        b"a",
        "a field name that is not a lowercase token",
    );
    malformed(
        b"x-Custom",
        b"a",
        "a field name that is not a lowercase token",
    );
}

#[test]
fn a_name_that_is_no_token_is_malformed() {
    for name in [&b""[..], b"a b", b"a:b", b"a\r\n", b"\xc3\xa4", b"a\0"] {
        malformed(name, b"a", "a field name that is not a lowercase token");
    }
}

#[test]
fn a_pseudo_header_field_that_nobody_defined_is_malformed() {
    for name in [&b":"[..], b":protocol", b":Path", b":path ", b"::path"] {
        malformed(name, b"/", "a pseudo-header field that is not defined");
    }
}

#[test]
fn a_value_with_a_control_character_is_malformed() {
    for value in [&b"a\r\nb: c"[..], b"a\nb", b"a\rb", b"a\0", b"\x7f"] {
        malformed(b"a", value, "a field value with a control character");
    }
}

#[test]
fn a_value_with_white_space_around_it_is_malformed() {
    for value in [&b" "[..], b" a", b"a ", b"\ta", b"a\t"] {
        malformed(b"a", value, "a field value with white space around it");
    }
}

#[test]
fn a_method_that_is_no_token_is_malformed() {
    for method in [&b""[..], b"GET ", b"G\r\nET"] {
        malformed(b":method", method, "a :method that is no token");
    }
}

#[test]
fn a_scheme_that_is_none_is_malformed() {
    for scheme in [&b""[..], b"ht tp", b"http:", b"://", b"1a", b"\xff"] {
        malformed(b":scheme", scheme, "a :scheme that is none");
    }
}

#[test]
fn an_authority_that_is_no_host_is_malformed() {
    let rule = "an :authority that is no host and port";
    for authority in [&b""[..], b"a b", b"a/b", b"a:b:c", b"[::1", b"a\n"] {
        malformed(b":authority", authority, rule);
    }
    malformed(b":authority", b"me@a", "an :authority with userinfo");
}

#[test]
fn a_path_without_a_slash_is_malformed() {
    for path in [&b""[..], b"a", b"?a", b"#a", b"**", b"http://a/"] {
        malformed(b":path", path, "a :path that does not start with a slash");
    }
}

#[test]
fn a_path_with_what_is_no_part_of_one_is_malformed() {
    malformed(b":path", b"/a#b", "a :path with a fragment");
    malformed(b":path", b"/a?b#", "a :path with a fragment");
    for path in [&b"/a b"[..], b"/a\r\n", b"/\0", b"/\xff"] {
        malformed(
            b":path",
            path,
            "a :path with a character that is not allowed",
        );
    }
}

#[test]
fn a_status_that_is_not_three_digits_is_malformed() {
    for status in [&b""[..], b"20", b"2000", b"099", b"2x0"] {
        malformed(b":status", status, "a :status that is not three digits");
    }
}

#[test]
fn the_authority_of_the_static_table_is_malformed() {
    let fields = decode(&mut Decoder::new(4096), &[0x81]).unwrap();
    assert_eq!(
        fields,
        ["malformed: an :authority that is no host and port"]
    );
}

#[test]
fn an_entry_that_is_malformed_lends_its_name() {
    let mut decoder = Decoder::new(4096);
    let first = decode(&mut decoder, &octets("44 02 6161  4001 61 0120")).unwrap();
    let then = decode(&mut decoder, &octets("be bf 7e 0162 7f01 022f61")).unwrap();
    assert_eq!(first, then[..2].iter().rev().cloned().collect::<Vec<_>>());
    assert_eq!(then[2..], ["a: b", ":path: /a"]);
}

#[test]
fn an_entry_of_a_malformed_name_counts_its_octets() {
    let mut decoder = Decoder::new(4096);
    decode(&mut decoder, &octets("40034142430161")).unwrap();
    assert_eq!(decoder.table_sizes(), [36]);
}
