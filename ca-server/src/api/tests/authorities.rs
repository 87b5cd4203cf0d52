//! Claims on the authorities' part of the interface.

use super::*;

async fn rotate(api: &TestApi, request: Value) -> Answer {
    let path = "/v1/authorities/rotation";
    api.call(Method::POST, path, Some(request)).await
}

#[tokio::test]
async fn what_goes_with_a_compromise_is_refused_without_one() {
    let api = TestApi::start().await;
    let answer = rotate(&api, json!({"within": "5m"})).await;
    let problem = answer.problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid-value");
    assert_eq!(problem["pointer"], "/within");
}

#[tokio::test]
async fn an_authority_that_never_was_cannot_be_compromised() {
    let api = TestApi::start().await;
    let request = json!({"compromised": true, "generation": 7});
    let answer = rotate(&api, request).await;
    answer.problem(StatusCode::UNPROCESSABLE_ENTITY, "unknown-authority");
}

#[tokio::test]
async fn a_second_rotation_is_refused_while_one_is_under_way() {
    let api = TestApi::start().await;
    let begun = rotate(&api, json!({})).await;
    let begun = begun.is(StatusCode::ACCEPTED).json();
    assert_eq!(begun["items"][1]["phase"], "published");
    let again = rotate(&api, json!({})).await;
    again.problem(StatusCode::CONFLICT, "rotation-in-progress");
}

#[tokio::test]
async fn an_answer_names_the_published_roots() {
    let api = TestApi::start().await;
    let list = api.get("/v1/authorities").await;
    let root = &list.json()["items"][0];
    assert_eq!(root["phase"], "active");
    assert_eq!(
        root["sha256"],
        list.headers["countersign-roots"].to_str().unwrap()
    );
}
