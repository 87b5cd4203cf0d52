//! gRPC that is none: garbage frames and messages at the CA's agent listener and at the Workload
//! API. The process answers the next good call.

use bytes::Bytes;
use http::Request;
use identity::JoinToken;
use mesh_tests::mesh::Mesh;
use mesh_tests::raw::{Client, say_locally};
use mesh_tests::stranger::join;
use mesh_tests::waiting::DEADLINE;
use mesh_tests::workload::Workload;
use runtime::Clock;
use rustls::version::TLS13;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Code;
use workload_api::{Endpoint, X509Source};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FETCH: &str = "http://localhost/SpiffeWorkloadAPI/FetchX509SVID";
const ATTEST: &str = "https://localhost/countersign.agent.v1.Attestation/Attest";

#[tokio::test]
async fn garbage_frames_end_a_connection_to_the_ca_and_nothing_else() {
    let mesh = Mesh::start().await;
    for garbage in garbage() {
        let mut tls = anonymous(&mesh).await;
        // The end may come before all of it is written.
        drop(tls.write_all(&garbage).await);
        drop(tls.flush().await);
        let end = timeout(DEADLINE, tls.read_to_end(&mut Vec::new())).await;
        drop(end.expect("the connection ends"));
    }
    let token: JoinToken = mesh
        .join_token("web-7", &[])
        .await
        .parse()
        .expect("a token");
    join(&token, &mesh.time()).await;
}

#[tokio::test]
async fn garbage_frames_end_a_workload_connection_and_nothing_else() {
    let mesh = Mesh::start().await;
    let workload = mesh.workload("shop/orders").by_uid().start().await;
    for garbage in garbage() {
        say_locally(&workload.workload_api(), &garbage).await;
    }
    assert_hands_out_identities(&workload).await;
}

#[tokio::test]
async fn a_message_that_is_no_message_is_refused_by_the_ca() {
    let mesh = Mesh::start().await;
    for message in messages() {
        let code = call(anonymous(&mesh).await, ATTEST, message.clone()).await;
        assert!(is_refusal(code), "{message:?}: {code:?}");
    }
    let token: JoinToken = mesh
        .join_token("web-7", &[])
        .await
        .parse()
        .expect("a token");
    join(&token, &mesh.time()).await;
}

#[tokio::test]
async fn a_message_that_is_no_message_is_refused_by_the_workload_api() {
    let mesh = Mesh::start().await;
    let workload = mesh.workload("shop/orders").by_uid().start().await;
    for message in messages() {
        let socket = UnixStream::connect(workload.workload_api()).await;
        let code = call(socket.expect("the agent listens"), FETCH, message.clone()).await;
        assert!(is_refusal(code), "{message:?}: {code:?}");
    }
    assert_hands_out_identities(&workload).await;
}

/// What HTTP/2 does not allow (RFC 9113).
fn garbage() -> Vec<Vec<u8>> {
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0].as_slice();
    [
        vec![0xff; 4096],
        [PREFACE, &[0xff; 4096]].concat(),
        // HEADERS on stream 1 with a block that HPACK cannot have.
        [PREFACE, settings, &[0, 0, 4, 1, 5, 0, 0, 0, 1], &[0xff; 4]].concat(),
        // DATA on stream 0.
        [PREFACE, settings, &[0, 0, 1, 0, 0, 0, 0, 0, 0, 7]].concat(),
        // SETTINGS of a length that is no multiple of six.
        [PREFACE, &[0, 0, 5, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat(),
    ]
    .into()
}

/// What gRPC's framing, or the schema, does not allow.
fn messages() -> [Bytes; 4] {
    [
        // Field 1 is a message of ten bytes, of which there is one.
        Bytes::from_static(&[0, 0, 0, 0, 3, 0x0a, 10, 1]),
        // Wire type 7 does not exist.
        Bytes::from_static(&[0, 0, 0, 0, 1, 0x0f]),
        // Said to be compressed, and nobody agreed to that.
        Bytes::from_static(&[1, 0, 0, 0, 1, 0]),
        // Four gigabytes are announced.
        Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff, 0]),
    ]
}

fn is_refusal(code: Code) -> bool {
    use Code::{Internal, InvalidArgument, OutOfRange, ResourceExhausted, Unimplemented, Unknown};
    let refusals = [
        Internal,
        InvalidArgument,
        OutOfRange,
        ResourceExhausted,
        Unimplemented,
        Unknown,
    ];
    refusals.contains(&code)
}

async fn anonymous(mesh: &Mesh) -> impl AsyncRead + AsyncWrite + Unpin + Send + use<> {
    let client = Client {
        chain: Vec::new(),
        key: None,
        version: &TLS13,
    };
    let tls = client.connect(mesh.ca.agents_address()).await;
    tls.expect("a certificate is not asked for at first")
}

/// The status of a call whose request body is `message`.
async fn call(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    url: &str,
    message: Bytes,
) -> Code {
    let (sender, connection) = h2::client::handshake(io).await.expect("HTTP/2");
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let mut sender = sender.ready().await.expect("open");
    let request = Request::post(url)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("workload.spiffe.io", "true")
        .body(())
        .expect("a valid request");
    let (answer, mut body) = sender.send_request(request, false).expect("open");
    body.send_data(message, true).expect("open");
    let answer = timeout(DEADLINE, answer).await.expect("in time");
    let (head, mut body) = answer.expect("an answer").into_parts();
    let trailers = async {
        while let Some(Ok(_)) = body.data().await {}
        body.trailers().await.ok().flatten()
    };
    let trailers = timeout(DEADLINE, trailers).await.expect("in time");
    let fields = trailers.unwrap_or(head.headers);
    let status = fields.get("grpc-status").expect("a gRPC status");
    Code::from_bytes(status.as_bytes())
}

async fn assert_hands_out_identities(workload: &Workload) {
    let endpoint = Endpoint::Unix(workload.workload_api());
    let source = X509Source::start(endpoint, Clock::system());
    let context = timeout(DEADLINE, source.wait_ready()).await;
    let context = context.expect("in time").expect("an identity");
    let identity = &context.default_identity().svid;
    assert_eq!(*identity.spiffe_id(), workload.spiffe_id);
}
