//! Who is at the other end of a loopback connection, as the kernel knows it.
//!
//! Invariant: only an ESTABLISHED socket that still has an inode answers the question. A peer
//! that has closed reports uid 0 and inode 0, and is refused; so is everything that the kernel
//! cannot say.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr as KernelAddress};

/// `TCP_ESTABLISHED` of the kernel's `tcp_states.h`.
const ESTABLISHED: u8 = 1;
const ANY_COOKIE: [u8; 8] = [0xff; 8];
const ANSWER: usize = 4096;

/// Knows who may call, and asks the kernel who does. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct CallerGuard {
    allowed: Arc<BTreeSet<u32>>,
    kernel: Arc<Mutex<Kernel>>,
}

/// Not one of those who may call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotLocal {
    #[error("uid {0} is not one of those that may call through this proxy")]
    OtherUser(u32),
    #[error("the kernel knows no live socket at the other end")]
    Gone,
    #[error("the kernel could not be asked")]
    Unknown(#[source] io::Error),
}

impl CallerGuard {
    /// # Errors
    /// If the kernel has no socket diagnostics for us.
    pub(crate) fn new(allowed: BTreeSet<u32>) -> io::Result<Self> {
        Ok(Self {
            allowed: Arc::new(allowed),
            kernel: Arc::new(Mutex::new(Kernel::open()?)),
        })
    }

    /// Checks the other end of an accepted loopback connection.
    ///
    /// # Errors
    /// If it is not a live socket of an allowed user.
    pub(crate) fn check(&self, peer: SocketAddr, local: SocketAddr) -> Result<u32, NotLocal> {
        let answer = {
            let mut kernel = self.kernel.lock().unwrap_or_else(PoisonError::into_inner);
            kernel.ask(peer, local).map_err(NotLocal::Unknown)?
        };
        match answer {
            Some(owner) if owner.inode != 0 && owner.state == ESTABLISHED => {
                self.check_uid(owner.uid)
            }
            _ => Err(NotLocal::Gone),
        }
    }

    /// Checks the peer of a Unix socket.
    ///
    /// # Errors
    /// If it is not an allowed user.
    pub(crate) fn check_uid(&self, uid: u32) -> Result<u32, NotLocal> {
        if self.allowed.contains(&uid) {
            Ok(uid)
        } else {
            Err(NotLocal::OtherUser(uid))
        }
    }
}

/// A socket of the kernel's diagnostics; it answers while it is asked.
#[derive(Debug)]
struct Kernel {
    socket: Socket,
    /// Of the last question. An answer carries its question's, so that one which was left unread
    /// is never taken for the answer about somebody else.
    sequence: u32,
}

struct Owner {
    state: u8,
    uid: u32,
    inode: u32,
}

impl Kernel {
    fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        socket.connect(&KernelAddress::new(0, 0))?;
        socket.set_non_blocking(true)?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// The socket whose own address is `source` and whose peer is `destination`.
    fn ask(&mut self, source: SocketAddr, destination: SocketAddr) -> io::Result<Option<Owner>> {
        self.send(source, destination)?;
        self.answer()
    }

    fn send(&mut self, source: SocketAddr, destination: SocketAddr) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let (source, destination) = (plain(source), plain(destination));
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST;
        header.sequence_number = self.sequence;
        let family = if source.is_ipv4() { AF_INET } else { AF_INET6 };
        let request = SockDiagMessage::InetRequest(InetRequest {
            family,
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::all(),
            socket_id: SocketId {
                source_port: source.port(),
                destination_port: destination.port(),
                source_address: source.ip(),
                destination_address: destination.ip(),
                interface_id: 0,
                cookie: ANY_COOKIE,
            },
        });
        let mut message = NetlinkMessage::new(header, request.into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(drop)
    }

    /// The kernel answers before `send` returns, so nothing is waited for: no answer is an error.
    fn answer(&self) -> io::Result<Option<Owner>> {
        loop {
            let mut answer = Vec::with_capacity(ANSWER);
            self.socket.recv(&mut answer, 0)?;
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(&answer)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            if message.header.sequence_number == self.sequence {
                return owner(message.payload);
            }
        }
    }
}

fn owner(answer: NetlinkPayload<SockDiagMessage>) -> io::Result<Option<Owner>> {
    match answer {
        NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => Ok(Some(Owner {
            state: response.header.state,
            uid: response.header.uid,
            inode: response.header.inode,
        })),
        NetlinkPayload::Error(error) if error.to_io().kind() == io::ErrorKind::NotFound => Ok(None),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        _ => Ok(None),
    }
}

/// An IPv4 address that came over an IPv6 socket is IPv4 to the kernel.
fn plain(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use nix::unistd::geteuid;

    use super::*;

    fn pair() -> (TcpStream, TcpStream, SocketAddr, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, peer) = listener.accept().unwrap();
        let local = server.local_addr().unwrap();
        (client, server, peer, local)
    }

    #[test]
    fn a_caller_of_another_uid_is_refused() {
        let own = geteuid().as_raw();
        let guard = CallerGuard::new([own + 1].into()).unwrap();
        let (_client, _server, peer, local) = pair();
        assert!(matches!(guard.check(peer, local), Err(NotLocal::OtherUser(uid)) if uid == own));
    }

    #[test]
    fn a_caller_that_has_closed_is_refused_even_where_root_may_call() {
        let guard = CallerGuard::new([0, geteuid().as_raw()].into()).unwrap();
        let (client, _server, peer, local) = pair();
        drop(client);
        assert!(matches!(guard.check(peer, local), Err(NotLocal::Gone)));
    }

    #[test]
    fn an_address_without_a_socket_is_refused() {
        let guard = CallerGuard::new([0, geteuid().as_raw()].into()).unwrap();
        let (_client, _server, _, local) = pair();
        let nobody = "127.0.0.1:1".parse().unwrap();
        assert!(matches!(guard.check(nobody, local), Err(NotLocal::Gone)));
    }

    #[test]
    fn an_answer_that_was_left_unread_is_not_taken_for_the_next_caller() {
        let mut kernel = Kernel::open().unwrap();
        let (_client, _server, peer, local) = pair();
        kernel.send(peer, local).unwrap();
        let nobody = "127.0.0.1:1".parse().unwrap();
        assert!(kernel.ask(nobody, local).unwrap().is_none());
    }

    #[test]
    fn a_live_caller_of_an_allowed_uid_passes() {
        let own = geteuid().as_raw();
        let guard = CallerGuard::new([own].into()).unwrap();
        let (_client, _server, peer, local) = pair();
        assert_eq!(guard.check(peer, local).unwrap(), own);
    }
}
