//! Claims on what instances below this one may ask for, and on who admits them.

use crypto::signing::SigningKey;
use data_encoding::BASE64;
use identity::x509::authority_request;

use super::*;

const PATH: &str = "/v1/downstreams";
const AUTHORITY: &str = "/v1/downstream/authority";
const BUNDLE: &str = "/v1/downstream/bundle";
const FOLLOWED: &str = "/v1/downstream/followed";

impl TestApi {
    async fn admit(&self, name: &str) -> String {
        let created = self.post(PATH, json!({ "name": name })).await;
        let created = created.is(StatusCode::CREATED).json();
        created["secret"].as_str().unwrap().to_owned()
    }

    /// As an instance with this secret.
    async fn ask(&self, secret: &str, method: Method, path: &str, body: Value) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {secret}"));
        let body = Body::from(body.to_string());
        self.send(request.body(body).unwrap()).await
    }

    async fn revoke_authority(&self, key: &SigningKey) {
        let subject = key.public_key().fingerprint().to_string();
        let request = json!({"kind": "authority", "subject": subject, "reason": "stolen"});
        let answer = self.post("/v1/revocations", request).await;
        assert!(answer.status.is_success(), "{}", answer.status);
    }

    /// What an instance with this secret is told of authorities that are revoked.
    async fn told_of_revoked(&self, secret: &str) -> Value {
        let bundle = self.ask(secret, Method::GET, BUNDLE, Value::Null).await;
        bundle.is(StatusCode::OK).json()["revokedAuthorities"].clone()
    }

    async fn sign(&self, secret: &str, key: &SigningKey) -> Answer {
        let csr = authority_request(self.store.store.trust_domain(), key).unwrap();
        let request = json!({ "csr": BASE64.encode(&csr) });
        self.ask(secret, Method::POST, AUTHORITY, request).await
    }
}

#[tokio::test]
async fn a_name_that_cannot_stand_in_a_certificate_is_refused() {
    let api = TestApi::start().await;
    for name in ["", "a/b", "a b", &"a".repeat(65)] {
        let answer = api.post(PATH, json!({ "name": name })).await;
        let problem = answer.problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid-value");
        assert_eq!(problem["pointer"], "/name");
    }
}

#[tokio::test]
async fn of_one_name_there_is_one() {
    let api = TestApi::start().await;
    api.admit("eu").await;
    let answer = api.post(PATH, json!({ "name": "eu" })).await;
    answer.problem(StatusCode::CONFLICT, "downstream-exists");
}

