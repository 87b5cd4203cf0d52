use std::sync::Arc;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, RCODE, ResourceRecord};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use super::*;

/// What a server answers, over which carrier.
type Answers = fn(&Packet<'_>, bool) -> Vec<u8>;

struct Server {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(answers: Answers) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            // The port may be taken over TCP.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (Arc::new(udp), tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut buffer = [0; 512];
            loop {
                let (length, peer) = udp.recv_from(&mut buffer).await.unwrap();
                let question = Packet::parse(&buffer[..length]).unwrap();
                udp.send_to(&answers(&question, false), peer).await.unwrap();
            }
        });
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut question).await.unwrap();
                let answer = answers(&Packet::parse(&question).unwrap(), true);
                stream.write_u16(answer.len() as u16).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        Self {
            address,
            _tasks: tasks,
        }
    }
}

fn reply<'a>(question: &Packet<'a>) -> Packet<'a> {
    let mut reply = Packet::new_reply(question.id());
    reply.questions = question.questions.clone();
    reply
}

fn address(question: &Packet<'_>, is_tcp: bool) -> Vec<u8> {
    let mut reply = reply(question);
    let name = Name::new_unchecked("db.example").into_owned();
    let data = RData::A(simple_dns::rdata::A {
        address: u32::from_be_bytes([10, 0, 0, if is_tcp { 2 } else { 1 }]),
    });
    reply
        .answers
        .push(ResourceRecord::new(name, CLASS::IN, 60, data));
    reply.build_bytes_vec().unwrap()
}

fn truncated_over_udp(question: &Packet<'_>, is_tcp: bool) -> Vec<u8> {
    if is_tcp {
        return address(question, is_tcp);
    }
    let mut reply = reply(question);
    reply.set_flags(PacketFlag::TRUNCATION);
    reply.build_bytes_vec().unwrap()
}

fn failing(question: &Packet<'_>, _is_tcp: bool) -> Vec<u8> {
    let mut reply = reply(question);
    *reply.rcode_mut() = RCODE::ServerFailure;
    reply.build_bytes_vec().unwrap()
}

async fn look_up(servers: &[&Server], name: &str) -> Heard {
    let servers = servers.iter().map(|it| Resolver::At(it.address));
    let resolvers = Resolvers::new(servers.collect(), Vec::new());
    let name = HostName::new(name).unwrap();
    resolvers.look_up(&name, Family::V4).await
}

fn found(last: u8) -> Heard {
    Heard::Addresses {
        addresses: vec![IpAddr::from([10, 0, 0, last])],
        ttl: Duration::from_secs(60),
    }
}

#[tokio::test]
async fn nobody_asked_is_a_failure_and_so_is_a_server_that_fails() {
    assert_eq!(look_up(&[], "db.example").await, Heard::Failed);
    let server = Server::start(failing).await;
    assert_eq!(look_up(&[&server], "db.example").await, Heard::Failed);
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_fails() {
    let (one, other) = (Server::start(failing).await, Server::start(address).await);
    assert_eq!(look_up(&[&one, &other], "db.example").await, found(1));
}

#[tokio::test]
async fn what_is_too_long_for_a_datagram_comes_over_tcp() {
    let server = Server::start(truncated_over_udp).await;
    assert_eq!(look_up(&[&server], "db.example").await, found(2));
}

#[tokio::test]
async fn this_host_is_never_asked_for() {
    let local = look_up(&[], "db.localhost").await;
    let expected = vec![IpAddr::from([127, 0, 0, 1])];
    assert!(matches!(local, Heard::Addresses { addresses, .. } if addresses == expected));
}

#[test]
fn the_hosts_file_is_read_word_by_word() {
    let text = "10.0.0.1 db.example db # 10.0.0.9 other\n::1 other\n# 10.0.0.2 db\nnonsense db\n";
    let of = |name| {
        listed(text, name)
            .map(|it| it.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(of("example"), Vec::<String>::new());
    assert_eq!(
        (of("DB"), of("other")),
        (vec!["10.0.0.1".to_owned()], vec!["::1".to_owned()])
    );
}
