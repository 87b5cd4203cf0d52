//! The protocols of callers: keep-alive HTTP/1.1, HTTP/2 with prior knowledge, gRPC.

use http::{StatusCode, Uri};
use hyper_util::rt::TokioIo;
use mesh_tests::application::Application;
use mesh_tests::echo;
use mesh_tests::mesh::Mesh;
use mesh_tests::shop::{NOBODY_MAY_CALL, ORDERS, Shop};
use mesh_tests::waiting::DEADLINE;
use mesh_tests::workload::Workload;
use proto::agent::v1::configuration_watch_client::ConfigurationWatchClient;
use proto::agent::v1::issuance_client::IssuanceClient;
use proto::agent::v1::{AgentMessage, CaMessage, CertificateRequest, Hello, IssueRequest};
use proto::agent::v1::{agent_message, ca_message};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

#[tokio::test]
async fn a_change_takes_effect_between_two_requests_of_one_connection() {
    let shop = Shop::open().await;
    for mut caller in [
        shop.checkout.caller().await,
        shop.checkout.h2_caller().await,
    ] {
        shop.mesh.apply(mesh_tests::shop::CHECKOUT_MAY_CALL).await;
        let before = caller.get(&format!("{ORDERS}/v1/orders")).await;
        shop.mesh.apply(NOBODY_MAY_CALL).await;
        let after = caller.get(&format!("{ORDERS}/v1/orders")).await;
        let statuses = (before.status, after.status);
        assert_eq!(statuses, (StatusCode::OK, StatusCode::FORBIDDEN));
    }
}

#[tokio::test]
async fn an_http2_caller_is_told_why_it_is_refused() {
    let shop = Shop::open().await;
    let intruder = shop.intruder().await;
    let mut caller = intruder.h2_caller().await;
    let answer = caller.get(&format!("{ORDERS}/v1/orders")).await;
    let refusal = (answer.status, answer.reason());
    assert_eq!(refusal, (StatusCode::FORBIDDEN, Some("policy-denied")));
}

#[tokio::test]
async fn calls_of_one_http2_connection_run_side_by_side() {
    let shop = Shop::open().await;
    let caller = shop.checkout.h2_caller().await;
    let streams: Vec<_> = futures_util::future::join_all((0..100).map(|_| {
        let mut caller = caller.another();
        async move {
            let stream = http::Method::GET;
            let stream = mesh_tests::caller::request(stream, &format!("{ORDERS}/stream"));
            caller.start(stream).await
        }
    }))
    .await;
    let open = streams.iter().filter(|it| it.status() == StatusCode::OK);
    assert_eq!(open.count(), 100);
}

#[tokio::test]
async fn a_grpc_call_that_nobody_allowed_is_refused_in_grpcs_way() {
    let mesh = Mesh::start().await;
    let _greeter = greeter(&mesh).await;
    let intruder = mesh.workload("shop/intruder").start().await;
    let mut client = IssuanceClient::new(channel(&intruder).await);
    let refused = client.issue(IssueRequest::default()).await;
    let status = refused.expect_err("no rule names the intruder");
    assert_eq!(status.code(), Code::PermissionDenied);
    let reason = status.metadata().get("countersign-reason");
    assert_eq!(reason.expect("it says why"), "policy-denied");
}

#[tokio::test]
async fn a_unary_grpc_call_is_answered() {
    let mesh = Mesh::start().await;
    let _greeter = greeter(&mesh).await;
    let visitor = mesh.workload("shop/visitor").start().await;
    let mut client = IssuanceClient::new(channel(&visitor).await);
    let requests = vec![CertificateRequest::default(); 3];
    let answer = client.issue(IssueRequest { requests }).await;
    let answer = answer.expect("it is permitted").into_inner();
    assert_eq!(answer.ca_time_unix_ms, 3);
}

#[tokio::test]
async fn a_grpc_stream_talks_both_ways_and_ends_with_the_applications_status() {
    let mesh = Mesh::start().await;
    let _greeter = greeter(&mesh).await;
    let visitor = mesh.workload("shop/visitor").start().await;
    let mut client = ConfigurationWatchClient::new(channel(&visitor).await);
    let (say, said) = mpsc::channel(1);
    let answers = client.watch(ReceiverStream::new(said)).await;
    let mut answers = answers.expect("it is permitted").into_inner();
    for name in ["first", "second"] {
        say.send(hello(name)).await.expect("the stream is open");
        let answer = timeout(DEADLINE, answers.message()).await.expect("in time");
        let answer = answer.expect("no failure").expect("not the end");
        assert_eq!(greeted(answer), name);
    }
    say.send(AgentMessage::default()).await.expect("open");
    let ended = timeout(DEADLINE, answers.message()).await.expect("in time");
    assert_eq!(ended.expect_err("refused").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_grpc_stream_ends_when_policy_forbids_it() {
    let mesh = Mesh::start().await;
    let _greeter = greeter(&mesh).await;
    let visitor = mesh.workload("shop/visitor").start().await;
    let mut client = ConfigurationWatchClient::new(channel(&visitor).await);
    let (say, said) = mpsc::channel(1);
    say.send(hello("first"))
        .await
        .expect("the channel has room");
    let answers = client.watch(ReceiverStream::new(said)).await;
    let mut answers = answers.expect("it is permitted").into_inner();
    mesh.delete("/v1/policies/shop/greeter").await;
    let ended = timeout(DEADLINE, async {
        while let Ok(Some(_)) = answers.message().await {}
    });
    ended.await.expect("the stream ends");
    say.send(hello("second")).await.expect_err("nobody listens");
}

/// `shop/greeter`, which `shop/visitor` may call.
async fn greeter(mesh: &Mesh) -> (Workload, Application) {
    let application = Application::grpc().await;
    let greeter = mesh
        .workload("shop/greeter")
        .serving("grpc", application.address());
    greeter.register().await;
    let (unary, streaming) = (echo::UNARY, echo::STREAMING);
    let objects = format!(
        r#"
apiVersion: countersign.dev/v1
kind: Service
metadata: {{namespace: shop, name: greeter}}
spec:
  workloads: [shop/greeter]
  ports: [{{name: grpc, port: 80, protocol: grpc, app: 8080}}]
---
apiVersion: countersign.dev/v1
kind: Policy
metadata: {{namespace: shop, name: greeter}}
spec:
  targets: [{{service: greeter, port: grpc}}]
  allow:
  - id: visitor
    from: [{{workload: shop/visitor}}]
    to: {{http: [{{methods: [POST], path: "{unary}/{{method}}"}}, {{methods: [POST], path: "{streaming}/{{method}}"}}]}}
"#
    );
    mesh.try_apply(&objects).await.expect("valid");
    (greeter.start().await, application)
}

async fn channel(workload: &Workload) -> Channel {
    let outbound = workload.outbound();
    let connect =
        service_fn(
            move |_: Uri| async move { TcpStream::connect(outbound).await.map(TokioIo::new) },
        );
    let endpoint = Endpoint::from_static("http://greeter.shop.mesh.internal");
    let channel = endpoint.connect_with_connector(connect).await;
    channel.expect("the proxy listens")
}

fn hello(product: &str) -> AgentMessage {
    let hello = Hello {
        product: product.to_owned(),
        ..Hello::default()
    };
    AgentMessage {
        message: Some(agent_message::Message::Hello(hello)),
    }
}

#[track_caller]
fn greeted(message: CaMessage) -> String {
    match message.message {
        Some(ca_message::Message::Greeting(greeting)) => greeting.replica,
        other => panic!("not a greeting: {other:?}"),
    }
}
