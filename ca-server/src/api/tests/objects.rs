//! Claims about configuration objects over REST: refusals, preconditions, changesets.

use super::*;

const ORDERS: &str = "/v1/workloads/shop/orders";
const YAML: &str = "application/yaml";

#[tokio::test]
async fn a_body_that_is_not_json_is_refused() {
    let api = TestApi::start().await;
    let headers = [(header::CONTENT_TYPE, "application/json")];
    let answer = api
        .with_headers(Method::PUT, ORDERS, &headers, "{".to_owned())
        .await;
    answer.problem(StatusCode::BAD_REQUEST, "syntax");
}

#[tokio::test]
async fn a_body_of_another_type_is_refused() {
    let api = TestApi::start().await;
    for headers in [&[(header::CONTENT_TYPE, "text/plain")][..], &[]] {
        let answer = api
            .with_headers(Method::PUT, ORDERS, headers, "{}".to_owned())
            .await;
        answer.problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type");
    }
}

#[tokio::test]
async fn a_body_above_one_mebibyte_is_refused() {
    let api = TestApi::start().await;
    let headers = [(header::CONTENT_TYPE, "application/json")];
    let body = format!("\"{}\"", "x".repeat(1024 * 1024));
    let answer = api.with_headers(Method::PUT, ORDERS, &headers, body).await;
    answer.problem(StatusCode::PAYLOAD_TOO_LARGE, "too-large");
}

#[tokio::test]
async fn an_unknown_field_is_refused_at_its_place_with_the_nearest_one() {
    let api = TestApi::start().await;
    let mut body = workload("orders");
    body["spec"]["selector"] = json!({});
    let problem = api
        .put(ORDERS, body)
        .await
        .problem(StatusCode::UNPROCESSABLE_ENTITY, "unknown-field");
    assert_eq!(problem["pointer"], "/spec/selector");
    assert_eq!(problem["suggestion"], "selectors");
}

#[tokio::test]
async fn another_name_in_the_body_than_in_the_path_is_refused() {
    let api = TestApi::start().await;
    let answer = api.put(ORDERS, workload("checkout")).await;
    let problem = answer.problem(StatusCode::UNPROCESSABLE_ENTITY, "name-mismatch");
    assert_eq!(problem["pointer"], "/metadata/name");
    let answer = api
        .put("/v1/services/shop/orders", workload("orders"))
        .await;
    let problem = answer.problem(StatusCode::UNPROCESSABLE_ENTITY, "name-mismatch");
    assert_eq!(problem["pointer"], "/kind");
}

#[tokio::test]
async fn an_invalid_name_in_the_path_is_refused() {
    let api = TestApi::start().await;
    let answer = api.get("/v1/workloads/Shop/orders").await;
    answer.problem(StatusCode::BAD_REQUEST, "invalid-value");
}

#[tokio::test]
async fn a_whole_that_breaks_a_rule_is_refused_with_its_place() {
    let api = TestApi::start().await;
    let answer = api.put("/v1/services/shop/orders", service()).await;
    let problem = answer.problem(StatusCode::UNPROCESSABLE_ENTITY, "unknown-workload");
    assert_eq!(problem["pointer"], "/spec/workloads/0");
    assert_eq!(problem["errors"][0]["object"], "Service shop/orders");
    api.get("/v1/services/shop/orders")
        .await
        .problem(StatusCode::NOT_FOUND, "not-found");
}

#[tokio::test]
async fn deleting_what_others_name_is_a_conflict() {
    let api = TestApi::start().await.shop().await;
    api.delete(ORDERS)
        .await
        .problem(StatusCode::CONFLICT, "unknown-workload");
    api.get(ORDERS).await.is(StatusCode::OK);
}

#[tokio::test]
async fn a_stale_if_match_is_refused() {
    let api = TestApi::start().await;
    let created = api.put(ORDERS, workload("orders")).await;
    let mut changed = workload("orders");
    changed["spec"]["hint"] = json!("orders");
    api.put(ORDERS, changed.clone()).await.is(StatusCode::OK);
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::IF_MATCH, created.etag()),
    ];
    let body = workload("orders").to_string();
    let answer = api.with_headers(Method::PUT, ORDERS, &headers, body).await;
    answer.problem(StatusCode::PRECONDITION_FAILED, "precondition-failed");
    let answer = api
        .with_headers(Method::DELETE, ORDERS, &headers[1..], String::new())
        .await;
    answer.problem(StatusCode::PRECONDITION_FAILED, "precondition-failed");
    assert_eq!(api.get(ORDERS).await.json()["spec"]["hint"], "orders");
}

