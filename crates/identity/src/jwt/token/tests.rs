use crypto::signing::SigningKey;
use proptest::prelude::*;
use serde_json::json;
use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);
const ISSUER: &str = "https://issuer.example";

/// An issuer with one key.
struct TestIssuer(SigningKey);

impl TestIssuer {
    fn new() -> Self {
        Self(SigningKey::generate())
    }

    fn keys(&self) -> KeySet {
        let spki = self.0.public_key().spki();
        let (x, y) = spki[spki.len() - 64..].split_at(32);
        let coordinate = |bytes| BASE64URL_NOPAD.encode(bytes);
        let key = json!({
            "kty": "EC", "crv": "P-256", "kid": "k1", "x": coordinate(x), "y": coordinate(y),
        });
        KeySet::from_json(json!({ "keys": [key] }).to_string().as_bytes()).unwrap()
    }

    fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({"alg": "ES256", "kid": "k1"}), claims)
    }

    fn token_with(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = raw(&self.0.sign(signed.as_bytes()));
        format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
    }

    fn judge(&self, claims: &Value) -> Result<VerifiedJwt, JwtError> {
        judge(&self.token(claims), &self.keys())
    }
}

fn judge(token: &str, keys: &KeySet) -> Result<VerifiedJwt, JwtError> {
    let expected = Expectations {
        issuer: ISSUER,
        audience: "countersign",
        algorithms: &[JwsAlgorithm::Es256],
    };
    UnverifiedJwt::parse(token)?.verify(keys, expected, NOW)
}

/// JWS wants `r` and `s` side by side, not as DER.
fn raw(der: &[u8]) -> Vec<u8> {
    let (r, rest) = der[4..].split_at(usize::from(der[3]));
    let padded = |integer: &[u8]| {
        let digits: Vec<u8> = integer
            .iter()
            .copied()
            .skip_while(|byte| *byte == 0)
            .collect();
        [vec![0; 32 - digits.len()], digits].concat()
    };
    [padded(r), padded(&rest[2..])].concat()
}

