//! Claims on the whole router over a real store.

mod agents;
mod authorities;
mod document;
mod downstreams;
mod edges;
mod engines;
mod log;
mod objects;
mod others;
mod revocations;
mod without_store;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use crypto::digest::Sha256;
use runtime::{Clock, ClockControl, Shutdown, ShutdownTrigger};
use serde_json::{Value, json};
use tempfile::TempDir;
use tlog::NoteSigner;
use tokio::task::JoinSet;
use tower::ServiceExt;

use super::{ApiParts, router};
use crate::authority::{Authority, KeyPlaces, RootKeeper};
use crate::clock_check::ClockCheck;
use crate::config::{BundleConfig, KeysConfig, Lifetimes, RecoveryConfig};
use crate::horizon::{Horizons, Vitals};
use crate::issue::{AdmittedAgents, Directory};
use crate::recovery::Recovery;
use crate::registry::Registry;
use crate::rotation::{Rotation, Times};
use crate::spool::StoreStanding;
use crate::store::AdminCredentialRow;
use crate::store::Store;
use crate::store::tests::TestStore;
use crate::watch::Presence;

const SECRET: &str = "csa1_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The interface, and what stands behind it.
struct TestApi {
    router: Router,
    parts: ApiParts,
    log_signer: NoteSigner,
    store: TestStore,
    control: ClockControl,
    _keys: TempDir,
    _shutdown: ShutdownTrigger,
    _tasks: JoinSet<()>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl TestApi {
    async fn start() -> Self {
        Self::start_with(TestStore::open().await, None).await
    }

    async fn start_on(store: TestStore) -> Self {
        Self::start_with(store, None).await
    }

    async fn start_with(store: TestStore, recovery: Option<RecoveryConfig>) -> Self {
        let (clock, control) = Clock::adjustable();
        let keys = tempfile::tempdir().unwrap();
        let places = KeysConfig::file(keys.path().join("keys").join("kek"));
        let (places, lifetimes) = (KeyPlaces::of(&places, None).unwrap(), Lifetimes::default());
        let keeper = RootKeeper::open_or_make(&store.store, "ca-1", places, lifetimes, clock.now());
        let keeper = keeper.await.unwrap();
        let log_signer = keeper.log_signer(clock.now()).await.unwrap();
        let (registry, writer) = Registry::open(store.store.clone(), Vec::new(), clock.clone())
            .await
            .unwrap();
        let (trigger, shutdown) = Shutdown::pair();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let Ok(()) = writer.run(shutdown).await;
        });
        admit_administrator(&store, &clock).await;
        let refresh_hint = BundleConfig::default().refresh_hint;
        let vitals = vitals(&store.store, &registry, &keeper, &clock).await;
        let rotation = Rotation::new(
            registry.clone(),
            store.store.clone(),
            keeper.clone(),
            Times {
                lifetimes,
                refresh_hint,
                spooled_for: std::time::Duration::ZERO,
            },
            clock.clone(),
        );
        let recovery = Recovery::open(recovery.as_ref(), &store.store, clock.clone()).unwrap();
        let parts = ApiParts {
            recovery,
            store: store.store.clone(),
            registry,
            presence: vitals.horizons.presence.clone(),
            rotation,
            keeper,
            nesting: None,
            vitals,
            log_key: log_signer.verifier().clone(),
            refresh_hint,
            clock,
            addresses: vec!["127.0.0.1:8444".parse().unwrap()],
            replica: "ca-1".to_owned(),
            without_store: None,
        };
        let router = router(&parts);
        Self {
            router,
            parts,
            log_signer,
            store,
            control,
            _keys: keys,
            _shutdown: trigger,
            _tasks: tasks,
        }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap().to_vec();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let headers = [(header::CONTENT_TYPE, "application/json")];
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.with_headers(method, path, &headers, body).await
    }

    async fn with_headers(
        &self,
        method: Method,
        path: &str,
        headers: &[(header::HeaderName, &str)],
        body: String,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {SECRET}"));
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        self.send(request.body(Body::from(body)).unwrap()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    async fn put(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PUT, path, Some(body)).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, Some(body)).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, None).await
    }

    /// Two workloads, a service and its policy.
    async fn shop(self) -> Self {
        let apply = json!([
            workload("orders"),
            workload("checkout"),
            service(),
            policy()
        ]);
        let answer = self.post("/v1/changesets", json!({"apply": apply})).await;
        answer.is(StatusCode::OK);
        self
    }
}

async fn admit_administrator(store: &TestStore, clock: &Clock) {
    let credential = AdminCredentialRow {
        id: "test".to_owned(),
        secret_sha256: Sha256::of(&[0; 32]),
        created_at: clock.now(),
        expires_at: clock.now() + std::time::Duration::from_secs(3600),
        revoked_at: None,
    };
    store.store.put_admin_credential(credential).await.unwrap();
}

impl Answer {
    #[track_caller]
    fn is(&self, status: StatusCode) -> &Self {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Whether it is a problem of this status and code; its whole for more.
    #[track_caller]
    fn problem(&self, status: StatusCode, code: &str) -> Value {
        self.is(status);
        assert_eq!(
            self.headers[header::CONTENT_TYPE],
            "application/problem+json"
        );
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status.as_u16());
        problem
    }

    #[track_caller]
    fn etag(&self) -> &str {
        self.headers[header::ETAG].to_str().unwrap()
    }
}