#[tokio::test]
async fn a_stale_revision_in_the_body_is_refused() {
    let api = TestApi::start().await;
    let stale = api.put(ORDERS, workload("orders")).await.json();
    let mut changed = workload("orders");
    changed["spec"]["hint"] = json!("orders");
    let read = api.put(ORDERS, changed).await.json();
    let answer = api.put(ORDERS, stale).await;
    answer.problem(StatusCode::PRECONDITION_FAILED, "precondition-failed");
    api.put(ORDERS, read).await.is(StatusCode::OK);
}

#[tokio::test]
async fn create_only_refuses_what_exists() {
    let api = TestApi::start().await;
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::IF_NONE_MATCH, "*"),
    ];
    let create = || {
        api.with_headers(
            Method::PUT,
            ORDERS,
            &headers,
            workload("orders").to_string(),
        )
    };
    create().await.is(StatusCode::CREATED);
    create()
        .await
        .problem(StatusCode::PRECONDITION_FAILED, "precondition-failed");
}

#[tokio::test]
async fn deleting_what_is_not_there_is_not_found() {
    let api = TestApi::start().await;
    api.delete(ORDERS)
        .await
        .problem(StatusCode::NOT_FOUND, "not-found");
}

#[tokio::test]
async fn an_object_is_created_read_updated_and_deleted() {
    let api = TestApi::start().await;
    let created = api.put(ORDERS, workload("orders")).await;
    created.is(StatusCode::CREATED);
    let unchanged = api.put(ORDERS, workload("orders")).await;
    assert_eq!(unchanged.is(StatusCode::OK).etag(), created.etag());
    let read = api.get(ORDERS).await;
    assert_eq!(read.is(StatusCode::OK).etag(), created.etag());
    assert_eq!(
        format!("\"{}\"", read.json()["revision"].as_str().unwrap()),
        created.etag()
    );
    let known = [(header::IF_NONE_MATCH, created.etag())];
    let same = api
        .with_headers(Method::GET, ORDERS, &known, String::new())
        .await;
    same.is(StatusCode::NOT_MODIFIED);
    let delete = [(header::IF_MATCH, created.etag())];
    let deleted = api
        .with_headers(Method::DELETE, ORDERS, &delete, String::new())
        .await;
    deleted.is(StatusCode::NO_CONTENT);
    api.get(ORDERS)
        .await
        .problem(StatusCode::NOT_FOUND, "not-found");
}

#[tokio::test]
async fn a_list_is_bounded_and_goes_on_where_it_stopped() {
    let api = TestApi::start().await.shop().await;
    let first = api.get("/v1/workloads?namespace=shop&limit=1").await.json();
    assert_eq!(first["items"][0]["metadata"]["name"], "checkout");
    let next = first["next"].as_str().unwrap();
    let second = api
        .get(&format!("/v1/workloads?limit=1&after={next}"))
        .await
        .json();
    assert_eq!(second["items"][0]["metadata"]["name"], "orders");
    assert!(second.get("next").is_none());
    let none = api.get("/v1/workloads?namespace=data").await.json();
    assert_eq!(none["items"], json!([]));
    api.get("/v1/workloads?limit=0")
        .await
        .problem(StatusCode::BAD_REQUEST, "bad-query");
    api.get("/v1/workloads?colour=red")
        .await
        .problem(StatusCode::BAD_REQUEST, "bad-query");
}

#[tokio::test]
async fn a_yaml_object_is_taken() {
    let api = TestApi::start().await;
    let yaml = "apiVersion: countersign.dev/v1\nkind: Baseline\nmetadata: {name: org}\n\
                spec: {scope: {mesh: true}, deny: [{id: q, from: [{namespace: legacy}]}]}\n";
    let headers = [(header::CONTENT_TYPE, YAML)];
    let path = "/v1/baselines/org";
    api.with_headers(Method::PUT, path, &headers, yaml.to_owned())
        .await
        .is(StatusCode::CREATED);
    let two = format!("{yaml}---\n{}", yaml.replace("org", "two"));
    let answer = api.with_headers(Method::PUT, path, &headers, two).await;
    answer.problem(StatusCode::UNPROCESSABLE_ENTITY, "one-object");
}

