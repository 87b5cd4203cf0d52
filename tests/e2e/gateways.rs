//! Callers outside the mesh, and what a Gateway lets them reach.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use mesh_tests::application::Application;
use mesh_tests::caller::Answer;
use mesh_tests::host::Host;
use mesh_tests::mesh::Mesh;
use mesh_tests::operator::CaProcess;
use mesh_tests::outside::{Authority, Outsider, expose, h2_request, request};
use mesh_tests::processes::free_address;
use mesh_tests::raw::say;
use mesh_tests::shop::SERVICE;
use mesh_tests::waiting::{DEADLINE, eventually};
use mesh_tests::workload::Workload;
use proxy::config::Limits;
use runtime::Span;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::sync::CancellationToken;

const SHOP: &str = "shop.example.com";
const ADMIN: &str = "admin.example.com";

/// The gateway's identity may GET everything below `/v1/`.
const GATEWAY_MAY_CALL: &str = r#"
apiVersion: countersign.dev/v1
kind: Policy
metadata: {namespace: shop, name: orders}
spec:
  targets: [{service: orders, port: http}]
  allow:
  - id: gateway
    from: [{workload: edge/gateway}]
    to: {http: [{methods: [GET], path: "/v1/{rest=**}"}]}
"#;

/// `edge/gateway` in front of `shop/orders`.
pub(crate) struct Edge {
    pub(crate) gateway: Workload,
    _orders: Workload,
    application: Application,
    authority: Authority,
    folder: TempDir,
    mesh: Mesh,
}

impl Edge {
    /// With a listener for [`SHOP`] on port 443.
    async fn open() -> Self {
        Self::open_before(Application::http().await).await
    }

    async fn open_before(application: Application) -> Self {
        Self::open_limited(application, Limits::default()).await
    }

    async fn open_limited(application: Application, limits: Limits) -> Self {
        Self::assemble(application, limits).await.with(SHOP).await
    }

    /// With a listener for another host on port 443.
    pub(crate) async fn open_for(host: &str) -> Self {
        Self::without_gateway().await.with(host).await
    }

    async fn with(self, host: &str) -> Self {
        self.authority.write(self.folder.path(), "shop", host);
        self.apply(&self.listener("web", 443, host, "shop")).await;
        self
    }

    async fn without_gateway() -> Self {
        Self::assemble(Application::http().await, Limits::default()).await
    }

    async fn assemble(application: Application, limits: Limits) -> Self {
        let mesh = Mesh::start().await;
        let folder = tempfile::tempdir().expect("a directory");
        let orders = mesh
            .workload("shop/orders")
            .serving("http", application.address());
        orders.register().await;
        let gateway = mesh.workload("edge/gateway");
        let gateway = gateway.gateway(folder.path(), &[443, 8443]);
        let gateway = gateway.limited(limits);
        gateway.register().await;
        for objects in [SERVICE, GATEWAY_MAY_CALL] {
            mesh.try_apply(objects).await.expect("valid objects");
        }
        Self {
            _orders: orders.start().await,
            gateway: gateway.start().await,
            application,
            authority: Authority::new(),
            folder,
            mesh,
        }
    }

    async fn apply(&self, listeners: &str) {
        self.mesh.apply(&gateway(listeners)).await;
    }

    fn listener(&self, name: &str, port: u16, host: &str, files: &str) -> String {
        listener(self.folder.path(), name, port, host, files)
    }

    fn outsider(&self) -> Outsider {
        self.authority.outsider()
    }

    async fn get(&self, host: &str, path: &str) -> Answer {
        let at = self.gateway.gateway(443, 1).await;
        let mut caller = self.outsider().caller(at, SHOP).await;
        caller.call(request(Method::GET, host, path)).await
    }
}

fn gateway(listeners: &str) -> String {
    format!(
        r#"
apiVersion: countersign.dev/v1
kind: Gateway
metadata: {{namespace: edge, name: public}}
spec: {{workloads: [edge/gateway], listeners: [{listeners}]}}
"#
    )
}