/// Good claims, with `changes` made to them; `null` removes one.
fn claims(changes: &Value) -> Value {
    let now = NOW.unix_timestamp();
    let mut claims = json!({
        "iss": ISSUER, "aud": ["other", "countersign"], "sub": "job-7",
        "exp": now + 600, "nbf": now - 10, "iat": now - 10,
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
        .as_object_mut()
        .unwrap()
        .retain(|_, value| !value.is_null());
    claims
}

#[track_caller]
fn refused(changes: &Value, expected: &JwtError) {
    let judged = TestIssuer::new().judge(&claims(changes));
    assert_eq!(judged.err().as_ref(), Some(expected), "{changes}");
}

fn at(seconds: i64) -> OffsetDateTime {
    NOW + Duration::seconds(seconds)
}

#[test]
fn a_token_of_another_issuer_is_refused() {
    refused(&json!({"iss": "https://other.example"}), &JwtError::Issuer);
    refused(&json!({"iss": null}), &JwtError::Issuer);
}

#[test]
fn a_token_for_somebody_else_is_refused() {
    let expected = JwtError::Audience("countersign".to_owned());
    for audience in [
        json!("vault"),
        json!([]),
        json!({"aud": "countersign"}),
        json!(null),
    ] {
        refused(&json!({ "aud": audience }), &expected);
    }
}

#[test]
fn a_token_without_an_end_is_refused() {
    refused(&json!({"exp": null}), &JwtError::Time("exp"));
    for no_time in [json!("soon"), json!(-1), json!(1e300), json!(true)] {
        refused(&json!({ "exp": no_time }), &JwtError::Time("exp"));
    }
}

#[test]
fn a_token_is_over_a_minute_after_its_end_and_not_before() {
    let ended = NOW.unix_timestamp() - 60;
    refused(&json!({"exp": ended}), &JwtError::Expired { at: at(-60) });
    let judged = TestIssuer::new().judge(&claims(&json!({"exp": ended + 1})));
    assert_eq!(judged.unwrap().expires_at(), at(-59));
}

#[test]
fn a_token_that_is_good_for_more_than_a_day_is_refused() {
    let day = 24 * 60 * 60;
    let exp = NOW.unix_timestamp() + day + 61;
    refused(
        &json!({"exp": exp}),
        &JwtError::TooLong { at: at(day + 61) },
    );
}

#[test]
fn a_token_from_the_future_is_refused() {
    for claim in ["nbf", "iat"] {
        let later = NOW.unix_timestamp() + 61;
        refused(
            &json!({claim: later}),
            &JwtError::NotYetValid { at: at(61) },
        );
    }
}

#[test]
fn a_token_of_another_key_is_refused() {
    let token = TestIssuer::new().token(&claims(&json!({})));
    let judged = judge(&token, &TestIssuer::new().keys());
    assert_eq!(judged.err(), Some(JwtError::Signature));
}

#[test]
fn a_key_that_the_issuer_does_not_have_is_told_apart() {
    let issuer = TestIssuer::new();
    let header = json!({"alg": "ES256", "kid": "k2"});
    let token = issuer.token_with(&header, &claims(&json!({})));
    let judged = judge(&token, &issuer.keys());
    assert_eq!(judged.err(), Some(JwtError::UnknownKey));
}

#[test]
fn headers_that_would_change_the_judgement_are_refused() {
    let issuer = TestIssuer::new();
    let judged = |header: Value| {
        let token = issuer.token_with(&header, &claims(&json!({})));
        judge(&token, &issuer.keys()).err()
    };
    for alg in ["none", "HS256", "es256"] {
        assert_eq!(
            judged(json!({ "alg": alg })),
            Some(JwtError::UnknownAlgorithm)
        );
    }
    let not_allowed = JwtError::AlgorithmNotAllowed(JwsAlgorithm::Rs256);
    assert_eq!(judged(json!({"alg": "RS256"})), Some(not_allowed));
    for header in [
        json!({}),
        json!({"alg": "ES256", "crit": ["b64"], "b64": false}),
        json!({"alg": "ES256", "typ": "secevent+jwt"}),
        json!({"alg": "ES256", "kid": 7}),
    ] {
        assert!(matches!(judged(header), Some(JwtError::Malformed(_))));
    }
}

#[test]
fn a_token_without_its_signature_is_refused() {
    let issuer = TestIssuer::new();
    let token = issuer.token(&claims(&json!({})));
    let (signed, _) = token.rsplit_once('.').unwrap();
    let judged = judge(&format!("{signed}."), &issuer.keys());
    assert_eq!(judged.err(), Some(JwtError::Signature));
    let judged = judge(signed, &issuer.keys());
    assert!(matches!(judged, Err(JwtError::Malformed(_))));
}

#[test]
fn another_encoding_of_the_same_bytes_is_refused() {
    let issuer = TestIssuer::new();
    let token = issuer.token(&claims(&json!({})));
    assert!(matches!(
        judge(&format!("{token}="), &issuer.keys()),
        Err(JwtError::Malformed(_))
    ));
}

#[test]
fn claims_are_found_by_pointer() {
    let more = json!({"kubernetes.io": {"pod": {"name": "web-7"}}, "a/b": "slash"});
    let jwt = TestIssuer::new().judge(&claims(&more)).unwrap();
    let claim = |pointer| jwt.claim(pointer).and_then(Value::as_str);
    assert_eq!(claim("/kubernetes.io/pod/uid"), None);
    assert_eq!(claim("sub"), None);
    assert_eq!(claim("/kubernetes.io/pod/name"), Some("web-7"));
    assert_eq!(claim("/a~1b"), Some("slash"));
}

#[test]
fn the_digest_is_of_what_is_signed() {
    let issuer = TestIssuer::new();
    let token = issuer.token(&claims(&json!({})));
    let again = issuer.token(&claims(&json!({})));
    let digest = |token: &str| judge(token, &issuer.keys()).unwrap().digest();
    assert_eq!(digest(&token), digest(&again));
    let other = issuer.token(&claims(&json!({"jti": "2"})));
    assert_ne!(digest(&token), digest(&other));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn no_text_makes_the_parser_panic(text in "[A-Za-z0-9_.=-]{0,200}|.{0,64}") {
        let _ = UnverifiedJwt::parse(&text);
    }

    #[test]
    fn a_token_with_one_byte_changed_is_refused(place: prop::sample::Index, byte in b'0'..b'z') {
        let issuer = TestIssuer::new();
        let mut token = issuer.token(&claims(&json!({}))).into_bytes();
        let place = place.index(token.len());
        prop_assume!(token[place] != byte);
        token[place] = byte;
        let token = String::from_utf8(token).unwrap();
        prop_assert!(judge(&token, &issuer.keys()).is_err());
    }
}
