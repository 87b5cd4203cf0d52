//! Questions about other names, handed on to a resolver and its answer handed back, byte for byte.
//!
//! Invariant: an answer is taken only from the resolver that was asked, with the id that was drawn
//! for this question and the question itself (RFC 5452 section 9.1).

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use crypto::random::{Random, SystemRandom};
use serde::{Deserialize, Deserializer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::message::{HEADER, Query};

const PORT: u16 = 53;
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// As many as the C library asks (resolv.conf(5)).
const MOST: usize = 3;
/// For each resolver.
const WAIT: Duration = Duration::from_secs(2);
const RESPONSE: u8 = 0x80;

/// Where questions about other names go, as configured: `system`, an address, or address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolver {
    /// What the host's `/etc/resolv.conf` lists when the proxy starts.
    System,
    At(SocketAddr),
}

/// Neither `system` nor an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither `system` nor the address of a resolver")]
pub struct InvalidResolver(String);

/// The system lists none that could be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{RESOLV_CONF} lists no resolver other than this proxy")]
pub struct NoResolvers;

/// Hands questions on.
#[derive(Clone, Debug)]
pub(crate) struct Forwarder {
    resolvers: Vec<SocketAddr>,
}

/// How a question came, and goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    Udp,
    Tcp,
}

impl Forwarder {
    /// None if nothing is configured. `own`: our own listeners, which would ask in a circle.
    ///
    /// # Errors
    /// If the system's resolvers are wanted and there are none.
    pub(crate) fn new(
        configured: &[Resolver],
        own: &[SocketAddr],
    ) -> Result<Option<Self>, NoResolvers> {
        let mut resolvers = Vec::new();
        for resolver in configured {
            match resolver {
                Resolver::At(address) => resolvers.push(*address),
                Resolver::System => {
                    let listed = system_resolvers().filter(|it| !own.contains(it));
                    let before = resolvers.len();
                    resolvers.extend(listed);
                    if resolvers.len() == before {
                        return Err(NoResolvers);
                    }
                }
            }
        }
        resolvers.truncate(MOST);
        Ok((!resolvers.is_empty()).then_some(Self { resolvers }))
    }

    /// The first answer; none if no resolver gives one in time.
    pub(super) async fn ask(
        &self,
        message: &[u8],
        query: &Query,
        carrier: Carrier,
    ) -> Option<Vec<u8>> {
        let mut question = message.to_vec();
        let id: [u8; 2] = SystemRandom.bytes();
        question.get_mut(..2)?.copy_from_slice(&id);
        for resolver in &self.resolvers {
            let asked = async {
                match carrier {
                    Carrier::Udp => over_udp(*resolver, &question, query).await,
                    Carrier::Tcp => over_tcp(*resolver, &question, query).await,
                }
            };
            match timeout(WAIT, asked).await {
                Ok(Ok(mut answer)) => {
                    answer
                        .get_mut(..2)?
                        .copy_from_slice(&query.id.to_be_bytes());
                    return Some(answer);
                }
                Ok(Err(error)) => {
                    tracing::debug!(%error, %resolver, "the resolver does not answer")
                }
                Err(_) => tracing::debug!(%resolver, "the resolver does not answer in time"),
            }
        }
        None
    }
}

