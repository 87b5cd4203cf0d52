//! The examples of RFC 7541 appendix C.

use super::{decode, octets};
use crate::hpack::Decoder;
use crate::hpack::primitive::{integer, put_integer};

/// Announces a table of 256 octets.
const TABLE_OF_256: &str = "3fe101";

const FIRST_REQUEST: &[&str] = &[
    ":method: GET",
    ":scheme: http",
    ":path: /",
    ":authority: www.example.com",
];
const SECOND_REQUEST: &[&str] = &[
    ":method: GET",
    ":scheme: http",
    ":path: /",
    ":authority: www.example.com",
    "cache-control: no-cache",
];
const THIRD_REQUEST: &[&str] = &[
    ":method: GET",
    ":scheme: https",
    ":path: /index.html",
    ":authority: www.example.com",
    "custom-key: custom-value",
];
const FIRST_RESPONSE: &[&str] = &[
    ":status: 302",
    "cache-control: private",
    "date: Mon, 21 Oct 2013 20:13:21 GMT",
    "location: https://www.example.com",
];
const SECOND_RESPONSE: &[&str] = &[
    ":status: 307",
    "cache-control: private",
    "date: Mon, 21 Oct 2013 20:13:21 GMT",
    "location: https://www.example.com",
];
const THIRD_RESPONSE: &[&str] = &[
    ":status: 200",
    "cache-control: private",
    "date: Mon, 21 Oct 2013 20:13:22 GMT",
    "location: https://www.example.com",
    "content-encoding: gzip",
    "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
];

/// Decodes `blocks` one after the other: the fields, and then the sizes of the entries, of each.
#[track_caller]
fn check(decoder: &mut Decoder, blocks: &[(&str, &[&str], &[usize])]) {
    for (block, fields, sizes) in blocks {
        assert_eq!(decode(decoder, &octets(block)).unwrap(), *fields);
        assert_eq!(decoder.table_sizes(), *sizes);
    }
}

#[test]
fn integers_are_those_of_c_1() {
    for (value, bits, expected) in [(10, 5, "0a"), (1337, 5, "1f9a0a"), (42, 8, "2a")] {
        let mut out = Vec::new();
        put_integer(0, bits, value, &mut out);
        assert_eq!(out, octets(expected));
        assert_eq!(integer(&mut out.as_slice(), bits), Ok(value));
    }
}

#[test]
fn representations_are_those_of_c_2() {
    let custom = "400a637573746f6d2d6b65790d637573746f6d2d686561646572";
    let password = "100870617373776f726406736563726574";
    check(
        &mut Decoder::new(4096),
        &[
            (custom, &["custom-key: custom-header"], &[55]),
            (
                "040c2f73616d706c652f70617468",
                &[":path: /sample/path"],
                &[55],
            ),
            (password, &["password: secret!"], &[55]),
            ("82", &[":method: GET"], &[55]),
        ],
    );
}

#[test]
fn requests_are_those_of_c_3() {
    let first = "828684410f7777772e6578616d706c652e636f6d";
    let third = "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565";
    check(
        &mut Decoder::new(4096),
        &[
            (first, FIRST_REQUEST, &[57]),
            ("828684be58086e6f2d6361636865", SECOND_REQUEST, &[53, 57]),
            (third, THIRD_REQUEST, &[54, 53, 57]),
        ],
    );
}

#[test]
fn requests_in_huffman_code_are_those_of_c_4() {
    let third = "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf";
    check(
        &mut Decoder::new(4096),
        &[
            ("828684418cf1e3c2e5f23a6ba0ab90f4ff", FIRST_REQUEST, &[57]),
            ("828684be5886a8eb10649cbf", SECOND_REQUEST, &[53, 57]),
            (third, THIRD_REQUEST, &[54, 53, 57]),
        ],
    );
}

#[test]
fn responses_that_evict_are_those_of_c_5() {
    let first = "4803333032580770726976617465611d4d6f6e2c203231204f63742032303133\
        2032303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d";
    let third = "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54\
        c05a04677a69707738666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49\
        553b206d61782d6167653d333630303b2076657273696f6e3d31";
    check(
        &mut Decoder::new(4096),
        &[
            (TABLE_OF_256, &[], &[]),
            (first, FIRST_RESPONSE, &[63, 65, 52, 42]),
            ("4803333037c1c0bf", SECOND_RESPONSE, &[42, 63, 65, 52]),
            (third, THIRD_RESPONSE, &[98, 52, 65]),
        ],
    );
}

#[test]
fn responses_in_huffman_code_are_those_of_c_6() {
    let first = "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff\
        6e919d29ad171863c78f0b97c8e9ae82ae43d3";
    let third = "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab\
        77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed\
        4ee5b1063d5007";
    check(
        &mut Decoder::new(4096),
        &[
            (TABLE_OF_256, &[], &[]),
            (first, FIRST_RESPONSE, &[63, 65, 52, 42]),
            ("4883640effc1c0bf", SECOND_RESPONSE, &[42, 63, 65, 52]),
            (third, THIRD_RESPONSE, &[98, 52, 65]),
        ],
    );
}
