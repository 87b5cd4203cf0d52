//! How far a revocation reaches: streams that were upgraded, and proxies whose agents are connected
//! to different replicas. Each kind ends what is open.

use futures_util::{SinkExt, StreamExt};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use mesh_tests::application::Application;
use mesh_tests::caller::{Caller, request};
use mesh_tests::mesh::Mesh;
use mesh_tests::operator::CaProcess;
use mesh_tests::replicas::Replicas;
use mesh_tests::shop::{CHECKOUT_MAY_CALL, ORDERS, SERVICE, Shop};
use mesh_tests::waiting::{DEADLINE, eventually};
use mesh_tests::workload::Workload;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

const CHAT: &str = "ws://orders.shop.mesh.internal/v1/chat";
const CONNECT: &[u8] = b"CONNECT orders.shop.mesh.internal:80 HTTP/1.1\r\n\
    host: orders.shop.mesh.internal:80\r\n\r\n";
const CONNECTED: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

/// What of a workload is revoked.
#[derive(Clone, Copy)]
enum Kind {
    Identity,
    Serial,
    Authority,
    Agent,
}

impl Kind {
    /// `authorities` is what `GET /v1/authorities` says; `replica` the one that signs for it.
    fn wish(self, workload: &Workload, authorities: &Value, replica: Option<&str>) -> Value {
        let (kind, subject) = match self {
            Self::Identity => ("identity", workload.spiffe_id.to_string()),
            Self::Serial => ("serial", workload.serial()),
            Self::Authority => ("authority", intermediate(authorities, replica)),
            Self::Agent => {
                let id = workload.agent.status().borrow().agent_id.clone();
                ("agent", id.expect("it has attested").to_string())
            }
        };
        json!({"kind": kind, "subject": subject, "reason": "stolen"})
    }
}

fn intermediate(authorities: &Value, replica: Option<&str>) -> String {
    let all = authorities["intermediates"].as_array();
    let mut all = all.expect("a list").iter().rev();
    let signs = all.find(|it| replica.is_none_or(|replica| it["replica"] == replica));
    let key = signs.and_then(|it| it["keyId"].as_str());
    key.expect("one signs").to_owned()
}

#[tokio::test]
async fn upgraded_streams_are_cut_when_the_identity_is_revoked() {
    upgraded_streams_are_cut_by(Kind::Identity).await;
}

#[tokio::test]
async fn upgraded_streams_are_cut_when_the_certificate_is_revoked() {
    upgraded_streams_are_cut_by(Kind::Serial).await;
}

#[tokio::test]
async fn upgraded_streams_are_cut_when_the_authority_is_revoked() {
    upgraded_streams_are_cut_by(Kind::Authority).await;
}

#[tokio::test]
async fn upgraded_streams_are_cut_when_the_agent_is_revoked() {
    upgraded_streams_are_cut_by(Kind::Agent).await;
}

/// A WebSocket, another through a tunnel, and a stream of HTTP/2.
async fn upgraded_streams_are_cut_by(kind: Kind) {
    let shop = Shop::open_before(Application::websocket().await).await;
    let dial = || TcpStream::connect(shop.checkout.outbound());
    let mut plain = chat(dial().await.expect("the proxy listens")).await;
    let mut tunnelled = chat(tunnel(dial().await.expect("the proxy listens")).await).await;
    revoke(&shop.mesh, kind, &shop.checkout).await;
    for socket in [&mut plain, &mut tunnelled] {
        let ended = timeout(DEADLINE, async {
            while let Some(Ok(_)) = socket.next().await {}
        });
        ended.await.expect("it is cut");
    }
    let shop = Shop::open().await;
    let mut body = stream(&mut shop.checkout.h2_caller().await).await;
    revoke(&shop.mesh, kind, &shop.checkout).await;
    ends(&mut body).await;
}

async fn tunnel(mut socket: TcpStream) -> TcpStream {
    socket.write_all(CONNECT).await.expect("writable");
    let mut answer = [0; CONNECTED.len()];
    socket.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(answer, CONNECTED);
    socket
}

async fn chat(socket: TcpStream) -> WebSocketStream<TcpStream> {
    let (mut socket, _) = client_async(CHAT, socket).await.expect("open");
    let said = Message::text("ping");
    socket.send(said.clone()).await.expect("writable");
    let back = timeout(DEADLINE, socket.next()).await.expect("in time");
    assert_eq!(back.expect("open").expect("a message"), said);
    socket
}

async fn stream(caller: &mut Caller) -> Incoming {
    let wish = request(Method::GET, &format!("{ORDERS}/stream"));
    let mut body = caller.start(wish).await.into_body();
    let first = body.frame().await.expect("a first chunk");
    first.expect("it arrives");
    body
}

async fn ends(body: &mut Incoming) {
    let ended = timeout(DEADLINE, async {
        while let Some(Ok(_)) = body.frame().await {}
    });
    ended.await.expect("the stream ends");
}

async fn revoke(mesh: &Mesh, kind: Kind, workload: &Workload) {
    let authorities = mesh.admin().get("/v1/authorities").await.expect("listed");
    let wish = kind.wish(workload, &authorities, None);
    let revoked = mesh.admin().post("/v1/revocations", &wish).await;
    revoked.expect("it is revoked");
}

#[tokio::test]
async fn what_is_open_between_agents_of_two_replicas_is_cut_by_every_kind_through_either() {
    let Some((_mesh, replicas)) = Replicas::start(2).await else {
        return;
    };
    let application = Application::http().await;
    let orders = serve(&replicas[1], &application).await;
    let kinds = [Kind::Serial, Kind::Authority, Kind::Identity, Kind::Agent];
    for (number, kind) in kinds.into_iter().enumerate() {
        let checkout = replicas[0].workload("shop/checkout");
        let checkout = checkout.on(&format!("host-{number}")).start().await;
        served(&checkout).await;
        let mut body = stream(&mut checkout.caller().await).await;
        let through = &replicas[number % 2];
        let wish = {
            let authorities = through.admin().get("/v1/authorities").await;
            kind.wish(&checkout, &authorities.expect("listed"), Some("ca-1"))
        };
        let revoked = through.admin().post("/v1/revocations", &wish).await;
        revoked.expect("it is revoked");
        ends(&mut body).await;
        lift(through, &wish).await;
        served(&checkout).await;
    }
    drop(orders);
}

/// `shop/orders` on a host whose agent is connected to the replica.
async fn serve(replica: &CaProcess, application: &Application) -> Workload {
    let orders = replica.workload("shop/orders").on("b");
    let orders = orders.serving("http", application.address());
    orders.register().await;
    for object in [SERVICE, CHECKOUT_MAY_CALL] {
        replica.try_apply(object).await.expect("it is valid");
    }
    orders.start().await
}

async fn served(checkout: &Workload) {
    eventually("calls pass", || async {
        let mut caller = checkout.caller().await;
        let answer = caller.get(&format!("{ORDERS}/v1/orders")).await;
        (answer.status == StatusCode::OK).then_some(())
    })
    .await;
}

/// What was replaced since needs no lifting, and is good all the same.
async fn lift(through: &CaProcess, wish: &Value) {
    let part = |name: &str| wish[name].as_str().expect("text").to_owned();
    let subject = part("subject").replace(':', "%3A").replace('/', "%2F");
    let path = format!("/v1/revocations/{}/{subject}", part("kind"));
    through.admin().delete(&path).await.expect("it was revoked");
}
