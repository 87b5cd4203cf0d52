use proptest::prelude::*;

use super::*;

#[track_caller]
fn refused(text: &str, expected: SpiffeIdError) {
    assert_eq!(text.parse::<SpiffeId>(), Err(expected), "{text:?}");
}

fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

#[test]
fn other_schemes_and_other_cases_of_the_scheme_are_refused() {
    for text in [
        "",
        "spiffe:/a",
        "http://a",
        "SPIFFE://a",
        "Spiffe://a/b",
        "//a",
    ] {
        refused(text, SpiffeIdError::Scheme);
    }
}

#[test]
fn empty_trust_domain_is_refused() {
    refused("spiffe://", TrustDomainError::Empty.into());
    refused("spiffe:///path", TrustDomainError::Empty.into());
}

#[test]
fn query_and_fragment_are_refused() {
    refused("spiffe://td?q", SpiffeIdError::Query { position: 11 });
    refused("spiffe://td/a?q", SpiffeIdError::Query { position: 13 });
    refused("spiffe://td#f", SpiffeIdError::Fragment { position: 11 });
    refused("spiffe://td/a#f", SpiffeIdError::Fragment { position: 13 });
}

#[test]
fn user_information_and_port_are_refused() {
    refused("spiffe://a@td/x", SpiffeIdError::UserInfo { position: 10 });
    refused("spiffe://td:8080/x", SpiffeIdError::Port { position: 11 });
    refused("spiffe://td:/x", SpiffeIdError::Port { position: 11 });
}

#[test]
fn percent_encoding_is_refused_in_both_parts() {
    refused(
        "spiffe://td/%41",
        SpiffeIdError::PercentEncoding { position: 12 },
    );
    let position = 1;
    refused(
        "spiffe://t%41/a",
        TrustDomainError::PercentEncoding { position }.into(),
    );
}

#[test]
fn empty_and_dot_segments_are_refused() {
    refused(
        "spiffe://td//a",
        SpiffeIdError::EmptySegment { position: 12 },
    );
    refused(
        "spiffe://td/a//b",
        SpiffeIdError::EmptySegment { position: 14 },
    );
    refused(
        "spiffe://td/./a",
        SpiffeIdError::DotSegment { position: 12 },
    );
    refused(
        "spiffe://td/a/..",
        SpiffeIdError::DotSegment { position: 14 },
    );
}

#[test]
fn trailing_slash_is_refused() {
    refused(
        "spiffe://td/",
        SpiffeIdError::TrailingSlash { position: 11 },
    );
    refused(
        "spiffe://td/a/",
        SpiffeIdError::TrailingSlash { position: 13 },
    );
}

#[test]
fn path_characters_outside_the_set_are_refused() {
    for (text, position, found) in [
        ("spiffe://td/a b", 13, ' '),
        ("spiffe://td/ü", 12, 'ü'),
        ("spiffe://td/a:b", 13, ':'),
        ("spiffe://td/a\0", 13, '\0'),
        ("spiffe://td/a\\b", 13, '\\'),
    ] {
        refused(text, SpiffeIdError::PathCharacter { position, found });
    }
}

#[test]
fn uppercase_trust_domain_is_refused_and_uppercase_path_kept() {
    let (position, found) = (0, 'T');
    refused(
        "spiffe://Td/a",
        TrustDomainError::Uppercase { position, found }.into(),
    );
    assert_ne!(id("spiffe://td/A"), id("spiffe://td/a"));
}

#[test]
fn id_of_2048_bytes_is_accepted_and_2049_refused() {
    let longest = format!("spiffe://td/{}", "a".repeat(2048 - 12));
    assert_eq!(id(&longest).as_str(), longest);
    refused(
        &format!("{longest}a"),
        SpiffeIdError::TooLong { length: 2049 },
    );
}

