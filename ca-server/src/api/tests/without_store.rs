//! Claims about what is answered while the store is away.

use axum::http::Method;

use super::*;
use crate::admin::HeldCredentials;
use crate::api::WithoutStore;
use crate::config::SpoolConfig;
use crate::metrics::Metrics;
use crate::revocation::{Obeying, RevocationSpool};

const REVOCATIONS: &str = "/v1/revocations";
const BAN: &str = "/v1/agents/x509pop/web-7/ban";
const ORDERS: &str = "spiffe://corp.example/ns/shop/sa/orders";

/// The interface of a replica whose store has gone.
struct CutOff {
    api: TestApi,
    _shutdown: ShutdownTrigger,
    _tasks: JoinSet<()>,
}

impl CutOff {
    async fn with_spool() -> Self {
        let mut api = TestApi::start().await.shop().await;
        let (trigger, shutdown) = Shutdown::pair();
        let mut tasks = JoinSet::new();
        let parts = &api.parts;
        let obeying = Obeying {
            directory: parts.vitals.horizons.directory.clone(),
            presence: parts.presence.clone(),
            store: parts.store.clone(),
            replica: parts.replica.clone(),
            clock: parts.clock.clone(),
            metrics: Metrics::new(&mut prometheus_client::registry::Registry::default()),
        };
        let config = json!({"file": api.store.directory().join("spool")});
        let config: SpoolConfig = serde_json::from_value(config).unwrap();
        let (revocations, shipping) = RevocationSpool::open(&config, obeying).await.unwrap();
        tasks.spawn(async move {
            let Ok(()) = shipping.run(shutdown).await;
        });
        let credentials = HeldCredentials::read(&parts.store, config.max_age).await;
        api.parts.without_store = Some(WithoutStore {
            credentials: credentials.unwrap(),
            revocations,
            standing: parts.vitals.standing.clone(),
        });
        api.router = router(&api.parts);
        api.parts.store.close().await;
        Self {
            api,
            _shutdown: trigger,
            _tasks: tasks,
        }
    }

    /// One request, and what it is answered with.
    async fn is_unavailable(&self, method: Method, path: &str, body: Value) {
        let answer = self.api.call(method, path, Some(body)).await;
        answer.problem(StatusCode::SERVICE_UNAVAILABLE, "store-unavailable");
    }
}

fn theft(kind: &str, subject: &str) -> Value {
    json!({"kind": kind, "subject": subject, "reason": "stolen"})
}

#[tokio::test]
async fn without_a_store_all_that_reads_or_writes_it_is_unavailable() {
    let cut_off = CutOff::with_spool().await;
    for path in [
        "/v1/agents",
        "/v1/authorities",
        "/v1/authorities/recovery",
        "/v1/revocations",
        "/v1/revisions",
        "/v1/svids",
        "/v1/policies",
        "/v1/horizon",
    ] {
        cut_off.is_unavailable(Method::GET, path, json!({})).await;
    }
    let apply = json!({"apply": [workload("ledger")]});
    let token = json!({"agent": "web-8"});
    for (path, body) in [
        ("/v1/changesets", apply),
        ("/v1/join-tokens", token),
        ("/v1/authorities/rotation", json!({})),
    ] {
        cut_off.is_unavailable(Method::POST, path, body).await;
    }
    cut_off.is_unavailable(Method::DELETE, BAN, json!({})).await;
    let ready = cut_off.api.get("/readyz").await;
    ready.problem(StatusCode::SERVICE_UNAVAILABLE, "store-unavailable");
}

#[tokio::test]
async fn without_a_store_nothing_is_revoked_that_it_alone_can_judge() {
    let cut_off = CutOff::with_spool().await;
    let intermediate = Sha256::of(b"ca-1").to_string();
    for (kind, subject) in [("serial", "07"), ("authority", &intermediate)] {
        let wish = theft(kind, subject);
        cut_off
            .is_unavailable(Method::POST, REVOCATIONS, wish)
            .await;
    }
    let conditional = [
        (header::CONTENT_TYPE, "application/json"),
        (header::IF_MATCH, "\"1-1\""),
    ];
    let wish = theft("identity", ORDERS).to_string();
    let (post, api) = (Method::POST, &cut_off.api);
    let answer = api.with_headers(post, REVOCATIONS, &conditional, wish);
    let problem = answer
        .await
        .problem(StatusCode::SERVICE_UNAVAILABLE, "store-unavailable");
    assert_eq!(
        problem["suggestion"],
        "send it without If-Match and If-None-Match"
    );
}

#[tokio::test]
async fn without_a_store_nobody_revokes_by_a_credential_that_was_not_read_from_it() {
    let cut_off = CutOff::with_spool().await;
    let stranger = SECRET.replace("AAAA", "BBBB");
    let request = Request::builder()
        .method(Method::POST)
        .uri(REVOCATIONS)
        .header(header::AUTHORIZATION, format!("Bearer {stranger}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(theft("identity", ORDERS).to_string()));
    let answer = cut_off.api.send(request.unwrap()).await;
    answer.problem(StatusCode::UNAUTHORIZED, "unauthorized");
}

#[tokio::test]
async fn without_a_spool_nothing_is_revoked_while_the_store_is_away() {
    let api = TestApi::start().await;
    api.parts.store.close().await;
    for (path, wish) in [
        (REVOCATIONS, theft("identity", ORDERS)),
        (BAN, json!({"reason": "stolen"})),
    ] {
        let answer = api.post(path, wish).await;
        answer.problem(StatusCode::SERVICE_UNAVAILABLE, "store-unavailable");
    }
}

#[tokio::test]
async fn without_a_store_identities_are_revoked_and_agents_banned_and_it_is_said_that_a_record_waits()
 {
    let cut_off = CutOff::with_spool().await;
    let ban = json!({"reason": "stolen"});
    for (path, wish, kind) in [
        (REVOCATIONS, theft("identity", ORDERS), "identity"),
        (BAN, ban, "agent"),
    ] {
        let answer = cut_off.api.post(path, wish).await;
        let view = answer.is(StatusCode::ACCEPTED).json();
        assert_eq!(view["spooled"], true, "{view}");
        assert_eq!(
            (&view["kind"], &view["author"]),
            (&json!(kind), &json!("admin/test"))
        );
    }
    let denied = cut_off.api.parts.registry.denials();
    assert!(
        denied
            .borrow()
            .list()
            .contains(&identity::x509::Denied::Identity(ORDERS.parse().unwrap()))
    );
}

#[tokio::test]
async fn without_a_store_the_bundle_is_served_and_the_process_lives() {
    let cut_off = CutOff::with_spool().await;
    let bundle = cut_off.api.get("/v1/bundle").await;
    assert_eq!(
        bundle.is(StatusCode::OK).json()["keys"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    cut_off.api.get("/healthz").await.is(StatusCode::OK);
}
