//! Answers over UDP and TCP (RFC 1035, RFC 7766).
//!
//! Invariant: what waits for the agent or for a resolver is bounded; a question beyond that is
//! answered with a failure at once, and costs nothing more.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::forward::{Carrier, Forwarder};
use super::message::{Answer, Code, Query, Refused, encode, parse};
use super::names::Names;
use super::zone::{self, Known, Subject};

/// Questions that wait for somebody.
const MOST_WAITING: usize = 256;
/// Connections at once, for each listener.
const MOST_CONNECTIONS: usize = 64;
/// Between two questions of one connection.
const IDLE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST: usize = u16::MAX as usize;

/// Bound, and not served yet.
#[derive(Debug)]
pub(crate) struct DnsSockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

/// The server. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    names: Names,
    forwarder: Option<Arc<Forwarder>>,
    waiting: Arc<Semaphore>,
}

impl DnsSockets {
    /// Two sockets at one address, non-blocking.
    ///
    /// # Errors
    /// If they cannot be served.
    pub(crate) fn bound(udp: std::net::UdpSocket, tcp: std::net::TcpListener) -> io::Result<Self> {
        Ok(Self {
            udp: UdpSocket::from_std(udp)?,
            tcp: TcpListener::from_std(tcp)?,
        })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }
}

impl Server {
    pub(crate) fn new(names: Names, forwarder: Option<Forwarder>) -> Self {
        Self {
            names,
            forwarder: forwarder.map(Arc::new),
            waiting: Arc::new(Semaphore::new(MOST_WAITING)),
        }
    }

    /// Answers until `stop`.
    ///
    /// # Errors
    /// Never; a socket that fails is tried again.
    pub(crate) async fn run(
        self,
        sockets: DnsSockets,
        stop: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let udp = Arc::new(sockets.udp);
        tokio::select! {
            () = stop => Ok(()),
            never = self.datagrams(&udp) => never,
            never = self.connections(&sockets.tcp) => never,
        }
    }

    async fn datagrams(&self, socket: &Arc<UdpSocket>) -> io::Result<()> {
        let mut buffer = vec![0; LONGEST];
        let mut answering = JoinSet::new();
        loop {
            let received = tokio::select! {
                received = socket.recv_from(&mut buffer) => received,
                Some(_) = answering.join_next() => continue,
            };
            let Ok((length, peer)) = received else {
                // An earlier answer that found nobody; the socket itself stays good.
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let (this, socket) = (self.clone(), Arc::clone(socket));
            let message = buffer[..length].to_vec();
            answering.spawn(async move {
                if let Some(answer) = this.answer(&message, Carrier::Udp).await {
                    // Who asked may have gone away.
                    drop(socket.send_to(&answer, peer).await);
                }
            });
        }
    }

    async fn connections(&self, listener: &TcpListener) -> io::Result<()> {
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = open.join_next() => {}
                accepted = listener.accept(), if open.len() < MOST_CONNECTIONS => match accepted {
                    Ok((stream, _)) => {
                        let this = self.clone();
                        open.spawn(async move { this.connection(stream).await });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a DNS connection");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
    }

    /// One question after the other, until the client ends or idles.
    async fn connection(&self, mut stream: TcpStream) {
        while let Ok(Ok(message)) = timeout(IDLE, read(&mut stream)).await {
            let Some(answer) = self.answer(&message, Carrier::Tcp).await else {
                return;
            };
            let Ok(length) = u16::try_from(answer.len()) else {
                return;
            };
            let framed = [&length.to_be_bytes(), answer.as_slice()].concat();
            if !matches!(timeout(IDLE, stream.write_all(&framed)).await, Ok(Ok(()))) {
                return;
            }
        }
    }

    async fn answer(&self, message: &[u8], carrier: Carrier) -> Option<Vec<u8>> {
        let recursive = self.forwarder.is_some();
        let query = match parse(message) {
            Ok(query) => query,
            Err(Refused::Silently) => return None,
            Err(Refused::With(code, query)) => {
                return Some(encode(&query, &Answer::bare(code), LONGEST, recursive));
            }
        };
        let limit = match carrier {
            Carrier::Udp => query.udp_limit(),
            Carrier::Tcp => LONGEST,
        };
        let subject = Subject::of(&query);
        if let (Subject::Elsewhere, Some(forwarder)) = (&subject, &self.forwarder) {
            let answered = self.forwarded(forwarder, message, &query, carrier).await;
            return Some(answered.unwrap_or_else(|| {
                encode(&query, &Answer::bare(Code::ServerFailure), limit, recursive)
            }));
        }
        let known = match &subject {
            Subject::Service(service) => match self.waiting.try_acquire() {
                Ok(_place) => self.names.look_up(service).await,
                Err(_) => Known::NotYet,
            },
            _ => Known::Missing,
        };
        let answer = zone::answer(&query, &subject, known);
        Some(encode(&query, &answer, limit, recursive))
    }

    async fn forwarded(
        &self,
        forwarder: &Forwarder,
        message: &[u8],
        query: &Query,
        carrier: Carrier,
    ) -> Option<Vec<u8>> {
        let _place = self.waiting.try_acquire().ok()?;
        forwarder.ask(message, query, carrier).await
    }
}

async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

#[cfg(test)]
mod tests;
