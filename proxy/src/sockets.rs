//! The one owner of every listening socket, by name.
//!
//! Invariants: a name has at most one address; whoever serves it gets duplicates, so that a
//! successor can be handed the originals; a port that another process listens on is refused, even
//! where it is of the same user. A Unix socket's file goes with its owner, unless a successor took
//! the socket.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

mod bind;
mod name;

pub(crate) use name::{Kind, SocketName};

/// The owner. Cheap to clone; clones own together.
#[derive(Clone, Debug)]
pub(crate) struct Sockets {
    held: Arc<Mutex<Held>>,
    workers: NonZeroUsize,
    /// Where accepting may begin.
    open: CancellationToken,
}

/// A socket as a predecessor handed it over.
#[derive(Debug)]
pub(crate) struct Inherited {
    pub(crate) name: SocketName,
    pub(crate) fd: OwnedFd,
}

/// Why a name cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("cannot listen on {address} ({name})")]
    Inet {
        name: String,
        address: SocketAddr,
        source: io::Error,
    },
    #[error("cannot listen on {} ({name})", path.display())]
    Unix {
        name: String,
        path: PathBuf,
        source: io::Error,
    },
}

#[derive(Debug, Default)]
struct Held {
    tcp: BTreeMap<SocketName, Vec<TcpListener>>,
    udp: BTreeMap<SocketName, UdpSocket>,
    unix: BTreeMap<SocketName, BoundUnix>,
    /// What this process serves; the rest was inherited and may be of no use.
    served: BTreeSet<SocketName>,
}

/// Removes its file when it is dropped, if that is still ours to remove.
#[derive(Debug)]
struct BoundUnix {
    listener: UnixListener,
    owns_file: bool,
}

impl Sockets {
    /// Owns nothing yet; accepting may begin at once.
    pub(crate) fn new(workers: NonZeroUsize) -> Self {
        let sockets = Self::inherit(workers, Vec::new());
        sockets.admit();
        sockets
    }

    /// Owns what a predecessor handed over; accepting waits for [`Sockets::admit`].
    pub(crate) fn inherit(workers: NonZeroUsize, inherited: Vec<Inherited>) -> Self {
        let mut held = Held::default();
        for Inherited { name, fd } in inherited {
            held.keep(name, fd);
        }
        Self {
            held: Arc::new(Mutex::new(held)),
            workers,
            open: CancellationToken::new(),
        }
    }

