//! gRPC calls are tried again by the methods that a Route lists, and by gRPC's own statuses.

use http::Uri;
use hyper_util::rt::TokioIo;
use mesh_tests::application::Application;
use mesh_tests::mesh::Mesh;
use mesh_tests::waiting::eventually;
use mesh_tests::workload::Workload;
use proto::agent::v1::issuance_client::IssuanceClient;
use proto::agent::v1::{CertificateRequest, IssueRequest};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// `shop/greeter` on two hosts, one of which is ill, and `shop/visitor`, which calls it.
struct Greeters {
    ill: Application,
    visitor: Workload,
    _others: (Application, [Workload; 2], Mesh),
}

impl Greeters {
    /// `methods`: what is tried again.
    async fn open(methods: &str) -> Self {
        let mesh = Mesh::start().await;
        let (well, ill) = (Application::grpc().await, Application::grpc_ill().await);
        let host = |name: &str, application: &Application| {
            let greeter = mesh.workload("shop/greeter").on(name);
            greeter.serving("grpc", application.address())
        };
        let hosts = [host("one", &well), host("other", &ill)];
        hosts[0].register().await;
        mesh.try_apply(&objects(methods)).await.expect("valid");
        let [one, other] = hosts;
        let hosts = [one.start().await, other.start().await];
        Self {
            ill,
            visitor: mesh.workload("shop/visitor").start().await,
            _others: (well, hosts, mesh),
        }
    }

    async fn call(&self) -> Result<i64, Code> {
        let mut client = IssuanceClient::new(channel(&self.visitor).await);
        let requests = vec![CertificateRequest::default(); 3];
        let answer = client.issue(IssueRequest { requests }).await;
        let answer = answer.map_err(|status| status.code())?;
        Ok(answer.into_inner().ca_time_unix_ms)
    }
}

#[tokio::test]
async fn a_method_that_is_listed_is_tried_again_with_its_whole_message() {
    let greeters = Greeters::open("{grpc: [countersign.agent.v1.Issuance/Issue]}").await;
    eventually("the one that is ill is called", || async {
        assert_eq!(greeters.call().await, Ok(3));
        (greeters.ill.requests() > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_method_that_is_not_listed_is_not_tried_again() {
    let greeters = Greeters::open("{grpc: [countersign.agent.v1.Issuance/Other]}").await;
    eventually("the one that is ill is called", || async {
        (greeters.call().await == Err(Code::Unavailable)).then_some(())
    })
    .await;
}

fn objects(methods: &str) -> String {
    format!(
        r#"
apiVersion: countersign.dev/v1
kind: Service
metadata: {{namespace: shop, name: greeter}}
spec:
  workloads: [shop/greeter]
  ports: [{{name: grpc, port: 80, protocol: grpc, app: 8080, balance: {{algorithm: round-robin}}}}]
---
apiVersion: countersign.dev/v1
kind: Policy
metadata: {{namespace: shop, name: greeter}}
spec:
  targets: [{{service: greeter, port: grpc}}]
  allow: [{{id: visitor, from: [{{workload: shop/visitor}}]}}]
---
apiVersion: countersign.dev/v1
kind: Route
metadata: {{namespace: shop, name: greeter}}
spec:
  service: greeter
  port: grpc
  rules: [{{backends: [{{service: greeter}}], retry: {{limit: 1, on: ["503"], methods: {methods}}}}}]
"#
    )
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
