use crypto::random::SeededRandom;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn token() -> JoinToken {
    let mut random = SeededRandom::new(7);
    let addresses = vec!["ca.example:8444".parse().unwrap()];
    let roots = vec![Sha256::of(b"root")];
    let domain = "corp.example".parse().unwrap();
    JoinToken::generate("web-7", domain, addresses, roots, &mut random).unwrap()
}

/// The text of the token after `change` was made to its JSON.
fn changed(change: impl FnOnce(&mut Value)) -> String {
    let text = token().to_string();
    let body = BASE64URL_NOPAD.decode(&text.as_bytes()[PREFIX.len()..]);
    let mut json: Value = serde_json::from_slice(&body.unwrap()).unwrap();
    change(&mut json);
    format!(
        "{PREFIX}{}",
        BASE64URL_NOPAD.encode(json.to_string().as_bytes())
    )
}

#[track_caller]
fn refused(text: &str, expected: JoinTokenError) {
    assert_eq!(text.parse::<JoinToken>(), Err(expected));
}

#[test]
fn other_versions_and_encodings_are_refused() {
    let text = token().to_string();
    refused(&text.replace("csj1.", "csj2."), JoinTokenError::Version);
    refused("", JoinTokenError::Version);
    refused(&format!("{text}="), JoinTokenError::Encoding);
    refused(
        &"csj1.".repeat(2000),
        JoinTokenError::TooLong { length: 10_000 },
    );
}

#[test]
fn missing_unknown_and_mistyped_fields_are_refused() {
    refused("csj1.e30", JoinTokenError::Fields);
    refused(
        &changed(|json| json["admin"] = json!(true)),
        JoinTokenError::Fields,
    );
    refused(
        &changed(|json| json["secret"] = json!(7)),
        JoinTokenError::Fields,
    );
    let twice = BASE64URL_NOPAD.encode(br#"{"id":"a","id":"b"}"#);
    refused(&format!("{PREFIX}{twice}"), JoinTokenError::Fields);
}

#[test]
fn each_bad_field_is_named() {
    for id in [json!(""), json!("a/b"), json!("a".repeat(65))] {
        refused(&changed(|json| json["id"] = id), JoinTokenError::Id);
    }
    refused(
        &changed(|json| json["secret"] = json!("AAAA")),
        JoinTokenError::Secret,
    );
    refused(
        &changed(|json| json["secret"] = json!("!")),
        JoinTokenError::Secret,
    );
    refused(
        &changed(|json| json["trust_domain"] = json!("")),
        JoinTokenError::TrustDomain(TrustDomainError::Empty),
    );
    refused(
        &changed(|json| json["addresses"] = json!(["ca"])),
        JoinTokenError::Address(CaAddressError::Shape),
    );
    refused(
        &changed(|json| json["root_sha256"] = json!(["00"])),
        JoinTokenError::Root,
    );
}

#[test]
fn empty_and_long_lists_are_refused() {
    for field in ["addresses", "root_sha256"] {
        for entries in [0, 17] {
            let text = changed(|json| {
                let entry = json[field][0].clone();
                json[field] = Value::Array(vec![entry; entries]);
            });
            refused(&text, JoinTokenError::Entries { field, entries });
        }
    }
}

#[test]
fn debug_and_errors_never_show_the_secret() {
    let token = token();
    let secret = BASE64URL_NOPAD.encode(token.secret());
    assert!(!format!("{token:?}").contains(&secret));
    let text = changed(|json| json["trust_domain"] = json["secret"].clone());
    let error = text.parse::<JoinToken>().unwrap_err();
    assert!(!format!("{error} {error:?}").contains(&secret));
}

#[test]
fn a_token_survives_a_round_trip() {
    let parsed: JoinToken = token().to_string().parse().unwrap();
    assert_eq!(parsed, token());
    assert_eq!(parsed.secret_digest(), Sha256::of(token().secret()));
}

proptest! {
    #[test]
    fn no_text_panics(text in "(csj1\\.)?[A-Za-z0-9_-]{0,80}") {
        let _ = text.parse::<JoinToken>();
    }

    #[test]
    fn no_json_panics(json in "\\{?[\"a-z:,\\[\\]0-9_]{0,80}\\}?") {
        let _ = format!("{PREFIX}{}", BASE64URL_NOPAD.encode(json.as_bytes())).parse::<JoinToken>();
    }
}
