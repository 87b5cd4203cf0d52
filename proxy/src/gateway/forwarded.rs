//! What a caller outside the mesh may not say about its way here, and what the proxy says instead.
//!
//! Invariant: an application reads of each of these names what the proxy knows, or nothing. There
//! is no list of trusted proxies in front: their word is dropped like everybody's.

use std::net::IpAddr;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use policy::is_about_the_way;

/// Who connected to the gateway.
const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// What it spoke.
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

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

#[cfg(test)]
mod tests {
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

    #[test]
    fn what_a_caller_says_of_its_way_is_not_passed_on() {
        let mut fields = HeaderMap::new();
        for name in [
            "x_forwarded_for",
            "X-Forwarded-Host",
            "forwarded",
            "x-real_ip",
        ] {
            let name = name.parse::<HeaderName>().unwrap();
            fields.append(name, HeaderValue::from_static("lie"));
        }
        replace(&mut fields, [192, 0, 2, 1].into());
        let left: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["x-forwarded-for", "x-forwarded-proto"]);
    }
}