#[test]
fn an_id_cannot_be_built_from_a_path_that_would_not_parse() {
    let td: TrustDomain = "td".parse().unwrap();
    let position = 11;
    assert_eq!(
        SpiffeId::new(&td, "a"),
        Err(SpiffeIdError::PathStart {
            position,
            found: 'a'
        })
    );
    assert_eq!(
        SpiffeId::new(&td, "/"),
        Err(SpiffeIdError::TrailingSlash { position })
    );
    let length = 11 + 2038;
    assert_eq!(
        SpiffeId::new(&td, &format!("/{}", "a".repeat(2037))),
        Err(SpiffeIdError::TooLong { length })
    );
    assert_eq!(SpiffeId::new(&td, "/a/b").unwrap(), id("spiffe://td/a/b"));
    assert_eq!(SpiffeId::new(&td, "").unwrap().as_str(), td.id());
}

#[test]
fn dots_within_a_segment_are_legal() {
    for text in [
        "spiffe://1.2.3.4/...",
        "spiffe://td/.a",
        "spiffe://td/a..b/-_",
    ] {
        assert_eq!(id(text).as_str(), text);
    }
}

#[test]
fn is_under_counts_whole_segments_in_one_trust_domain() {
    let shop = id("spiffe://td/ns/shop");
    assert!(!id("spiffe://td/ns/shopping").is_under(&shop));
    assert!(!id("spiffe://td2/ns/shop").is_under(&id("spiffe://td")));
    assert!(!id("spiffe://td/ns").is_under(&shop));
    assert!(id("spiffe://td/ns/shop/sa/a").is_under(&shop));
    assert!(shop.is_under(&shop) && shop.is_under(&id("spiffe://td")));
}

#[test]
fn only_the_countersign_segment_is_reserved() {
    for text in [
        "spiffe://td",
        "spiffe://td/countersigned/a",
        "spiffe://td/a/countersign",
    ] {
        assert!(!id(text).is_reserved(), "{text}");
    }
    for text in ["spiffe://td/countersign", "spiffe://td/countersign/ca/a"] {
        assert!(id(text).is_reserved(), "{text}");
    }
}

#[test]
fn parts_are_those_of_the_text() {
    let orders = id("spiffe://td/ns/shop");
    assert_eq!(orders.trust_domain().as_str(), "td");
    assert_eq!(orders.path(), "/ns/shop");
    assert_eq!(orders.segments().collect::<Vec<_>>(), ["ns", "shop"]);
    assert_eq!(id("spiffe://td").segments().count(), 0);
}

proptest! {
    #[test]
    fn every_canonical_id_survives_a_round_trip(
        text in "spiffe://[a-z0-9._-]{1,64}(/[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,20}){0,8}"
    ) {
        let parsed = id(&text);
        prop_assert_eq!(parsed.to_string(), text);
        prop_assert_eq!(SpiffeId::new(parsed.trust_domain(), parsed.path()), Ok(parsed));
    }

    #[test]
    fn no_text_panics_and_what_is_accepted_obeys_the_rules(
        text in prop_oneof![".{0,64}", "(spiffe)?(://)?[a-z./%@:?#A\\u{e9}_-]{0,24}"]
    ) {
        if let Ok(id) = text.parse::<SpiffeId>() {
            let rest = text.strip_prefix("spiffe://").unwrap();
            prop_assert!(!rest.contains(['?', '#', '%', '@', ':']) && !rest.ends_with('/'));
            prop_assert!(rest.split('/').all(|segment| !segment.is_empty()));
            prop_assert!(id.segments().all(|segment| segment != "." && segment != ".."));
            prop_assert!(id.segments().all(|segment| segment.bytes().all(
                |b| b.is_ascii_alphanumeric() || b"._-".contains(&b)
            )));
        }
    }

    #[test]
    fn order_and_equality_are_those_of_the_text(a in "[a-c./]{0,6}", b in "[a-c./]{0,6}") {
        let parse = |rest: &str| format!("spiffe://{rest}").parse::<SpiffeId>();
        if let (Ok(a), Ok(b)) = (parse(&a), parse(&b)) {
            prop_assert_eq!(a.cmp(&b), a.as_str().cmp(b.as_str()));
        }
    }
}
