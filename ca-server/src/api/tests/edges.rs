//! Claims about explaining what enters the mesh and what leaves it.

use super::*;

/// A Gateway and an External beside the shop.
async fn edges() -> TestApi {
    let api = TestApi::start().await.shop().await;
    let gateway = json!({
        "apiVersion": "countersign.dev/v1",
        "kind": "Gateway",
        "metadata": {"namespace": "shop", "name": "public"},
        "spec": {"workloads": ["shop/checkout"], "listeners": [{
            "name": "web", "port": 443, "hosts": ["shop.example"],
            "tls": {"certificateFile": "/tls/shop.pem", "keyFile": "/tls/shop.key"},
            "routes": [{"path": "/v1/{rest=**}", "service": "shop/orders", "port": "http"}],
        }]},
    });
    let external = json!({
        "apiVersion": "countersign.dev/v1",
        "kind": "External",
        "metadata": {"namespace": "shop", "name": "payments"},
        "spec": {
            "hosts": ["api.payments.example"], "port": 443,
            "tls": {"mode": "originate", "roots": "system"},
            "from": [{"workload": "shop/checkout"}],
        },
    });
    let changeset = json!({"apply": [gateway, external]});
    let applied = api.post("/v1/changesets", changeset).await;
    applied.is(StatusCode::OK);
    api
}

#[tokio::test]
async fn a_request_from_outside_that_no_gateway_takes_is_told_where_it_could_go() {
    let api = edges().await;
    let request = json!({"host": "shop.example", "port": 8443});
    let told = api.post("/v1/explain/gateway", request).await.json();
    assert_eq!(
        (&told["verdict"], &told["reason"], &told["entrances"]),
        (&json!("deny"), &json!("no-route"), &json!([]))
    );
    assert_eq!(
        told["message"],
        "no Gateway has shop.example at port 8443: it is at 443"
    );
}

#[tokio::test]
async fn a_request_from_outside_is_followed_to_what_policy_says_of_the_gateway() {
    let api = edges().await;
    let request =
        json!({"host": "shop.example", "path": "/v1/a", "headers": {"X-Real-IP": "10.0.0.1"}});
    let told = api.post("/v1/explain/gateway", request).await.json();
    assert_eq!(told["verdict"], "allow", "{told}");
    let entrance = &told["entrances"][0];
    assert_eq!(entrance["object"], "Gateway shop/public");
    assert_eq!(entrance["call"]["rule"]["id"], "readers");
    assert!(
        entrance["call"]["source"]
            .as_str()
            .unwrap()
            .ends_with("/sa/checkout")
    );
    let note = told["notes"][0].as_str().unwrap();
    assert!(note.starts_with("x-real-ip is dropped"), "{told}");
}

#[tokio::test]
async fn a_call_to_a_host_outside_names_its_external_and_who_is_missing_there() {
    let api = edges().await;
    let call = |from: &str| json!({"from": from, "host": "api.payments.example"});
    let denied = api.post("/v1/explain/external", call("shop/orders")).await;
    let denied = denied.json();
    assert_eq!(
        (&denied["verdict"], &denied["reason"]),
        (&json!("deny"), &json!("no-route"))
    );
    assert_eq!(denied["nearestMisses"][0]["condition"], "from");
    let allowed = api
        .post("/v1/explain/external", call("shop/checkout"))
        .await;
    let allowed = allowed.json();
    assert_eq!(
        (
            &allowed["verdict"],
            &allowed["object"],
            &allowed["tls"]["roots"]
        ),
        (
            &json!("allow"),
            &json!("External shop/payments"),
            &json!("system")
        )
    );
}

#[tokio::test]
async fn an_unknown_field_of_a_question_at_the_edges_is_refused() {
    let api = edges().await;
    let question = json!({"from": "shop/checkout", "host": "a.example", "path": "/"});
    let answer = api.post("/v1/explain/external", question).await;
    answer.problem(StatusCode::UNPROCESSABLE_ENTITY, "unknown-field");
}
