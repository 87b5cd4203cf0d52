//! Hosts outside the mesh, and who may call them how. The host is `localhost`, which a proxy calls
//! only where its configuration allows it.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt;
use mesh_tests::application::Application;
use mesh_tests::caller::{Answer, post, request};
use mesh_tests::mesh::Mesh;
use mesh_tests::outside::Authority;
use mesh_tests::waiting::DEADLINE;
use mesh_tests::workload::Workload;
use proxy::config::External;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

const HTTP_1: &[u8] = b"http/1.1";
const HTTP_2: &[u8] = b"h2";
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1"];

/// What `shop/checkout` may call, and who vouches for it.
struct Outside {
    checkout: Workload,
    host: Application,
    folder: TempDir,
    mesh: Mesh,
}

impl Outside {
    /// A host that proves to be `shown` and speaks `alpn`; [`Outside::declare`] makes it known.
    async fn open(shown: &str, alpn: &[u8]) -> Self {
        Self::open_allowing(shown, alpn, &LOOPBACK).await
    }

    async fn open_allowing(shown: &str, alpn: &[u8], networks: &[&str]) -> Self {
        let authority = Authority::new();
        let host = Application::over_tls(authority.acceptor(shown, &[alpn])).await;
        Self::assemble(host, &authority, networks).await
    }

    async fn assemble(host: Application, authority: &Authority, networks: &[&str]) -> Self {
        let mesh = Mesh::start().await;
        let folder = tempfile::tempdir().expect("a directory");
        let roots = folder.path().join("roots.pem");
        std::fs::write(roots, authority.root()).expect("writable");
        let networks = networks.iter().map(|it| it.parse().expect("a network"));
        let checkout = mesh.workload("shop/checkout").external(External {
            roots: Some(folder.path().to_owned()),
            allow: networks.collect(),
        });
        Self {
            checkout: checkout.start().await,
            host,
            folder,
            mesh,
        }
    }

    async fn declare(&self) {
        self.declare_for("shop/checkout").await;
    }

    async fn declare_for(&self, caller: &str) {
        let roots = self.folder.path().join("roots.pem");
        let external = self.external(caller, &format!("{{file: {}}}", roots.display()));
        self.mesh.apply(&external).await;
    }

    fn external(&self, caller: &str, roots: &str) -> String {
        let port = self.host.address().port();
        format!(
            r#"
apiVersion: countersign.dev/v1
kind: External
metadata: {{namespace: shop, name: payments}}
spec: {{hosts: [localhost], port: {port}, tls: {{mode: originate, roots: {roots}}}, from: [{{workload: {caller}}}]}}
"#
        )
    }

    async fn get(&self) -> Answer {
        let mut caller = self.checkout.caller().await;
        caller.get("http://localhost/v1/charges").await
    }

    #[track_caller]
    fn refused(&self, answer: &Answer, status: StatusCode, reason: &str) -> String {
        let told = (answer.status, answer.reason());
        assert_eq!(told, (status, Some(reason)), "{answer:?}");
        assert_eq!(self.host.requests(), 0);
        String::from_utf8_lossy(&answer.body).into_owned()
    }
}

const BAD_GATEWAY: StatusCode = StatusCode::BAD_GATEWAY;

#[tokio::test]
async fn an_undeclared_host_is_refused_with_a_hint() {
    let outside = Outside::open("localhost", HTTP_1).await;
    let answer = outside.get().await;
    let text = outside.refused(&answer, BAD_GATEWAY, "no-route");
    assert!(text.contains("no External"), "{text}");
}

#[tokio::test]
async fn a_caller_whom_from_does_not_name_is_refused() {
    let outside = Outside::open("localhost", HTTP_1).await;
    outside.declare_for("shop/billing").await;
    let answer = outside.get().await;
    outside.refused(&answer, BAD_GATEWAY, "no-route");
}

#[tokio::test]
async fn another_port_than_the_declared_one_is_refused() {
    let outside = Outside::open("localhost", HTTP_1).await;
    outside.declare().await;
    let mut caller = outside.checkout.caller().await;
    let answer = caller.get("http://localhost:1/v1/charges").await;
    outside.refused(&answer, BAD_GATEWAY, "no-route");
}

#[tokio::test]
async fn a_name_that_leads_to_this_host_is_not_called() {
    let outside = Outside::open_allowing("localhost", HTTP_1, &[]).await;
    outside.declare().await;
    let answer = outside.get().await;
    let text = outside.refused(&answer, BAD_GATEWAY, "no-route");
    assert!(text.contains("external.allow"), "{text}");
}

