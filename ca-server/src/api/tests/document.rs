//! Claims about the OpenAPI document: it names every route, and every route that it names answers.

use std::collections::BTreeSet;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::api::schema::AnyObject;

const HOW_TO_WRITE: &str = "if this is meant: tests/interop/run --write-openapi";
const METHODS: [&str; 4] = ["get", "put", "post", "delete"];

/// Every documented operation: method, path with placeholders filled, whether it is public.
fn operations(document: &Value) -> Vec<(Method, String, bool)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in METHODS {
            let Some(operation) = item.get(method) else {
                continue;
            };
            let public = operation["security"] == json!([{}]);
            let path = path
                .replace("{revision}", "00000001-1")
                .replace(['{', '}'], "");
            found.push((method.to_uppercase().parse().unwrap(), path, public));
        }
    }
    found
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str().filter(|_| name == "$ref") {
                    Some(reference) => drop(found.insert(reference.to_owned())),
                    None => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn nothing_but_what_is_public_answers_without_a_credential() {
    let api = TestApi::start().await;
    let document = api.get("/openapi.json").await.json();
    let operations = operations(&document);
    assert!(operations.len() > 25);
    let public: Vec<_> = operations.iter().filter(|(_, _, public)| *public).collect();
    assert_eq!(public.len(), 4, "{public:?}");
    for (method, path, public) in operations {
        let request = Request::builder()
            .method(&method)
            .uri(&path)
            .body(Body::empty())
            .unwrap();
        let answer = api.send(request).await;
        if public {
            answer.is(StatusCode::OK);
        } else {
            answer.problem(StatusCode::UNAUTHORIZED, "unauthorized");
            assert!(answer.headers.contains_key(header::WWW_AUTHENTICATE));
        }
    }
}

#[tokio::test]
async fn every_documented_operation_is_served() {
    let api = TestApi::start().await;
    let document = api.get("/openapi.json").await.json();
    for (method, path, _) in operations(&document) {
        let answer = api.call(method.clone(), &path, None).await;
        assert_ne!(
            answer.status,
            StatusCode::METHOD_NOT_ALLOWED,
            "{method} {path}"
        );
        assert_ne!(
            answer.status,
            StatusCode::INTERNAL_SERVER_ERROR,
            "{method} {path}"
        );
        if answer.status == StatusCode::NOT_FOUND {
            let detail = answer.json()["detail"].to_string();
            assert!(!detail.contains("no path"), "{method} {path}: {detail}");
        }
    }
}

#[tokio::test]
async fn the_document_is_the_one_in_docs() {
    let api = TestApi::start().await;
    let served = api.get("/openapi.json").await.json();
    let published: Value =
        serde_json::from_str(include_str!("../../../../docs/openapi.json")).unwrap();
    for section in ["paths", "components"] {
        for (name, value) in served[section].as_object().unwrap() {
            let same = published[section].get(name) == Some(value);
            assert!(same, "{section} {name}: {HOW_TO_WRITE}");
        }
    }
    assert!(served == published, "{HOW_TO_WRITE}");
}

#[tokio::test]
async fn the_document_is_openapi_3_1_and_describes_every_body_and_error() {
    let api = TestApi::start().await;
    let document = api.get("/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.contains("#/components/schemas/Problem"));
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in METHODS.iter().filter_map(|method| item.get(*method)) {
            assert!(method["responses"]["default"].is_object(), "{path}");
        }
    }
}

#[test]
fn the_described_objects_are_those_that_the_parser_writes() {
    let traffic = [busy_service(), route(), gateway(), external()];
    let all = [workload("orders"), service(), policy(), baseline()].into_iter();
    for object in all.chain(traffic) {
        let written = ::policy::parse_json(&object).unwrap().to_json();
        let described: AnyObject = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(serde_json::to_value(&described).unwrap(), written);
    }
}

#[tokio::test]
async fn a_wrong_or_doubled_or_malformed_credential_is_refused() {
    let api = TestApi::start().await;
    let wrong = SECRET.replace("AAAA", "BBBB");
    for values in [
        vec![format!("Bearer {wrong}")],
        vec![format!("Basic {SECRET}")],
        vec!["Bearer".to_owned()],
        vec![format!("Bearer {SECRET}"), format!("Bearer {SECRET}")],
    ] {
        let mut request = Request::builder().uri("/v1/about");
        for value in &values {
            request = request.header(header::AUTHORIZATION, value);
        }
        let answer = api.send(request.body(Body::empty()).unwrap()).await;
        answer.problem(StatusCode::UNAUTHORIZED, "unauthorized");
        assert!(!String::from_utf8_lossy(&answer.body).contains("csa1_"));
    }
}

#[tokio::test]
async fn every_answer_has_the_security_headers() {
    let api = TestApi::start().await;
    for path in ["/healthz", "/v1/about", "/nowhere"] {
        let answer = api.get(path).await;
        assert_eq!(
            answer.headers["x-content-type-options"], "nosniff",
            "{path}"
        );
        assert_eq!(answer.headers["cache-control"], "no-store", "{path}");
    }
}

#[tokio::test]
async fn an_unknown_path_and_a_wrong_method_are_problems() {
    let api = TestApi::start().await;
    api.get("/v1/nowhere")
        .await
        .problem(StatusCode::NOT_FOUND, "not-found");
    let answer = api.call(Method::PATCH, "/v1/workloads", None).await;
    answer.problem(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed");
    let answer = api.call(Method::POST, "/healthz", None).await;
    answer.problem(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed");
}

#[tokio::test]
async fn the_interface_answers_on_a_real_socket() {
    let api = TestApi::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    let router = api.router.clone();
    tasks.spawn(async move { axum::serve(listener, router).await });
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = "GET /readyz HTTP/1.1\r\nHost: ca\r\nConnection: close\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("{\"status\":\"ok\"}"), "{answer}");
}