#[tokio::test]
async fn one_wrong_object_keeps_a_changeset_out() {
    let api = TestApi::start().await;
    let mut wrong = workload("checkout");
    wrong["spec"]["selectors"] = json!(7);
    let body = json!({"apply": [workload("orders"), wrong]});
    let answer = api.post("/v1/changesets", body).await;
    let problem = answer.problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid-value");
    assert_eq!(problem["pointer"], "/apply/1/spec/selectors");
    let list = api.get("/v1/workloads").await.json();
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn a_misspelt_field_of_a_changeset_is_refused() {
    let api = TestApi::start().await;
    let answer = api.post("/v1/changesets", json!({"dryrun": true})).await;
    let problem = answer.problem(StatusCode::UNPROCESSABLE_ENTITY, "unknown-field");
    assert_eq!(
        (&problem["pointer"], &problem["suggestion"]),
        (&json!("/dryrun"), &json!("dryRun"))
    );
    let body = json!({"delete": [{"kind": "Workload", "namespace": 7, "name": "x"}]});
    let problem = api.post("/v1/changesets", body).await;
    let problem = problem.problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid-value");
    assert_eq!(problem["pointer"], "/delete/0/namespace");
}

#[tokio::test]
async fn a_changeset_tells_what_became_of_each_object() {
    let api = TestApi::start().await.shop().await;
    let delete = json!([{"kind": "Policy", "namespace": "shop", "name": "orders-api"}]);
    let apply = json!([workload("orders"), workload("new")]);
    let body = json!({"reason": "tidy", "apply": apply, "delete": delete, "dryRun": true});
    let dry = api.post("/v1/changesets", body.clone()).await.json();
    assert_eq!(
        (&dry["changed"], &dry["revision"]),
        (&json!(true), &revision(&api))
    );
    let mut body = body;
    body["dryRun"] = json!(false);
    let answer = api.post("/v1/changesets", body).await.json();
    let outcomes: Vec<_> = answer["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|object| &object["outcome"])
        .collect();
    assert_eq!(outcomes, ["unchanged", "created", "deleted"]);
    assert_eq!(answer["revision"], revision(&api));
    let written = api.get("/v1/revisions?limit=1").await.json();
    assert_eq!(written["items"][0]["reason"], "tidy");
    assert_eq!(written["items"][0]["author"], "admin/test");
}

#[tokio::test]
async fn a_yaml_changeset_is_its_objects() {
    let api = TestApi::start().await;
    let documents = [workload("orders"), service()]
        .map(|object| object.to_string())
        .join("\n---\n");
    let headers = [(header::CONTENT_TYPE, YAML)];
    let path = "/v1/changesets?reason=first";
    let answer = api
        .with_headers(Method::POST, path, &headers, documents)
        .await;
    assert_eq!(
        answer.is(StatusCode::OK).json()["objects"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

fn revision(api: &TestApi) -> Value {
    json!(api.parts.registry.snapshot().revision().to_string())
}

#[tokio::test]
async fn a_service_has_addresses_that_stay_and_what_was_read_can_be_written() {
    let api = TestApi::start().await;
    api.put(ORDERS, workload("orders"))
        .await
        .is(StatusCode::CREATED);
    let path = "/v1/services/shop/orders";
    let created = api
        .put(path, service())
        .await
        .is(StatusCode::CREATED)
        .json();
    let mut read = api.get(path).await.json();
    assert_eq!(created["status"], read["status"]);
    assert_eq!(read["status"]["addresses"][0], "240.0.0.1");
    assert!(
        read["status"]["addresses"][1]
            .as_str()
            .unwrap()
            .starts_with("fd")
    );

    read["spec"]["ports"][0]["app"] = json!(8081);
    let written = api.put(path, read.clone()).await.is(StatusCode::OK).json();

    assert_eq!(written["status"], read["status"]);
}