#[tokio::test]
async fn neither_kind_of_secret_opens_what_is_the_others() {
    let api = TestApi::start().await;
    let secret = api.admit("eu").await;
    let answer = api.ask(&secret, Method::GET, PATH, Value::Null).await;
    answer.is(StatusCode::UNAUTHORIZED);
    api.get(BUNDLE).await.is(StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn who_was_dismissed_has_nothing_more() {
    let api = TestApi::start().await;
    let secret = api.admit("eu").await;
    api.delete("/v1/downstreams/us")
        .await
        .is(StatusCode::NOT_FOUND);
    api.delete("/v1/downstreams/eu")
        .await
        .is(StatusCode::NO_CONTENT);
    let answer = api.ask(&secret, Method::GET, BUNDLE, Value::Null).await;
    answer.is(StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn what_is_no_request_for_an_authority_is_not_signed() {
    let api = TestApi::start().await;
    let secret = api.admit("eu").await;
    for csr in ["", "?", &BASE64.encode(b"nothing")] {
        let answer = api.ask(&secret, Method::POST, AUTHORITY, json!({ "csr": csr }));
        let answer = answer.await;
        let problem = answer.problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid-value");
        assert_eq!(problem["pointer"], "/csr");
    }
}

#[tokio::test]
async fn a_key_has_one_authority_however_often_it_is_asked_for() {
    let api = TestApi::start().await;
    let (secret, key) = (api.admit("eu").await, SigningKey::generate());
    let first = api.sign(&secret, &key).await.is(StatusCode::OK).json();
    let again = api.sign(&secret, &key).await.is(StatusCode::OK).json();
    assert_eq!(first, again);
    let list = api.get(PATH).await.is(StatusCode::OK).json();
    let authorities = list["items"][0]["authorities"].as_array().unwrap();
    assert_eq!(authorities.len(), 1);
    let fingerprint = key.public_key().fingerprint().to_string();
    assert_eq!(authorities[0]["keyId"], fingerprint);
}

#[tokio::test]
async fn an_instance_has_no_more_authorities_than_it_can_need() {
    let api = TestApi::start().await;
    let secret = api.admit("eu").await;
    let last = SigningKey::generate();
    api.sign(&secret, &last).await.is(StatusCode::OK);
    for _ in 1..32 {
        api.sign(&secret, &SigningKey::generate())
            .await
            .is(StatusCode::OK);
    }
    let answer = api.sign(&secret, &SigningKey::generate()).await;
    answer.problem(StatusCode::TOO_MANY_REQUESTS, "too-many-authorities");
    api.sign(&secret, &last).await.is(StatusCode::OK);
}

#[tokio::test]
async fn a_bundle_that_never_was_is_followed_by_nobody() {
    let api = TestApi::start().await;
    let secret = api.admit("eu").await;
    let followed = json!({ "sequence": 2 });
    let answer = api.ask(&secret, Method::PUT, FOLLOWED, followed).await;
    answer.problem(StatusCode::UNPROCESSABLE_ENTITY, "unknown-bundle");
    let bundle = api.ask(&secret, Method::GET, BUNDLE, Value::Null).await;
    assert_eq!(bundle.is(StatusCode::OK).json()["sequence"], 1);
    let followed = json!({ "sequence": 1 });
    let answer = api.ask(&secret, Method::PUT, FOLLOWED, followed).await;
    answer.is(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn an_authority_below_is_revoked_by_its_key() {
    let api = TestApi::start().await;
    let (secret, key) = (api.admit("eu").await, SigningKey::generate());
    api.sign(&secret, &key).await.is(StatusCode::OK);
    api.revoke_authority(&key).await;
    let subject = key.public_key().fingerprint().to_string();
    let list = api.get("/v1/revocations").await.is(StatusCode::OK).json();
    assert_eq!(list["items"][0]["subject"], subject);
    let list = api.get(PATH).await.is(StatusCode::OK).json();
    assert_eq!(list["items"][0]["authorities"][0]["revoked"], true);
}

#[tokio::test]
async fn a_revoked_authority_is_not_handed_out_again() {
    let api = TestApi::start().await;
    let (secret, key) = (api.admit("eu").await, SigningKey::generate());
    api.sign(&secret, &key).await.is(StatusCode::OK);
    api.revoke_authority(&key).await;
    let answer = api.sign(&secret, &key).await;
    answer.problem(StatusCode::CONFLICT, "authority-revoked");
    let next = SigningKey::generate();
    api.sign(&secret, &next).await.is(StatusCode::OK);
}

#[tokio::test]
async fn a_downstream_is_not_told_of_the_authorities_of_another() {
    let api = TestApi::start().await;
    let (eu, us) = (api.admit("eu").await, api.admit("us").await);
    let (key, good) = (SigningKey::generate(), SigningKey::generate());
    api.sign(&eu, &key).await.is(StatusCode::OK);
    api.sign(&eu, &good).await.is(StatusCode::OK);
    api.sign(&us, &SigningKey::generate())
        .await
        .is(StatusCode::OK);
    api.revoke_authority(&key).await;
    assert_eq!(api.told_of_revoked(&us).await, json!([]));
    let told = api.told_of_revoked(&eu).await;
    let fingerprint = key.public_key().fingerprint().to_string();
    assert_eq!(told.as_array().unwrap().len(), 1);
    assert_eq!(told[0]["keyId"], fingerprint);
}
