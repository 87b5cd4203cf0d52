//! Claims on writes that an older proxy could not obey.

use identity::SpiffeId;
use policy::{ENGINE_VERSION, Revision};

use super::*;
use crate::watch::{AttachedProxy, Introduction};

const ROUTE: &str = "/v1/routes/shop/orders";
const AGENT: &str = "spiffe://corp.example/countersign/agent/join-token/web-7";

fn agent() -> SpiffeId {
    AGENT.parse().unwrap()
}

fn introduction(engine_version: u32) -> Introduction {
    Introduction {
        product: "countersign-agent/0.1.0".to_owned(),
        engine_version,
        clock_offset: time::Duration::ZERO,
        obeys_deny_lists: true,
    }
}

fn proxy(engine_version: u32) -> AttachedProxy {
    AttachedProxy {
        workload: "shop/checkout".parse().unwrap(),
        product: "countersign-proxy/0.1.0".to_owned(),
        engine_version,
    }
}

#[tokio::test]
async fn a_route_is_refused_while_a_live_proxy_cannot_obey_it() {
    let api = TestApi::start().await.shop().await;
    let live = api
        .parts
        .presence
        .connect(&agent(), introduction(ENGINE_VERSION));
    live.attached(vec![proxy(1)]);
    let refused = api.put(ROUTE, route()).await;
    let problem = refused.problem(StatusCode::CONFLICT, "engine-too-old");
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("the proxy of shop/checkout at spiffe:"),
        "{detail}"
    );
    let changeset = json!({"apply": [route()], "dryRun": true});
    let judged = api.post("/v1/changesets", changeset).await;
    judged.problem(StatusCode::CONFLICT, "engine-too-old");
    live.attached(vec![proxy(ENGINE_VERSION)]);
    api.put(ROUTE, route()).await.is(StatusCode::CREATED);
}

#[tokio::test]
async fn an_agent_that_cannot_name_its_proxies_is_named_itself() {
    let api = TestApi::start().await.shop().await;
    let live = api.parts.presence.connect(&agent(), introduction(1));
    let refused = api.put(ROUTE, route()).await;
    let problem = refused.problem(StatusCode::CONFLICT, "engine-too-old");
    assert!(problem["detail"].as_str().unwrap().contains(AGENT));
    drop(live);
    let _without_proxies = api.parts.presence.connect(&agent(), introduction(0));
    api.put(ROUTE, route()).await.is(StatusCode::CREATED);
}

#[tokio::test]
async fn what_an_older_proxy_obeys_or_meets_already_may_be_written() {
    let api = TestApi::start().await.shop().await;
    api.put(ROUTE, route()).await.is(StatusCode::CREATED);
    let live = api.parts.presence.connect(&agent(), introduction(1));
    live.attached(vec![proxy(1)]);
    api.put(ROUTE, route()).await.is(StatusCode::OK);
    let mut narrower = policy();
    narrower["spec"]["allow"] = json!([]);
    let path = "/v1/policies/shop/orders-api";
    api.put(path, narrower).await.is(StatusCode::OK);
    api.delete(ROUTE).await.is(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn of_many_proxies_that_are_behind_some_are_named() {
    let api = TestApi::start().await.shop().await;
    let live = api.parts.presence.connect(&agent(), introduction(1));
    live.attached(vec![proxy(1); 25]);
    let refused = api.put(ROUTE, route()).await;
    let problem = refused.problem(StatusCode::CONFLICT, "engine-too-old");
    assert!(problem["detail"].as_str().unwrap().ends_with("and 5 more"));
}

#[tokio::test]
async fn a_revocation_that_somebody_could_not_obey_is_refused_unless_it_is_forced() {
    let api = TestApi::start().await;
    let path = "/v1/revocations";
    let orders = "spiffe://corp.example/ns/shop/sa/orders";
    let mut wish = json!({"kind": "identity", "subject": orders, "reason": "stolen"});
    let live = api
        .parts
        .presence
        .connect(&agent(), introduction(ENGINE_VERSION));
    live.attached(vec![proxy(2)]);
    let refused = api.post(path, wish.clone()).await;
    refused.problem(StatusCode::CONFLICT, "engine-too-old");
    let deaf = Introduction {
        obeys_deny_lists: false,
        ..introduction(ENGINE_VERSION)
    };
    let live = api.parts.presence.connect(&agent(), deaf);
    live.attached(vec![proxy(ENGINE_VERSION)]);
    let refused = api.post(path, wish.clone()).await;
    let problem = refused.problem(StatusCode::CONFLICT, "agent-too-old");
    assert!(problem["detail"].as_str().unwrap().contains(AGENT));
    wish["force"] = json!(true);
    api.post(path, wish).await.is(StatusCode::CREATED);
}

#[tokio::test]
async fn what_another_live_replica_tells_of_its_agents_counts_here() {
    let Some(store) = TestStore::open_on_postgres().await else {
        return;
    };
    let api = TestApi::start_on(store).await.shop().await;
    let head = api.parts.registry.snapshot().revision();
    let store = &api.parts.store;
    let nothing = Revision { number: 0, ..head };
    let now = api.parts.clock.now();
    store.note_enforced("ca-2", nothing, now).await.unwrap();
    let told = json!({
        "revision": head.number,
        "pending": {"some": [{"agent": AGENT, "acknowledged": 0}], "count": 1},
        "engines": {"1": 3},
        "oldProxies": {"some": [{"name": "the proxy of shop/web", "engine": 1}], "count": 3},
        "deaf": {"some": [AGENT], "count": 1},
    });
    let path = format!("/v1/revisions/{head}");
    let silent = api.get(&path).await.json();
    assert_eq!(
        silent["enforcement"]["pendingReplicas"],
        json!([{"replica": "ca-2", "agents": null}])
    );
    store
        .tell_hold_ups("ca-2", &told.to_string())
        .await
        .unwrap();
    let pending = api.get(&path).await.json();
    assert_eq!(pending["enforcement"]["pending"], json!([AGENT]));
    assert_eq!(
        pending["enforcement"]["pendingReplicas"],
        json!([{"replica": "ca-2", "agents": 1}])
    );
    let refused = api.put(ROUTE, route()).await;
    let problem = refused.problem(StatusCode::CONFLICT, "engine-too-old");
    let detail = problem["detail"].as_str().unwrap();
    let named = "the proxy of shop/web, connected to ca-2 and 2 more";
    assert!(detail.ends_with(named), "{detail}");
    store.leave("ca-2").await.unwrap();
    api.put(ROUTE, route()).await.is(StatusCode::CREATED);
}