    /// Listens on `address`, with at least one socket for each worker if they share it; port 0 means that any will
    /// do, and that a port already held under this name stays. They are non-blocking. Worker `i`
    /// of `n` must serve those whose index is `i` modulo `n`: a socket that nobody serves keeps
    /// its share of the callers waiting.
    ///
    /// Nothing may be accepted before [`Sockets::admitted`] resolves.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub(crate) fn tcp(
        &self,
        name: &SocketName,
        address: SocketAddr,
    ) -> Result<Vec<TcpListener>, BindError> {
        let mut held = self.lock();
        let workers = if name.is_shared() {
            self.workers.get()
        } else {
            1
        };
        held.listen(name, address, workers)
            .map_err(|source| BindError::Inet {
                name: name.to_string(),
                address,
                source,
            })
    }

    /// Receives at `address`; non-blocking, and served as [`Sockets::tcp`] says.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub(crate) fn udp(
        &self,
        name: &SocketName,
        address: SocketAddr,
    ) -> Result<UdpSocket, BindError> {
        let mut held = self.lock();
        held.receive(name, address)
            .map_err(|source| BindError::Inet {
                name: name.to_string(),
                address,
                source,
            })
    }

    /// Listens on a Unix socket, which only its owner may connect to if it is `private`. A socket
    /// that nobody serves any more is replaced; every other file is left alone. Non-blocking, and
    /// served as [`Sockets::tcp`] says.
    ///
    /// # Errors
    /// If the path cannot be had.
    pub(crate) fn unix(
        &self,
        name: &SocketName,
        path: &Path,
        private: bool,
    ) -> Result<UnixListener, BindError> {
        let mut held = self.lock();
        held.listen_unix(name, path, private)
            .map_err(|source| BindError::Unix {
                name: name.to_string(),
                path: path.to_owned(),
                source,
            })
    }

    /// Resolves when connections may be accepted: at once, unless this process takes over from
    /// another and is not ready yet.
    pub(crate) async fn admitted(&self) {
        self.open.cancelled().await;
    }

    /// Lets accepting begin, and owns what was inherited from now on, but for what nobody here
    /// serves: that is closed, or callers would wait there for ever.
    pub(crate) fn admit(&self) {
        let mut held = self.lock();
        let Held {
            tcp,
            udp,
            unix,
            served,
        } = &mut *held;
        tcp.retain(|name, _| served.contains(name));
        udp.retain(|name, _| served.contains(name));
        unix.retain(|name, _| served.contains(name));
        for bound in unix.values_mut() {
            bound.owns_file = true;
        }
        self.open.cancel();
    }

    pub(crate) fn address(&self, name: &SocketName) -> Option<SocketAddr> {
        let held = self.lock();
        held.tcp.get(name)?.first()?.local_addr().ok()
    }

    /// Stops owning one name. The port is free once those who serve it have let go too.
    pub(crate) fn close(&self, name: &SocketName) {
        let mut held = self.lock();
        held.tcp.remove(name);
        held.udp.remove(name);
        held.unix.remove(name);
        held.served.remove(name);
    }

    /// Stops owning anything.
    pub(crate) fn close_all(&self) {
        *self.lock() = Held::default();
    }

    /// Stops owning anything, and leaves the files of Unix sockets to the successor.
    pub(crate) fn abandon(&self) {
        let mut held = self.lock();
        for bound in held.unix.values_mut() {
            bound.owns_file = false;
        }
        *held = Held::default();
    }

    /// Duplicates of everything, for a successor.
    ///
    /// # Errors
    /// If the process is out of descriptors.
    pub(crate) fn duplicate(&self) -> io::Result<Vec<Inherited>> {
        let held = self.lock();
        held.all()
            .map(|(name, fd)| {
                Ok(Inherited {
                    name: name.clone(),
                    fd: fd.try_clone_to_owned()?,
                })
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // No code between lock and unlock leaves a half-made value behind.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn listen(
        &mut self,
        name: &SocketName,
        address: SocketAddr,
        workers: usize,
    ) -> io::Result<Vec<TcpListener>> {
        self.served.insert(name.clone());
        let mut listeners = self.tcp.remove(name).unwrap_or_default();
        if !listeners
            .iter()
            .all(|it| it.local_addr().is_ok_and(|at| bind::fits(at, address)))
        {
            listeners.clear();
        }
        if listeners.is_empty() {
            listeners.push(bind::first(address)?);
        }
        let bound = listeners[0].local_addr()?;
        while listeners.len() < workers {
            listeners.push(bind::another(bound)?);
        }
        let served = listeners.iter().map(TcpListener::try_clone).collect();
        self.tcp.insert(name.clone(), listeners);
        served
    }

    fn receive(&mut self, name: &SocketName, address: SocketAddr) -> io::Result<UdpSocket> {
        self.served.insert(name.clone());
        let held = self.udp.remove(name);
        let held = held.filter(|it| it.local_addr().is_ok_and(|at| bind::fits(at, address)));
        let socket = match held {
            Some(socket) => socket,
            None => bind::udp(address)?,
        };
        let served = socket.try_clone();
        self.udp.insert(name.clone(), socket);
        served
    }

    fn listen_unix(
        &mut self,
        name: &SocketName,
        path: &Path,
        private: bool,
    ) -> io::Result<UnixListener> {
        self.served.insert(name.clone());
        if let Some(bound) = self.unix.get(name)
            && bound.path().as_deref() == Some(path)
        {
            return bound.listener.try_clone();
        }
        let bound = BoundUnix {
            listener: bind::unix(path, private)?,
            owns_file: true,
        };
        let served = bound.listener.try_clone();
        self.unix.insert(name.clone(), bound);
        served
    }

    fn keep(&mut self, name: SocketName, fd: OwnedFd) {
        match name.kind() {
            Kind::Unix => {
                let bound = BoundUnix {
                    listener: fd.into(),
                    owns_file: false,
                };
                self.unix.insert(name, bound);
            }
            Kind::Udp => {
                self.udp.insert(name, fd.into());
            }
            Kind::Tcp => self.tcp.entry(name).or_default().push(fd.into()),
        }
    }

    fn all(&self) -> impl Iterator<Item = (&SocketName, BorrowedFd<'_>)> {
        let tcp = self
            .tcp
            .iter()
            .flat_map(|(name, listeners)| listeners.iter().map(move |it| (name, it.as_fd())));
        let udp = self.udp.iter().map(|(name, it)| (name, it.as_fd()));
        let unix = self
            .unix
            .iter()
            .map(|(name, it)| (name, it.listener.as_fd()));
        tcp.chain(udp).chain(unix)
    }
}

impl BoundUnix {
    fn path(&self) -> Option<PathBuf> {
        let address = self.listener.local_addr().ok()?;
        address.as_pathname().map(Path::to_owned)
    }
}

impl Drop for BoundUnix {
    fn drop(&mut self) {
        if let Some(path) = self.path().filter(|_| self.owns_file) {
            // A file left behind is replaced by the next start.
            drop(std::fs::remove_file(path));
        }
    }
}

#[cfg(test)]
mod tests;