fn workload(name: &str) -> Value {
    json!({
        "apiVersion": "countersign.dev/v1",
        "kind": "Workload",
        "metadata": {"namespace": "shop", "name": name},
        "spec": {"selectors": {"unix": {"uid": 1001}}},
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "countersign.dev/v1",
        "kind": "Service",
        "metadata": {"namespace": "shop", "name": "orders"},
        "spec": {
            "workloads": ["shop/orders"],
            "ports": [{"name": "http", "port": 80, "protocol": "http", "app": 8080}],
            "endpoints": [{"address": "10.0.0.1", "ports": {"http": 31000}, "zone": "a"}],
        },
    })
}

fn policy() -> Value {
    json!({
        "apiVersion": "countersign.dev/v1",
        "kind": "Policy",
        "metadata": {"namespace": "shop", "name": "orders-api"},
        "spec": {
            "targets": [{"service": "orders", "port": "http"}],
            "allow": [{
                "id": "readers",
                "from": [{"workload": "shop/checkout"}],
                "to": {"http": [{"methods": ["GET"], "path": "/v1/{rest=**}"}]},
            }],
        },
    })
}

fn baseline() -> Value {
    json!({
        "apiVersion": "countersign.dev/v1",
        "kind": "Baseline",
        "metadata": {"name": "org"},
        "spec": {
            "scope": {"mesh": true},
            "deny": [{"id": "quarantine", "from": [{"namespace": "legacy"}]}],
            "allow": [],
        },
    })
}

/// In canonical form, with every field that a port has.
fn busy_service() -> Value {
    let mut service = service();
    let traffic = json!({
        "balance": {"algorithm": {"hash": {"header": "x-user"}}},
        "breaker": {
            "consecutiveFailures": 5,
            "successRate": {"below": 0.8, "over": "10s", "minRequests": 20},
            "ejectFor": "10s",
            "maxEjected": 0.5,
        },
        "bulkhead": {"connections": 512, "pending": 256, "inFlight": 1024, "perCaller": {"inFlight": 128}},
        "rateLimit": {
            "requestsPerSecond": 2000,
            "burst": 200,
            "perCaller": {"requestsPerSecond": 200, "burst": 200},
        },
        "health": {"path": "/healthz", "every": "5s", "timeout": "1s"},
    });
    let port = service["spec"]["ports"][0].as_object_mut().unwrap();
    port.extend(traffic.as_object().unwrap().clone());
    service
}

/// In canonical form, with every field that a Route has.
fn route() -> Value {
    json!({
        "apiVersion": "countersign.dev/v1",
        "kind": "Route",
        "metadata": {"namespace": "shop", "name": "orders"},
        "spec": {
            "service": "orders",
            "port": "http",
            "rules": [{
                "match": [{"path": "/v1/{rest=**}", "methods": ["GET"], "headers": {"x-canary": "true"}}],
                "backends": [{"service": "orders", "weight": 100}],
                "timeout": {"request": "2s", "perTry": "600ms", "idle": "30s"},
                "retry": {
                    "limit": 2,
                    "on": ["connect-failure", "reset", "503"],
                    "methods": "idempotent",
                    "backoff": {"base": "25ms", "max": "250ms"},
                    "budget": {"ratio": 0.2, "minPerSecond": 10},
                },
                "hedge": {"after": "50ms", "limit": 1},
                "fault": {
                    "delay": {"percent": 5, "by": "200ms"},
                    "abort": {"percent": 0.5, "status": 503},
                },
                "mirror": {"service": "orders", "percent": 5},
                "headers": {"set": {"x-env": "prod"}, "remove": ["x-debug"]},
            }],
        },
    })
}

fn gateway() -> Value {
    json!({
        "apiVersion": "countersign.dev/v1",
        "kind": "Gateway",
        "metadata": {"namespace": "shop", "name": "public"},
        "spec": {
            "workloads": ["shop/orders"],
            "listeners": [{
                "name": "web",
                "port": 443,
                "hosts": ["shop.example.com"],
                "tls": {"certificateFile": "/etc/shop.pem", "keyFile": "/etc/shop.key"},
                "routes": [{"path": "/{rest=**}", "service": "shop/orders", "port": "http"}],
            }],
        },
    })
}

fn external() -> Value {
    json!({
        "apiVersion": "countersign.dev/v1",
        "kind": "External",
        "metadata": {"namespace": "shop", "name": "payments"},
        "spec": {
            "hosts": ["api.payments.example"],
            "port": 443,
            "tls": {"mode": "originate", "roots": {"file": "/etc/roots.pem"}},
            "from": [{"workload": "shop/orders"}],
        },
    })
}

async fn vitals(store: &Store, registry: &Registry, keeper: &RootKeeper, clock: &Clock) -> Vitals {
    let snapshot = registry.snapshot();
    let first = keeper.sign_intermediate(snapshot.roots(), clock.now());
    let standing = StoreStanding::default();
    let admitted = AdmittedAgents::new([], registry.denials(), standing.clone());
    let horizons = Horizons {
        store: store.clone(),
        directory: Directory::new(registry.clone(), admitted.clone()),
        authority: Authority::new(registry.roots(), first.await.unwrap()),
        presence: Presence::new(admitted.clone()),
        admitted,
        lifetimes: Lifetimes::default(),
        clock: clock.clone(),
        replica: "ca-1".to_owned(),
    };
    Vitals {
        horizons,
        clock_check: ClockCheck::unchecked(),
        standing,
    }
}
