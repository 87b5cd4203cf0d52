//! Over real sockets, with another implementation's messages.

use std::collections::BTreeSet;

use identity::QualifiedName;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, QTYPE, Question, RCODE, TYPE};
use tokio::sync::watch;

use super::*;
use crate::feed::assembly::Assembly;
use crate::state::MeshState;
use crate::transport::routing::Wants;

const ENOUGH: Duration = Duration::from_secs(10);

struct TestServer {
    address: SocketAddr,
    states: watch::Sender<Arc<MeshState>>,
    wanted: watch::Receiver<Arc<BTreeSet<QualifiedName>>>,
    _running: JoinSet<io::Result<()>>,
}

impl TestServer {
    async fn start(wait: Duration, resolvers: &[SocketAddr]) -> Self {
        let (states, seen) = watch::channel(Arc::new(MeshState::empty()));
        let wants = Wants::new();
        let wanted = wants.subscribe();
        let resolvers: Vec<_> = resolvers
            .iter()
            .map(|it| crate::dns::Resolver::At(*it))
            .collect();
        let forwarder = Forwarder::new(&resolvers, &[]).unwrap();
        let server = Server::new(Names::new(seen, wants, wait), forwarder);
        let sockets = bound();
        let address = sockets.address().unwrap();
        let mut running = JoinSet::new();
        running.spawn(server.run(sockets, std::future::pending()));
        Self {
            address,
            states,
            wanted,
            _running: running,
        }
    }

    /// Says that shop/orders exists and shop/gone does not.
    fn configure(&self) {
        self.states.send_replace(Arc::new(state()));
    }

    async fn udp(&self, message: &[u8]) -> Vec<u8> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(message, self.address).await.unwrap();
        let mut buffer = [0; 4096];
        let received = timeout(ENOUGH, socket.recv(&mut buffer)).await;
        buffer[..received.unwrap().unwrap()].to_vec()
    }

    async fn tcp(&self, message: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = u16::try_from(message.len()).unwrap();
        stream.write_u16(length).await.unwrap();
        stream.write_all(message).await.unwrap();
        timeout(ENOUGH, read(&mut stream)).await.unwrap().unwrap()
    }

    async fn code(&self, name: &str) -> RCODE {
        let answer = self.udp(&question(name, TYPE::A)).await;
        Packet::parse(&answer).unwrap().rcode()
    }
}

fn state() -> MeshState {
    use proto::mesh::v1;
    let yaml = "apiVersion: countersign.dev/v1\nkind: Service\n\
                metadata: {namespace: shop, name: orders}\n\
                spec: {workloads: [shop/orders], ports: [{name: http, port: 80, protocol: http}]}";
    let mut assembly = Assembly::new("shop/checkout".parse().unwrap());
    let welcome = v1::Welcome {
        spiffe_id: "spiffe://test.example/ns/shop/sa/checkout".to_owned(),
        ..v1::Welcome::default()
    };
    assembly.welcome(&welcome).unwrap();
    let object = policy::parse_documents(yaml).unwrap().remove(0);
    let refused = assembly.configuration(&v1::Configuration {
        revision: Some(v1::Revision {
            epoch: 1,
            number: 1,
        }),
        engine_version: policy::ENGINE_VERSION,
        id_template: "/ns/{namespace}/sa/{name}".to_owned(),
        objects: vec![v1::Object {
            kind: "Service".to_owned(),
            namespace: "shop".to_owned(),
            name: "orders".to_owned(),
            json: object.to_json().to_string(),
            addresses: vec!["240.0.0.1".to_owned(), "fd00::1".to_owned()],
            ..v1::Object::default()
        }],
        decision_key: vec![7; 32],
        unknown_services: vec!["gone.shop".to_owned()],
        ..v1::Configuration::default()
    });
    assert_eq!(refused, None);
    assembly.state()
}

