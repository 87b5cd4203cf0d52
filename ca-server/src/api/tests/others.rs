//! Claims about everything over REST that is no configuration object.

use crypto::random::SeededRandom;
use identity::{JoinToken, SerialNumber};
use policy::ENGINE_VERSION;

use super::*;
use crate::watch::Introduction;

const TOKENS: &str = "/v1/join-tokens";

#[tokio::test]
async fn a_token_for_an_unknown_workload_is_refused_and_not_kept() {
    let api = TestApi::start().await;
    let body = json!({"agent": "web-7", "workloads": ["shop/orders"]});
    let answer = api.post(TOKENS, body).await;
    let problem = answer.problem(StatusCode::UNPROCESSABLE_ENTITY, "unknown-workload");
    assert_eq!(problem["pointer"], "/workloads/0");
    assert_eq!(api.get(TOKENS).await.json()["items"], json!([]));
}

#[tokio::test]
async fn a_token_with_a_bad_field_is_refused_at_its_place() {
    let api = TestApi::start().await;
    for (body, pointer) in [
        (json!({"agent": "a/b"}), "/agent"),
        (json!({"agent": "a", "count": 0}), "/count"),
        (json!({"agent": "a", "ttl": "8days"}), "/ttl"),
        (json!({"agent": "a", "ttl": "soon"}), "/ttl"),
        (json!({"agent": "a", "cidr": "10.0.0.1/8"}), "/cidr"),
        (
            json!({"agent": "a", "workloads": ["orders"]}),
            "/workloads/0",
        ),
    ] {
        let answer = api.post(TOKENS, body).await;
        let problem = answer.problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid-value");
        assert_eq!(problem["pointer"], pointer);
    }
}