fn listener(folder: &Path, name: &str, port: u16, host: &str, files: &str) -> String {
    let folder = folder.display();
    format!(
        "{{name: {name}, port: {port}, hosts: [{host}], \
         tls: {{certificateFile: {folder}/{files}.pem, keyFile: {folder}/{files}.key}}, \
         routes: [{{path: '/v1/{{rest=**}}', service: shop/orders, port: http}}, \
         {{path: '/private', service: shop/orders, port: http}}]}}"
    )
}

#[tokio::test]
async fn a_host_that_no_gateway_has_gets_no_handshake() {
    let edge = Edge::open().await;
    let at = edge.gateway.gateway(443, 1).await;
    let refused = edge.outsider().handshake(at, ADMIN, b"h2").await;
    assert!(refused.is_err());
    assert_eq!(edge.application.requests(), 0);
}

#[tokio::test]
async fn a_caller_who_says_nothing_is_cut_off() {
    let limits = Limits {
        handshake: Span::from(Duration::from_secs(1)),
        ..Limits::default()
    };
    let edge = Edge::open_limited(Application::http().await, limits).await;
    let at = edge.gateway.gateway(443, 1).await;
    assert_eq!(say(at, b"").await, b"");
}

#[tokio::test]
async fn a_caller_who_says_nothing_does_not_hold_up_a_drain() {
    let hour = Duration::from_secs(3600);
    let limits = Limits {
        handshake: Span::from(hour),
        ..Limits::default()
    };
    let edge = Edge::open_limited(Application::http().await, limits).await;
    let at = edge.gateway.gateway(443, 1).await;
    let _silent = TcpStream::connect(at).await.expect("a connection");
    let drained = timeout(DEADLINE, edge.gateway.proxy.drain(hour)).await;
    drained.expect("ended in time").expect("it drains");
}

