//! Whatever an encoder writes a decoder reads, and whatever bytes a decoder reads it survives.

use http::{HeaderName, HeaderValue, Method, StatusCode};
use proptest::collection::vec;
use proptest::prelude::*;

use super::plain;
use crate::hpack::{DEFAULT_TABLE, Decoded, Decoder, Encoder, Field};

#[derive(Clone, Debug)]
enum Step {
    Limit(usize),
    Block(Vec<Field>),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_encoded_is_decoded_with_equal_tables(steps in vec(step(), 1..16)) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(DEFAULT_TABLE));
        for step in steps {
            match step {
                Step::Limit(limit) => encoder.limit(limit),
                Step::Block(fields) => {
                    let mut block = Vec::new();
                    encoder.begin(&mut block);
                    fields.iter().for_each(|field| encode(&mut encoder, field, &mut block));
                    let decoded = super::decode(&mut decoder, &block);
                    let sent: Vec<_> = fields.iter().map(as_received).collect();
                    prop_assert_eq!(decoded.unwrap(), sent);
                    prop_assert_eq!(encoder.table_sizes(), decoder.table_sizes());
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_survived_within_bounds(
        blocks in vec(vec(prop_oneof![any::<u8>(), 0x40u8..0x48, 0xbeu8..0xc8, Just(1)], 0..80), 1..8),
        announced in 0usize..10_000,
        most in 0usize..400,
    ) {
        let mut decoder = Decoder::new(announced);
        for block in blocks {
            let mut room = most;
            let result = decoder.decode(&block, most, |field| room -= least(&field));
            prop_assert!(decoder.table_sizes().iter().sum::<usize>() <= announced.max(DEFAULT_TABLE));
            if result.is_err() {
                break;
            }
        }
    }

    #[test]
    fn a_limit_on_the_list_gives_a_prefix_of_it(fields in vec(field(), 0..12), most in 0usize..600) {
        let (mut encoder, mut block) = (Encoder::new(), Vec::new());
        fields.iter().for_each(|field| encode(&mut encoder, field, &mut block));
        let mut given = Vec::new();
        let decoded = Decoder::new(DEFAULT_TABLE).decode(&block, most, |field| given.push(field));
        let size: usize = fields.iter().map(least).sum();
        let expected = if size <= most { Decoded::Complete } else { Decoded::TooLarge };
        prop_assert_eq!(decoded, Ok(expected));
        prop_assert!(given.iter().map(least).sum::<usize>() <= most);
        for (given, sent) in given.iter().zip(&fields) {
            prop_assert_eq!(plain(given), as_received(sent));
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => prop_oneof![0usize..300, 0usize..10_000].prop_map(Step::Limit),
        8 => vec(field(), 0..10).prop_map(Step::Block),
    ]
}

/// Few names and values, so that they repeat, and some that do not.
fn field() -> impl Strategy<Value = Field> {
    let pseudo = prop_oneof![
        prop_oneof!["GET", "PUT", "[A-Z]{1,9}"]
            .prop_map(|text| Field::Method(Method::from_bytes(text.as_bytes()).unwrap())),
        prop_oneof!["http", "https", "ws"].prop_map(|text| Field::Scheme(text.parse().unwrap())),
        "[a-c]{1,2}(:80)?".prop_map(|text| Field::Authority(text.parse().unwrap())),
        prop_oneof!["/", "\\*", "/[a-c]", "/[!-\"$->@-Z]{0,80}"]
            .prop_filter_map("a path", |text| Some(Field::Path(text.parse().ok()?))),
        (100u16..600).prop_map(|code| Field::Status(StatusCode::from_u16(code).unwrap())),
    ];
    let name = prop_oneof![
        8 => prop_oneof!["date", "via", "cookie", "content-type", "x-[a-d]"],
        1 => "[a-z][a-z0-9-]{0,20}",
    ];
    let value = prop_oneof![
        6 => "[a-c]?".prop_map(String::into_bytes),
        2 => "[!-~]([ -~]{0,80}[!-~])?".prop_map(String::into_bytes),
        1 => (0x80u8..=0xff, 0usize..3000).prop_map(|(octet, length)| std::vec![octet; length]),
    ];
    let regular = (name, value, prop::bool::weighted(0.1)).prop_map(|(name, value, sensitive)| {
        let mut value = HeaderValue::from_bytes(&value).unwrap();
        value.set_sensitive(sensitive);
        Field::Regular(name.parse().unwrap(), value)
    });
    prop_oneof![1 => pseudo, 3 => regular]
}

fn encode(encoder: &mut Encoder, field: &Field, out: &mut Vec<u8>) {
    match field {
        Field::Method(method) => encoder.method(method, out),
        Field::Scheme(scheme) => encoder.scheme(scheme.as_str(), out),
        Field::Authority(authority) => encoder.authority(authority.as_str(), out),
        Field::Path(path) => encoder.path(path.as_str(), out),
        Field::Status(status) => encoder.status(*status, out),
        Field::Regular(name, value) => encoder.field(name, value, out),
        Field::Malformed(_) => unreachable!("no such field is made"),
    }
}

/// Credentials arrive marked as sensitive.
fn as_received(field: &Field) -> String {
    let text = plain(field);
    match field {
        Field::Regular(name, value) if name == "cookie" && !value.is_sensitive() => text + "!",
        _ => text,
    }
}

/// The octets that a field counts in a list, or fewer if it is malformed.
fn least(field: &Field) -> usize {
    32 + match field {
        Field::Method(method) => 7 + method.as_str().len(),
        Field::Scheme(scheme) => 7 + scheme.as_str().len(),
        Field::Authority(authority) => 10 + authority.as_str().len(),
        Field::Path(path) => 5 + path.as_str().len(),
        Field::Status(_) => 10,
        Field::Regular(name, value) => HeaderName::as_str(name).len() + value.len(),
        Field::Malformed(_) => 0,
    }
}
