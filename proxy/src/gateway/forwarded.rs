//! What a caller outside the mesh may not say about its way here, and what the proxy says instead.
//!
//! Invariant: an application reads of each of these names what the proxy knows, or nothing. There
//! is no list of trusted proxies in front: their word is dropped like everybody's.

use std::net::IpAddr;

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Who connected to the gateway.
const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// What it spoke.
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Everything that begins so, in any spelling.
const PREFIX: &str = "x-forwarded-";

/// Fields that proxies set and applications believe, in the spelling with hyphens.
const NAMES: [&str; 7] = [
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "x-original-forwarded-for",
    "x-original-url",
    "x-rewrite-url",
];

/// Puts the proxy's word in place of whatever the caller said.
pub(crate) fn replace(fields: &mut HeaderMap, client: IpAddr) {
    let said: Vec<HeaderName> = fields
        .keys()
        .filter(|name| is_about_the_way(name.as_str()))
        .cloned()
        .collect();
    for name in said {
        fields.remove(name);
    }
    let client = HeaderValue::try_from(client.to_canonical().to_string());
    fields.insert(FOR, client.expect("an IP address is printable ASCII"));
    fields.insert(PROTO, HeaderValue::from_static("https"));
}

fn is_about_the_way(name: &str) -> bool {
    let is_same = |wanted: &str, got: &str| {
        let same = |(wanted, got): (u8, u8)| wanted == got || (wanted == b'-' && got == b'_');
        wanted.len() == got.len() && wanted.bytes().zip(got.bytes()).all(same)
    };
    let begins = name.get(..PREFIX.len());
    begins.is_some_and(|begin| is_same(PREFIX, begin))
        || NAMES.into_iter().any(|wanted| is_same(wanted, name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn other_fields_stay() {
        let mut fields = HeaderMap::new();
        fields.insert("x-forwarded", HeaderValue::from_static("a"));
        replace(&mut fields, [192, 0, 2, 1].into());
        assert_eq!(fields["x-forwarded"], "a");
        assert_eq!(fields["x-forwarded-for"], "192.0.2.1");
        assert_eq!(fields["x-forwarded-proto"], "https");
    }

    #[test]
    fn an_address_behind_both_families_is_told_as_what_it_is() {
        let mut fields = HeaderMap::new();
        replace(&mut fields, "::ffff:192.0.2.1".parse().unwrap());
        assert_eq!(fields["x-forwarded-for"], "192.0.2.1");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn no_spelling_of_a_name_passes(
            which in 0..NAMES.len() + 2, underscores: [bool; 24],
        ) {
            let names = NAMES.into_iter().chain(["x-forwarded-for", "x-forwarded-host"]);
            let name = names.clone().nth(which).unwrap();
            let spelled: String = name.chars().zip(underscores)
                .map(|(it, underscore)| if it == '-' && underscore { '_' } else { it })
                .collect();
            let mut fields = HeaderMap::new();
            fields.append(spelled.parse::<HeaderName>().unwrap(), HeaderValue::from_static("lie"));
            replace(&mut fields, [192, 0, 2, 1].into());
            prop_assert!(fields.values().all(|value| value != "lie"));
            prop_assert_eq!(fields.len(), 2);
        }
    }
}