fn question(name: &str, kind: TYPE) -> Vec<u8> {
    let mut packet = Packet::new_query(7);
    let name = Name::new_unchecked(name);
    packet.questions.push(Question::new(
        name,
        QTYPE::TYPE(kind),
        CLASS::IN.into(),
        false,
    ));
    packet.build_bytes_vec().unwrap()
}

#[tokio::test]
async fn names_of_others_are_refused_where_nothing_is_configured() {
    let server = TestServer::start(ENOUGH, &[]).await;
    assert_eq!(server.code("example.com").await, RCODE::Refused);
}

#[tokio::test]
async fn a_name_that_the_agent_says_nothing_of_is_a_failure_after_the_wait() {
    let server = TestServer::start(Duration::from_millis(20), &[]).await;
    assert_eq!(
        server.code("new.shop.mesh.internal").await,
        RCODE::ServerFailure
    );
    let asked = server
        .wanted
        .borrow()
        .contains(&"shop/new".parse().unwrap());
    assert!(asked);
}

#[tokio::test]
async fn a_service_that_does_not_exist_has_no_name() {
    let server = TestServer::start(ENOUGH, &[]).await;
    server.configure();
    assert_eq!(
        server.code("gone.shop.mesh.internal").await,
        RCODE::NameError
    );
}

#[tokio::test]
async fn a_new_name_waits_for_the_agents_answer() {
    let mut server = TestServer::start(ENOUGH, &[]).await;
    let (address, states) = (server.address, server.states.clone());
    let asked = server.wanted.wait_for(|it| !it.is_empty());
    let told = async {
        asked.await.unwrap();
        states.send_replace(Arc::new(state()));
    };
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let message = question("orders.shop.mesh.internal", TYPE::A);
    socket.send_to(&message, address).await.unwrap();
    let mut buffer = [0; 512];
    let both = async { tokio::join!(socket.recv(&mut buffer), told) };
    let (length, ()) = timeout(ENOUGH, both).await.unwrap();

    let answer = Packet::parse(&buffer[..length.unwrap()]).unwrap();

    assert!(matches!(&answer.answers[0].rdata, RData::A(a) if a.address == 0xf000_0001));
}

#[tokio::test]
async fn both_carriers_give_both_families() {
    let server = TestServer::start(ENOUGH, &[]).await;
    server.configure();
    let message = question("orders.shop.mesh.internal", TYPE::AAAA);
    for answer in [server.udp(&message).await, server.tcp(&message).await] {
        let answer = Packet::parse(&answer).unwrap();
        let expected = u128::from("fd00::1".parse::<std::net::Ipv6Addr>().unwrap());
        assert!(matches!(&answer.answers[0].rdata, RData::AAAA(a) if a.address == expected));
    }
}

#[tokio::test]
async fn names_of_others_are_handed_on_and_a_resolver_that_lies_is_not_heard() {
    let upstream = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = TestServer::start(ENOUGH, &[upstream.local_addr().unwrap()]).await;
    let message = question("example.com", TYPE::A);
    let resolver = async {
        let mut buffer = [0; 512];
        let (length, peer) = upstream.recv_from(&mut buffer).await.unwrap();
        let mut answer = buffer[..length].to_vec();
        answer[2] |= 0x80;
        let mut forged = answer.clone();
        forged[0] ^= 1;
        forged[3] = 5;
        upstream.send_to(&forged, peer).await.unwrap();
        answer[3] = 3;
        upstream.send_to(&answer, peer).await.unwrap();
    };
    let (answer, ()) = tokio::join!(server.udp(&message), resolver);
    let answer = Packet::parse(&answer).unwrap();
    assert_eq!((answer.id(), answer.rcode()), (7, RCODE::NameError));
}

fn bound() -> DnsSockets {
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = std::net::UdpSocket::bind(tcp.local_addr().unwrap()).unwrap();
    tcp.set_nonblocking(true).unwrap();
    udp.set_nonblocking(true).unwrap();
    DnsSockets::bound(udp, tcp).unwrap()
}