#[tokio::test]
async fn a_host_that_proves_another_name_is_not_called() {
    let outside = Outside::open("other.example", HTTP_1).await;
    outside.declare().await;
    let answer = outside.get().await;
    outside.refused(&answer, BAD_GATEWAY, "tls-handshake");
}

#[tokio::test]
async fn a_host_that_only_others_vouch_for_is_not_called() {
    let outside = Outside::open("localhost", HTTP_1).await;
    let roots = outside.folder.path().join("roots.pem");
    std::fs::write(roots, Authority::new().root()).expect("writable");
    outside.declare().await;
    let answer = outside.get().await;
    outside.refused(&answer, BAD_GATEWAY, "tls-handshake");
}

#[tokio::test]
async fn roots_outside_the_granted_folder_are_not_read() {
    let outside = Outside::open("localhost", HTTP_1).await;
    let external = outside.external("shop/checkout", "{file: /etc/hosts}");
    outside.mesh.apply(&external).await;
    let answer = outside.get().await;
    let text = outside.refused(&answer, BAD_GATEWAY, "tls-handshake");
    assert!(text.contains("cannot be read"), "{text}");
}

#[tokio::test]
async fn a_host_sees_the_call_and_nothing_of_who_made_it() {
    for (alpn, host) in [(HTTP_1, Some("localhost")), (HTTP_2, None)] {
        let outside = Outside::open("localhost", alpn).await;
        outside.declare().await;
        let mut call = request(Method::GET, "http://localhost/v1/charges?of=today");
        for name in ["x-forwarded-client-cert", "countersign-decision"] {
            let name = HeaderName::from_static(name);
            call.headers_mut()
                .insert(name, HeaderValue::from_static("own"));
        }
        let answer = outside.checkout.caller().await.call(call).await;
        let seen = answer.seen();
        assert!(seen.target.ends_with("/v1/charges?of=today"), "{seen:?}");
        let leaked = [
            "x-forwarded-client-cert",
            "countersign-decision",
            "traceparent",
        ];
        assert!(leaked.iter().all(|name| seen.header(name).is_none()));
        if let Some(host) = host {
            let port = outside.host.address().port();
            assert_eq!(seen.header("host"), Some(&*format!("{host}:{port}")));
        }
    }
}

#[tokio::test]
async fn calls_share_connections_and_bodies_pass_both_ways() {
    for alpn in [HTTP_1, HTTP_2] {
        let outside = Outside::open("localhost", alpn).await;
        outside.declare().await;
        let mut caller = outside.checkout.h2_caller().await;
        for _ in 0..3 {
            let body = Bytes::from(vec![b'x'; 300_000]);
            let answer = caller
                .call(post("http://localhost/v1/echo", body.clone()))
                .await;
            assert_eq!((answer.status, answer.body), (StatusCode::OK, body));
        }
    }
}

#[tokio::test]
async fn a_call_on_its_way_ends_with_the_leave_to_make_it() {
    let outside = Outside::open("localhost", HTTP_1).await;
    outside.declare().await;
    let mut caller = outside.checkout.caller().await;
    let call = request(Method::GET, "http://localhost/stream");
    let mut body = caller.start(call).await.into_body();
    let first = body.frame().await.expect("a chunk");
    assert!(first.is_ok());
    outside.declare_for("shop/billing").await;
    let rest = timeout(DEADLINE, body.collect()).await;
    assert!(rest.expect("it ends in time").is_err());
}

#[tokio::test]
async fn a_websocket_leads_out() {
    let authority = Authority::new();
    // It would rather speak HTTP/2, which knows no upgrade.
    let acceptor = authority.acceptor("localhost", &[HTTP_2, HTTP_1]);
    let host = Application::websocket_over_tls(acceptor).await;
    let outside = Outside::assemble(host, &authority, &LOOPBACK).await;
    outside.declare().await;
    let proxy = TcpStream::connect(outside.checkout.outbound()).await;
    let proxy = proxy.expect("the proxy listens");
    let (mut socket, _) = client_async("ws://localhost/chat", proxy)
        .await
        .expect("open");
    let sent = socket.send(Message::text("ping")).await;
    sent.expect("writable");
    let echo = timeout(DEADLINE, socket.next()).await.expect("in time");
    let echo = echo.expect("open").expect("a message");
    assert_eq!(echo, Message::text("ping"));
}