#[tokio::test]
async fn an_address_that_holds_all_its_places_gets_no_handshake() {
    let limits = Limits {
        connections_per_source: 1,
        ..Limits::default()
    };
    let edge = Edge::open_limited(Application::http().await, limits).await;
    let at = edge.gateway.gateway(443, 1).await;
    let held = TcpStream::connect(at).await.expect("it listens");
    eventually("its place is taken", || async {
        let refused = edge.outsider().handshake(at, SHOP, b"h2").await;
        refused.err()
    })
    .await;
    let metrics = edge.gateway.metrics().await;
    assert!(metrics.contains(r#"handshakes_total{direction="inbound",reason="bulkhead-full"}"#));
    drop(held);
    eventually("its place is free again", || async {
        edge.outsider().handshake(at, SHOP, b"h2").await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_request_that_names_an_unknown_host_is_not_found() {
    let edge = Edge::open().await;
    let answer = edge.get("other.example.com", "/v1/orders").await;
    let told = (answer.status, answer.reason());
    assert_eq!(told, (StatusCode::NOT_FOUND, Some("no-route")));
    assert_eq!(edge.application.requests(), 0);
}

#[tokio::test]
async fn a_request_for_another_host_of_the_port_is_misdirected() {
    let edge = Edge::open().await;
    edge.authority.write(edge.folder.path(), "admin", ADMIN);
    let shop = edge.listener("web", 443, SHOP, "shop");
    let admin = edge.listener("admin", 443, ADMIN, "admin");
    edge.apply(&format!("{shop}, {admin}")).await;
    let at = edge.gateway.gateway(443, 2).await;
    let mut caller = edge.outsider().h2_caller(at, SHOP).await;
    let answer = caller
        .call(h2_request(Method::GET, ADMIN, "/v1/orders"))
        .await;
    let told = (answer.status, answer.reason());
    assert_eq!(told, (StatusCode::MISDIRECTED_REQUEST, Some("no-route")));
    let mut caller = edge.outsider().h2_caller(at, ADMIN).await;
    let answer = caller
        .call(h2_request(Method::GET, ADMIN, "/v1/orders"))
        .await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn a_path_without_a_route_is_not_found_and_one_of_two_readings_is_refused() {
    let edge = Edge::open().await;
    let answer = edge.get(SHOP, "/v2/orders").await;
    let told = (answer.status, answer.reason());
    assert_eq!(told, (StatusCode::NOT_FOUND, Some("no-route")));
    let answer = edge.get(SHOP, "/v1/..%2fprivate").await;
    let told = (answer.status, answer.reason());
    assert_eq!(told, (StatusCode::BAD_REQUEST, Some("path-ambiguous")));
    assert_eq!(edge.application.requests(), 0);
}

#[tokio::test]
async fn what_the_destinations_policy_denies_is_refused_without_a_word_of_the_inside() {
    let edge = Edge::open().await;
    let answer = edge.get(SHOP, "/private").await;
    let told = (answer.status, answer.reason(), answer.decision());
    let expected = (StatusCode::FORBIDDEN, Some("policy-denied"), None);
    assert_eq!(told, expected);
    assert_eq!(&answer.body[..], b"policy-denied");
    assert_eq!(edge.application.requests(), 0);
}

#[tokio::test]
async fn the_application_sees_the_gateways_identity_and_the_proxys_word_of_the_way() {
    let edge = Edge::open().await;
    let at = edge.gateway.gateway(443, 1).await;
    let mut call = request(Method::GET, SHOP, "/v1/orders");
    for name in [
        "x-forwarded-client-cert",
        "X_Forwarded-Client_Cert",
        "x-forwarded-for",
        "x_forwarded_for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "forwarded",
        "x-real-ip",
        "countersign-decision",
    ] {
        let name = HeaderName::try_from(name).expect("a name");
        call.headers_mut()
            .insert(name, HeaderValue::from_static("lie"));
    }
    let mut caller = edge.outsider().caller(at, SHOP).await;
    let seen = caller.call(call).await.seen();
    assert!(seen.headers.iter().all(|(_, value)| value != "lie"));
    let identity = seen.header("x-forwarded-client-cert").unwrap_or_default();
    assert!(identity.ends_with(&format!("URI={}", edge.gateway.spiffe_id)));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("host"), Some(SHOP));
}

#[tokio::test]
async fn files_outside_the_granted_folder_are_never_shown() {
    let edge = Edge::without_gateway().await;
    let elsewhere = tempfile::tempdir().expect("a directory");
    edge.authority.write(elsewhere.path(), "shop", SHOP);
    let listener = listener(elsewhere.path(), "web", 443, SHOP, "shop");
    edge.apply(&listener).await;
    let problem = edge.gateway.problem("gateway.certificates").await;
    assert!(problem.contains("is not below"), "{problem}");
    let at = edge.gateway.gateway(443, 0).await;
    let refused = edge.outsider().handshake(at, SHOP, b"h2").await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn a_key_that_others_can_read_is_refused_until_they_cannot() {
    let edge = Edge::without_gateway().await;
    edge.authority.write(edge.folder.path(), "shop", SHOP);
    expose(&edge.folder.path().join("shop.key"));
    edge.apply(&edge.listener("web", 443, SHOP, "shop")).await;
    let problem = edge.gateway.problem("open to others").await;
    assert!(problem.contains(SHOP), "{problem}");
    edge.authority.write(edge.folder.path(), "shop", SHOP);
    let answer = edge.get(SHOP, "/v1/orders").await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn a_new_certificate_is_shown_without_a_restart_and_a_broken_one_is_not() {
    let edge = Edge::open().await;
    let at = edge.gateway.gateway(443, 1).await;
    std::fs::write(edge.folder.path().join("shop.pem"), "broken").expect("writable");
    edge.gateway.problem("shop.pem").await;
    let kept = edge.outsider().handshake(at, SHOP, b"h2").await;
    assert!(kept.is_ok(), "the certificate before it is shown");
    let other = Authority::new();
    other.write(edge.folder.path(), "shop", SHOP);
    eventually("the new certificate is shown", || async {
        let shown = other.outsider().handshake(at, SHOP, b"h2").await;
        shown.ok()
    })
    .await;
}

#[tokio::test]
async fn a_certificate_that_runs_out_is_told_before_and_shown_no_longer_after() {
    let edge = Edge::without_gateway().await;
    let now = edge.mesh.time().now();
    let [hour, ten_minutes] = [3600, 600].map(Duration::from_secs);
    let valid = [now - hour, now + ten_minutes];
    let folder = edge.folder.path();
    edge.authority.write_valid(folder, "shop", SHOP, valid);
    edge.apply(&edge.listener("web", 443, SHOP, "shop")).await;
    edge.gateway.problem("expires at").await;
    let at = edge.gateway.gateway(443, 1).await;
    let shown = edge.outsider().handshake(at, SHOP, b"h2").await;
    assert!(shown.is_ok(), "it is valid for another ten minutes");
    edge.mesh
        .clock
        .advance(ten_minutes + Duration::from_secs(1));
    let problem = edge.gateway.problem("expired at").await;
    assert!(problem.contains(SHOP), "{problem}");
    let refused = edge.outsider().handshake(at, SHOP, b"h2").await;
    assert!(refused.is_err());
    edge.authority.write(folder, "shop", SHOP);
    let answer = edge.get(SHOP, "/v1/orders").await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_and_tried_again_and_stops_nothing_else() {
    let edge = Edge::without_gateway().await;
    edge.authority.write(edge.folder.path(), "shop", SHOP);
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    let web = edge.listener("web", 443, SHOP, "shop");
    let other = edge.listener("other", port, SHOP, "shop");
    edge.apply(&format!("{web}, {other}")).await;
    let problem = edge.gateway.problem(&format!("port {port}")).await;
    assert!(problem.contains("cannot listen"), "{problem}");
    eventually("the CA is told", || async {
        let agents = edge.mesh.admin().get("/v1/agents").await.ok()?;
        agents.to_string().contains("cannot listen").then_some(())
    })
    .await;
    let answer = edge.get(SHOP, "/v1/orders").await;
    assert_eq!(answer.status, StatusCode::OK);
    drop(taken);
    edge.gateway.gateway(port, 1).await;
}

#[tokio::test]
async fn a_removed_listener_is_closed_and_asks_its_callers_to_leave() {
    let edge = Edge::open().await;
    let at = edge.gateway.gateway(443, 1).await;
    let mut caller = edge.outsider().h2_caller(at, SHOP).await;
    let call = || h2_request(Method::GET, SHOP, "/v1/orders");
    assert_eq!(caller.call(call()).await.status, StatusCode::OK);
    let moved = edge.listener("web", 8443, SHOP, "shop");
    edge.apply(&moved).await;
    let now = edge.gateway.gateway(8443, 1).await;
    eventually("nobody listens any more", || async {
        let refused = edge.outsider().handshake(at, SHOP, b"h2").await;
        refused.err()
    })
    .await;
    let mut caller = edge.outsider().h2_caller(now, SHOP).await;
    assert_eq!(caller.call(call()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn routes_change_on_connections_that_are_open() {
    let edge = Edge::open().await;
    let at = edge.gateway.gateway(443, 1).await;
    let mut caller = edge.outsider().caller(at, SHOP).await;
    let call = || request(Method::GET, SHOP, "/v1/orders");
    assert_eq!(caller.call(call()).await.status, StatusCode::OK);
    let folder = edge.folder.path().display();
    edge.apply(&format!(
        "{{name: web, port: 443, hosts: [{SHOP}], \
         tls: {{certificateFile: {folder}/shop.pem, keyFile: {folder}/shop.key}}, \
         routes: [{{path: '/other', service: shop/orders, port: http}}]}}"
    ))
    .await;
    let caller = tokio::sync::Mutex::new(caller);
    eventually("the route is gone", || async {
        let answer = caller.lock().await.call(call()).await;
        (answer.status == StatusCode::NOT_FOUND).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_websocket_comes_in_and_is_judged_like_any_request() {
    let edge = Edge::open_before(Application::websocket().await).await;
    let at = edge.gateway.gateway(443, 1).await;
    for (path, admitted) in [("/private", false), ("/v1/chat", true)] {
        let tls = edge.outsider().handshake(at, SHOP, b"http/1.1").await;
        let url = format!("ws://{SHOP}{path}");
        let opened = client_async(url, tls.expect("a handshake")).await;
        match opened {
            Ok((mut socket, _)) if admitted => {
                let sent = socket.send(Message::text("ping")).await;
                sent.expect("writable");
                let echo = timeout(DEADLINE, socket.next()).await.expect("in time");
                let echo = echo.expect("open").expect("a message");
                assert_eq!(echo, Message::text("ping"));
            }
            Err(Error::Http(answer)) if !admitted => assert_eq!(answer.status(), 403),
            other => panic!("{other:?}"),
        }
    }
}

/// One call on a connection of its own.
async fn call(outsider: &Outsider, at: SocketAddr) -> StatusCode {
    let mut caller = outsider.h2_caller(at, SHOP).await;
    let call = h2_request(Method::GET, SHOP, "/v1/orders");
    caller.call(call).await.status
}

async fn calls(outsider: Outsider, at: SocketAddr, end: CancellationToken) -> usize {
    let mut count = 0;
    while !end.is_cancelled() {
        assert_eq!(call(&outsider, at).await, StatusCode::OK);
        count += 1;
    }
    count
}

#[tokio::test]
async fn takeovers_of_a_restricted_gateway_under_load_lose_no_call() {
    let ca = CaProcess::start().await;
    ca.register("shop", "orders").await;
    ca.register("edge", "gateway").await;
    let (folder, authority) = (tempfile::tempdir().expect("ours"), Authority::new());
    authority.write(folder.path(), "shop", SHOP);
    let listener = listener(folder.path(), "web", 443, SHOP, "shop");
    for objects in [SERVICE, GATEWAY_MAY_CALL, &gateway(&listener)] {
        ca.try_apply(objects).await.expect("valid objects");
    }
    let application = Application::http().await;
    let at = Some(application.address());
    let _orders = Host::start(&ca, "orders-1", "shop/orders", at).await;
    let granted = folder.path().display();
    let at = free_address();
    let section = format!(
        "[gateway]\ncertificates = \"{granted}\"\naddress = \"127.0.0.1\"\nports = {{ 443 = {} }}\n",
        at.port()
    );
    let mut edge = Host::start_with(&ca, "edge-1", "edge/gateway", None, &section).await;
    assert_eq!(edge.ready().await["sandbox"]["seccomp"], "enforced");
    let outsider = authority.outsider();
    eventually("a call comes in", || async {
        (call(&outsider, at).await == StatusCode::OK).then_some(())
    })
    .await;

    let end = CancellationToken::new();
    let mut callers = JoinSet::new();
    for _ in 0..3 {
        callers.spawn(calls(outsider.clone(), at, end.clone()));
    }
    for _ in 0..3 {
        let before = application.requests();
        let mut old = edge.take_over().await;
        assert!(old.ended().await.success(), "{}", old.said());
        eventually("calls go on", || async {
            (application.requests() > before + 10).then_some(())
        })
        .await;
    }

    end.cancel();
    while let Some(caller) = callers.join_next().await {
        assert!(caller.expect("no call failed") > 0);
    }
}
