use proptest::prelude::*;

use super::*;
use crate::x509::CertificateError;
use crate::x509::fixture::Mesh;

fn document(mesh: &Mesh) -> Value {
    serde_json::from_str(&mesh.bundle().to_jwks(None).unwrap()).unwrap()
}

fn parse(mesh: &Mesh, json: &Value) -> Result<BundleDocument, JwksError> {
    BundleDocument::parse(mesh.domain.clone(), json.to_string().as_bytes())
}

/// The roots that are left after `change` was made to the one key of a good document.
#[track_caller]
fn check(change: impl FnOnce(&mut Value), expected: &Result<usize, JwksError>) {
    let mesh = Mesh::new("td");
    let mut json = document(&mesh);
    change(&mut json["keys"][0]);
    let roots = parse(&mesh, &json).map(|document| document.bundle.authorities().len());
    assert_eq!(&roots, expected);
}

#[test]
fn text_that_is_no_key_set_is_refused() {
    let mesh = Mesh::new("td");
    for json in [
        json!({}),
        json!([]),
        json!({"keys": {}}),
        json!({"keys": [7]}),
        json!({"keys": [], "spiffe_sequence": -1}),
        json!({"keys": [], "spiffe_sequence": 1.5}),
        json!({"keys": [], "spiffe_refresh_hint": "300"}),
    ] {
        assert!(
            matches!(parse(&mesh, &json), Err(JwksError::Json { .. })),
            "{json}"
        );
    }
    let twice = br#"{"keys":[],"keys":[]}"#;
    let refusal = BundleDocument::parse(mesh.domain, twice);
    assert!(matches!(refusal, Err(JwksError::Json { .. })));
}

#[test]
fn a_key_that_is_no_proper_certificate_spoils_the_document() {
    check(
        |key| key["x5c"] = json!("text"),
        &Err(JwksError::X5c { index: 0 }),
    );
    check(
        |key| key["x5c"] = json!([7]),
        &Err(JwksError::X5c { index: 0 }),
    );
    check(
        |key| key["x5c"] = json!(["_-"]),
        &Err(JwksError::X5c { index: 0 }),
    );
    let (index, reason) = (0, CertificateError::Malformed);
    check(
        |key| key["x5c"] = json!(["AAAA"]),
        &Err(JwksError::Bundle(BundleError::Root { index, reason })),
    );
}

#[test]
fn requirement_88_unknown_kty_and_use_are_ignored() {
    for (member, value) in [
        ("use", json!("jwt-svid")),
        ("use", json!("X509-SVID")),
        ("kty", json!("OKP")),
        ("kty", json!("ec")),
        ("use", Value::Null),
        ("kty", Value::Null),
    ] {
        check(|key| key[member] = value, &Ok(0));
    }
}

#[test]
fn requirement_56_a_key_without_x5c_is_ignored() {
    check(
        |key| drop(key.as_object_mut().unwrap().remove("x5c")),
        &Ok(0),
    );
    check(|key| key["x5c"] = json!([]), &Ok(0));
}

#[test]
fn requirement_57_only_the_first_x5c_value_is_used() {
    check(
        |key| {
            key["x5c"]
                .as_array_mut()
                .unwrap()
                .push(json!("no certificate"))
        },
        &Ok(1),
    );
}

#[test]
fn requirement_89_an_empty_set_is_a_bundle_without_roots() {
    let mesh = Mesh::new("td");
    let document = parse(&mesh, &json!({"keys": []})).unwrap();
    assert_eq!(document.bundle.authorities(), []);
    assert_eq!((document.sequence, document.refresh_hint), (None, None));
}

#[test]
fn requirement_81_unknown_members_are_no_hindrance() {
    let mesh = Mesh::new("td");
    let mut json = document(&mesh);
    json["new_parameter"] = json!({"a": 1});
    json["keys"][0]["kid"] = json!("1");
    assert_eq!(parse(&mesh, &json).unwrap().bundle, mesh.bundle());
}

#[test]
fn requirements_52_53_54_what_is_written_has_the_prescribed_members() {
    let mesh = Mesh::new("td");
    let json = document(&mesh);
    let key = json["keys"][0].as_object().unwrap();
    let members: Vec<_> = key.keys().map(String::as_str).collect();
    assert_eq!(members, ["crv", "kty", "use", "x", "x5c", "y"]);
    assert_eq!(
        (&key["use"], &key["kty"]),
        (&json!("x509-svid"), &json!("EC"))
    );
    assert_eq!(key["x5c"], json!([BASE64.encode(mesh.root.certificate())]));
}

#[test]
fn sequence_and_hint_survive_a_round_trip_in_64_bits() {
    let mesh = Mesh::new("td");
    let root = mesh.root.certificate().to_vec();
    let bundle = Bundle::new(mesh.domain.clone(), u64::MAX, vec![root]).unwrap();
    let hint = Some(Duration::from_secs(300));
    let json = bundle.to_jwks(hint).unwrap();
    let document = BundleDocument::parse(mesh.domain, json.as_bytes()).unwrap();
    assert_eq!((document.bundle, document.refresh_hint), (bundle, hint));
    assert_eq!(document.sequence, Some(u64::MAX));
}

proptest! {
    #[test]
    fn no_text_panics(text in "[\\[\\]{}\":,a-z0-9_-]{0,80}") {
        let _ = BundleDocument::parse("td".parse().unwrap(), text.as_bytes());
    }
}
