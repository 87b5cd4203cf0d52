//! Listening sockets that workers share, and Unix sockets whose files may be stale.

use std::fs::{self, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::net::sockopt::{set_socket_reuseaddr, set_socket_reuseport};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};

const BACKLOG: i32 = 4096;

/// The first socket of a name. It is bound as the only one, so that a port in use is an error
/// also where its user allows sharing; only then do others of this process join.
pub(super) fn first(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = stream_socket(address)?;
    set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    set_socket_reuseport(&socket, true)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// One more at an address that this process, or its predecessor, holds already.
pub(super) fn another(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = stream_socket(address)?;
    set_socket_reuseaddr(&socket, true)?;
    set_socket_reuseport(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

pub(super) fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Whether an inherited socket is where the configuration wants it.
pub(super) fn fits(bound: SocketAddr, wanted: SocketAddr) -> bool {
    bound.ip() == wanted.ip() && (wanted.port() == 0 || bound.port() == wanted.port())
}

/// Replaces a socket that nobody serves any more; leaves every other file alone.
pub(super) fn unix(path: &Path, private: bool) -> io::Result<UnixListener> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err() {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    if private {
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn stream_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(family, SocketType::STREAM, flags, None)?)
}
