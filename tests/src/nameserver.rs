//! A DNS server that says what a test tells it, over UDP.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proxy::config::Dns;
use proxy::dns::Resolver;
use runtime::Span;
use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Packet, QTYPE, RCODE, ResourceRecord, TYPE};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// Seconds that its answers may be believed.
const TTL: u32 = 1;

/// Ends with its handle.
#[derive(Debug)]
pub struct Nameserver {
    address: SocketAddr,
    said: Arc<Said>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Said {
    addresses: Mutex<Option<Vec<Ipv4Addr>>>,
    asked: AtomicUsize,
}

impl Nameserver {
    /// Every name has these addresses.
    pub async fn saying(addresses: &[Ipv4Addr]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("a bound socket has an address");
        let said = Arc::<Said>::default();
        let server = Arc::clone(&said);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                if let Some(answer) = server.answer(&buffer[..length]) {
                    // Who asked may have gone away.
                    drop(socket.send_to(&answer, peer).await);
                }
            }
        });
        let nameserver = Self {
            address,
            said,
            _tasks: tasks,
        };
        nameserver.say(addresses);
        nameserver
    }

    /// From now on every name has these; without any, there is no such name.
    pub fn say(&self, addresses: &[Ipv4Addr]) {
        *self.said.lock() = Some(addresses.to_vec());
    }

    /// From now on it fails.
    pub fn fail(&self) {
        *self.said.lock() = None;
    }

    /// How many questions have come.
    pub fn asked(&self) -> usize {
        self.said.asked.load(Ordering::Relaxed)
    }

    /// What a proxy asks it with.
    pub fn config(&self) -> Dns {
        Dns {
            servers: vec![Resolver::At(self.address)],
            shortest_ttl: Span::from(Duration::from_secs(1)),
            ..Dns::default()
        }
    }
}

impl Said {
    fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let question = Packet::parse(question).ok()?;
        let mut reply = Packet::new_reply(question.id());
        let asked = question.questions.first()?;
        reply.questions.push(asked.clone());
        match &*self.lock() {
            None => *reply.rcode_mut() = RCODE::ServerFailure,
            Some(addresses) if addresses.is_empty() => *reply.rcode_mut() = RCODE::NameError,
            Some(addresses) if asked.qtype == QTYPE::TYPE(TYPE::A) => {
                for address in addresses {
                    let data = RData::A(A::from(*address));
                    let name = asked.qname.clone();
                    let record = ResourceRecord::new(name, CLASS::IN, TTL, data);
                    reply.answers.push(record);
                }
            }
            Some(_) => {}
        }
        reply.build_bytes_vec().ok()
    }

    /// Every change under the lock is complete before anything can panic.
    fn lock(&self) -> MutexGuard<'_, Option<Vec<Ipv4Addr>>> {
        self.addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
