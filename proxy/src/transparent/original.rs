//! Where a redirected connection was going, as the kernel's connection tracking remembers it.
//!
//! Refused: a connection that was made to the listener itself, or that the kernel does not track.
//! To carry it on would call the proxy in a circle.

use std::io;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{getsockopt, sockopt};

/// No redirect brought this connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRedirected {
    #[error("the connection was made to the redirect port {0} itself")]
    Direct(SocketAddr),
    #[error("the kernel tracks no redirect of this connection")]
    Untracked,
    #[error("the kernel could not be asked where the connection was going")]
    Unknown(#[source] io::Error),
}

/// Where the peer of an accepted socket wanted to go. `local` is the accepted socket's own
/// address.
///
/// # Errors
/// If that was here, or cannot be told.
pub(crate) fn original_destination(
    socket: &impl AsFd,
    local: SocketAddr,
) -> Result<SocketAddr, NotRedirected> {
    let local = canonical(local);
    let original = match local {
        SocketAddr::V4(_) => getsockopt(socket, sockopt::OriginalDst).map(ipv4),
        SocketAddr::V6(_) => getsockopt(socket, sockopt::Ip6tOriginalDst).map(ipv6),
    };
    judge(original, local)
}

fn judge(
    original: Result<SocketAddr, Errno>,
    local: SocketAddr,
) -> Result<SocketAddr, NotRedirected> {
    match original {
        Ok(original) if original == local => Err(NotRedirected::Direct(local)),
        Ok(original) => Ok(original),
        Err(Errno::ENOENT | Errno::ENOPROTOOPT) => Err(NotRedirected::Untracked),
        Err(error) => Err(NotRedirected::Unknown(error.into())),
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn ipv4(raw: libc::sockaddr_in) -> SocketAddr {
    let address = u32::from_be(raw.sin_addr.s_addr).into();
    SocketAddrV4::new(address, u16::from_be(raw.sin_port)).into()
}

fn ipv6(raw: libc::sockaddr_in6) -> SocketAddr {
    let address = raw.sin6_addr.s6_addr.into();
    SocketAddrV6::new(address, u16::from_be(raw.sin6_port), 0, 0).into()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[track_caller]
    fn refused(address: &str) {
        let listener = TcpListener::bind(address).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let found = original_destination(&server, server.local_addr().unwrap());
        // A kernel that tracks connections says where it went, another that it does not know.
        assert!(
            matches!(
                found,
                Err(NotRedirected::Direct(_) | NotRedirected::Untracked)
            ),
            "{found:?}"
        );
    }

    #[test]
    fn a_connection_to_the_redirect_port_itself_is_refused() {
        refused("127.0.0.1:0");
        refused("[::1]:0");
    }

    #[test]
    fn only_another_address_than_our_own_is_a_destination() {
        let local = "127.0.0.1:15001".parse().unwrap();
        let service = "240.0.0.1:80".parse().unwrap();
        assert!(matches!(
            judge(Ok(local), local),
            Err(NotRedirected::Direct(_))
        ));
        assert!(matches!(
            judge(Err(Errno::ENOENT), local),
            Err(NotRedirected::Untracked)
        ));
        assert!(matches!(
            judge(Err(Errno::EPERM), local),
            Err(NotRedirected::Unknown(_))
        ));
        assert_eq!(judge(Ok(service), local).unwrap(), service);
    }

    #[test]
    fn addresses_are_read_in_network_order() {
        let raw = libc::sockaddr_in {
            sin_family: 2,
            sin_port: 80u16.to_be(),
            sin_addr: libc::in_addr {
                s_addr: u32::from_be_bytes([240, 0, 0, 1]).to_be(),
            },
            sin_zero: [0; 8],
        };
        assert_eq!(ipv4(raw), "240.0.0.1:80".parse().unwrap());
    }
}