#[tokio::test]
async fn tokens_admit_their_agents_to_the_workloads() {
    let api = TestApi::start().await.shop().await;
    let body =
        json!({"agent": "web", "count": 2, "workloads": ["shop/orders"], "cidr": "10.0.0.0/8"});
    let made = api.post(TOKENS, body).await;
    let made = made.is(StatusCode::CREATED).json();
    let agents = api.get("/v1/workloads/shop/orders").await.json()["spec"]["agents"].clone();
    assert_eq!(
        agents,
        json!([
            "spiffe://corp.example/countersign/agent/join-token/web-1",
            "spiffe://corp.example/countersign/agent/join-token/web-2"
        ])
    );
    let token: JoinToken = made["tokens"][0]["token"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(made["tokens"][0]["agentId"], agents[0]);
    let snapshot = api.parts.registry.snapshot();
    let roots = snapshot.roots().bundle().authorities();
    assert_eq!(token.roots(), [roots[0].digest()]);
    let kept = &api.store.store.join_tokens().await.unwrap();
    let kept = kept.iter().find(|row| row.token.id == token.id()).unwrap();
    assert_eq!(kept.token.secret_sha256, token.secret_digest());
}

#[tokio::test]
async fn a_listed_token_shows_no_secret_and_can_be_deleted() {
    let api = TestApi::start().await;
    let made = api.post(TOKENS, json!({"agent": "web-7"})).await.json();
    let id = made["tokens"][0]["id"].as_str().unwrap();
    let list = api.get(TOKENS).await;
    assert_eq!(list.json()["items"][0]["id"], id);
    assert!(!String::from_utf8_lossy(&list.body).contains("csj1."));
    assert!(list.json()["items"][0].get("secretSha256").is_none());
    api.delete(&format!("{TOKENS}/{id}"))
        .await
        .is(StatusCode::NO_CONTENT);
    let again = api.delete(&format!("{TOKENS}/{id}")).await;
    again.problem(StatusCode::NOT_FOUND, "not-found");
}

#[tokio::test]
async fn an_unknown_revision_is_not_found() {
    let api = TestApi::start().await.shop().await;
    let epoch = api.store.store.epoch();
    for (revision, status) in [
        (format!("{epoch:08x}-9"), StatusCode::NOT_FOUND),
        (format!("{:08x}-1", epoch ^ 1), StatusCode::NOT_FOUND),
        ("1".to_owned(), StatusCode::BAD_REQUEST),
    ] {
        api.get(&format!("/v1/revisions/{revision}"))
            .await
            .is(status);
    }
}

#[tokio::test]
async fn a_revision_is_pending_until_every_connected_agent_has_it() {
    let api = TestApi::start().await.shop().await;
    let agent = "spiffe://corp.example/countersign/agent/join-token/web-7"
        .parse()
        .unwrap();
    let introduction = Introduction {
        product: "countersign-agent/0.1.0".to_owned(),
        engine_version: ENGINE_VERSION,
        clock_offset: time::Duration::ZERO,
        obeys_deny_lists: true,
    };
    let live = api.parts.presence.connect(&agent, introduction);
    let revision = api.parts.registry.snapshot().revision();
    let path = format!("/v1/revisions/{revision}?wait=enforced&timeoutMs=1");
    let waited = api.get(&path).await.json();
    assert_eq!(waited["enforcement"]["pending"], json!([agent.as_str()]));
    assert_eq!(waited["enforcement"]["enforcedAt"], Value::Null);
    drop(live);
    let enforced = api.get(&path).await.json();
    assert_eq!(enforced["enforcement"]["pending"], json!([]));
    assert!(enforced["enforcement"]["milliseconds"].is_u64());
    let refused = api
        .get(&format!("/v1/revisions/{revision}?wait=seen"))
        .await;
    refused.problem(StatusCode::BAD_REQUEST, "bad-query");
}

#[tokio::test]
async fn explain_says_that_a_caller_is_not_registered() {
    let api = TestApi::start().await.shop().await;
    let call = json!({"from": "shop/nobody", "to": "shop/orders:http"});
    let judged = api.post("/v1/explain", call).await.json();
    assert_eq!(judged["verdict"], "deny");
    let note = judged["notes"][0].as_str().unwrap_or_default();
    assert!(
        note.starts_with("there is no Workload shop/nobody"),
        "{judged}"
    );
}

#[tokio::test]
async fn explain_names_the_rule_or_the_nearest_miss() {
    let api = TestApi::start().await.shop().await;
    let call =
        |from: &str, path: &str| json!({"from": from, "to": "shop/orders:http", "path": path});
    let denied = api
        .post("/v1/explain", call("shop/orders", "/v1/a"))
        .await
        .json();
    assert_eq!(
        (&denied["verdict"], &denied["reason"]),
        (&json!("deny"), &json!("no-rule-matched"))
    );
    assert_eq!(denied["nearestMisses"][0]["rule"]["id"], "readers");
    let allowed = api
        .post("/v1/explain", call("shop/checkout", "/v1/a"))
        .await
        .json();
    assert_eq!(allowed["verdict"], "allow", "{allowed}");
    let malformed = api
        .post(
            "/v1/explain",
            json!({"from": "shop/orders", "to": "orders"}),
        )
        .await;
    let problem = malformed.problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid-value");
    assert_eq!(problem["pointer"], "/to");
}

#[tokio::test]
async fn explain_says_where_a_route_leads_and_what_policy_says_there() {
    let api = TestApi::start().await.shop().await;
    let mut canary = service();
    canary["metadata"]["name"] = json!("orders-v2");
    let mut route = route();
    route["spec"]["rules"] = json!([
        {"match": [{"path": "/v1/{rest=**}"}], "backends": [{"service": "orders-v2"}]},
    ]);
    let changeset = json!({"apply": [canary, route]});
    api.post("/v1/changesets", changeset)
        .await
        .is(StatusCode::OK);
    let call = json!({"from": "shop/checkout", "to": "shop/orders:http", "path": "/v1/a"});
    let told = api.post("/v1/explain", call).await.json();
    assert_eq!(
        (&told["verdict"], &told["route"]["verdict"]),
        (&json!("allow"), &json!("deny"))
    );
    assert_eq!(told["route"]["rule"], 1);
    assert_eq!(
        told["route"]["backends"][0]["target"],
        "shop/orders-v2:http"
    );
    assert_eq!(told["route"]["backends"][0]["reason"], "no-policy");
    assert!(
        told["notes"][0]
            .as_str()
            .unwrap()
            .starts_with("Route shop/orders leads elsewhere")
    );
}

#[tokio::test]
async fn a_forgotten_agent_is_gone() {
    let api = TestApi::start().await;
    let row = crate::store::AgentRow {
        spiffe_id: "spiffe://corp.example/countersign/agent/join-token/web-7"
            .parse()
            .unwrap(),
        attested_at: api.parts.clock.now(),
        serial: SerialNumber::random(&mut SeededRandom::new(1)),
        not_after: api.parts.clock.now(),
        selectors: policy::resource::AgentSelectors::none(),
    };
    api.store.store.record_agent(row).await.unwrap();
    let listed = api.get("/v1/agents").await.json();
    assert_eq!(listed["items"][0]["connected"], false);
    let path = "/v1/agents/join-token/web-7";
    api.delete(path).await.is(StatusCode::NO_CONTENT);
    api.delete(path)
        .await
        .problem(StatusCode::NOT_FOUND, "not-found");
    assert_eq!(api.get("/v1/agents").await.json()["items"], json!([]));
}

#[tokio::test]
async fn the_bundle_is_public_and_holds_the_roots() {
    let api = TestApi::start().await;
    let request = Request::builder()
        .uri("/v1/bundle")
        .body(Body::empty())
        .unwrap();
    let bundle = api.send(request).await;
    let bundle = bundle.is(StatusCode::OK).json();
    assert_eq!(bundle["keys"][0]["use"], "x509-svid");
    assert_eq!(bundle["spiffe_sequence"], 1);
}

#[tokio::test]
async fn a_store_that_is_gone_is_unavailable() {
    let api = TestApi::start().await;
    api.store.store.close().await;
    api.get("/readyz")
        .await
        .problem(StatusCode::SERVICE_UNAVAILABLE, "store-unavailable");
    let answer = api.get("/v1/about").await;
    answer.problem(StatusCode::SERVICE_UNAVAILABLE, "store-unavailable");
    assert!(answer.headers.contains_key(header::RETRY_AFTER));
}

#[tokio::test]
async fn a_replica_whose_intermediate_has_ended_is_not_ready() {
    let api = TestApi::start().await;
    let hours = |count: u64| std::time::Duration::from_secs(60 * 60 * count);
    api.control.advance(hours(19));
    let ending = api.get("/readyz").await;
    assert_eq!(
        ending.is(StatusCode::OK).json(),
        json!({"status": "ending"})
    );
    api.control.advance(hours(6));
    api.get("/readyz")
        .await
        .problem(StatusCode::SERVICE_UNAVAILABLE, "intermediate-ended");
}

#[tokio::test]
async fn the_horizon_tells_of_authorities_before_anybody_has_joined() {
    let api = TestApi::start().await;
    let horizon = api.get("/v1/horizon").await.is(StatusCode::OK).json();
    let kinds: Vec<_> = horizon["items"].as_array().unwrap().iter().collect();
    let kinds: Vec<_> = kinds.iter().map(|item| &item["kind"]).collect();
    assert_eq!(kinds, ["root", "intermediate"]);
    assert_eq!(horizon["survivesSeconds"], Value::Null);
}