pub(crate) async fn over_udp(
    resolver: SocketAddr,
    question: &[u8],
    query: &Query,
) -> std::io::Result<Vec<u8>> {
    let any: IpAddr = match resolver {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(resolver).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if answers(&buffer[..length], question, query) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

pub(crate) async fn over_tcp(
    resolver: SocketAddr,
    question: &[u8],
    query: &Query,
) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    let length = u16::try_from(question.len()).map_err(std::io::Error::other)?;
    stream
        .write_all(&[&length.to_be_bytes(), question].concat())
        .await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    match answers(&answer, question, query) {
        true => Ok(answer),
        false => Err(std::io::Error::other(
            "the resolver answers another question",
        )),
    }
}

/// Whether it is a response to this very question; the case of its name may differ.
fn answers(answer: &[u8], question: &[u8], query: &Query) -> bool {
    let length = query.name.len() + 4;
    let same_question = || {
        let (name, rest) = answer
            .get(HEADER..HEADER + length)?
            .split_at(query.name.len());
        let kind = [query.kind.to_be_bytes(), query.class.to_be_bytes()].concat();
        Some(name.eq_ignore_ascii_case(&query.name) && rest == kind)
    };
    answer.get(..2) == question.get(..2)
        && answer.get(2).is_some_and(|flags| flags & RESPONSE != 0)
        && answer.get(4..6) == Some(&[0, 1])
        && same_question() == Some(true)
}

/// Who the host asks, as its resolv.conf(5) says now.
pub(crate) fn system_resolvers() -> impl Iterator<Item = SocketAddr> {
    let text = fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    let listed: Vec<SocketAddr> = nameservers(&text).collect();
    listed.into_iter()
}

/// `nameserver` lines of a resolv.conf(5).
fn nameservers(text: &str) -> impl Iterator<Item = SocketAddr> {
    text.lines().filter_map(|line| {
        let rest = line.trim_start().strip_prefix("nameserver")?;
        let address = rest.split_ascii_whitespace().next()?;
        let address = address.split('%').next()?.parse::<IpAddr>().ok()?;
        rest.starts_with([' ', '\t'])
            .then(|| SocketAddr::new(address, PORT))
    })
}

impl FromStr for Resolver {
    type Err = InvalidResolver;

    fn from_str(text: &str) -> Result<Self, InvalidResolver> {
        if text == "system" {
            return Ok(Self::System);
        }
        let address = text.parse::<IpAddr>().map(|it| SocketAddr::new(it, PORT));
        address
            .or_else(|_| text.parse())
            .ok()
            .filter(|it| it.port() != 0)
            .map(Self::At)
            .ok_or_else(|| InvalidResolver(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Resolver {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::message::parse;

    const QUESTION: &[u8] =
        b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x00\x00\x01\x00\x01";

    fn response() -> Vec<u8> {
        let mut response = QUESTION.to_vec();
        response[2] |= RESPONSE;
        response
    }

    #[test]
    fn texts_that_are_no_resolver_are_refused() {
        for text in ["", "System", "dns.example", "10.0.0.1:0", "10.0.0.1:"] {
            assert!(text.parse::<Resolver>().is_err(), "{text}");
        }
        let at = |text: &str| Ok(Resolver::At(text.parse().unwrap()));
        assert_eq!("10.0.0.1".parse(), at("10.0.0.1:53"));
        assert_eq!("[fd00::1]:5353".parse(), at("[fd00::1]:5353"));
    }

    #[test]
    fn an_answer_to_another_question_is_not_taken() {
        let query = parse(QUESTION).unwrap();
        for (at, byte) in [(0, 9), (2, 1), (5, 0), (14, b'y'), (QUESTION.len() - 3, 28)] {
            let mut other = response();
            other[at] = byte;
            assert!(!answers(&other, QUESTION, &query), "{at}");
        }
        assert!(!answers(&response()[..20], QUESTION, &query));
        let mut shouted = response();
        shouted[14] = b'X';
        assert!(answers(&shouted, QUESTION, &query));
    }

    #[test]
    fn nameservers_are_read_and_other_lines_are_not() {
        let text = "# nameserver 10.0.0.9\nsearch a.b\nnameserver 10.0.0.1\nnameserverx 10.0.0.2\n\
                    nameserver\tfe80::1%eth0 # local\nnameserver nonsense\n";
        let found: Vec<String> = nameservers(text).map(|it| it.to_string()).collect();
        assert_eq!(found, ["10.0.0.1:53", "[fe80::1]:53"]);
    }
}
