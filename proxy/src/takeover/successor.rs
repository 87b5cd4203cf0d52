//! The new proxy's side: asks for the sockets, and relieves the one before when it can serve.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use identity::QualifiedName;
use rustix::net::AddressFamily;
use rustix::net::sockopt::{socket_acceptconn, socket_domain};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::line::Line;
use super::{FromPredecessor, FromSuccessor, TakeoverError, known};
use crate::config::Takeover;
use crate::sockets::{Inherited, Kind, SocketName, Sockets};

/// The proxy that serves until we are ready.
#[derive(Debug)]
pub(crate) struct Predecessor {
    line: Line,
}

impl Predecessor {
    /// Asks the proxy at `path` for its sockets. `None` if nobody is there.
    ///
    /// # Errors
    /// If it is not ours to relieve, or does not hand over what it lists.
    pub(crate) async fn ask(
        path: &Path,
        workload: &QualifiedName,
    ) -> Result<Option<(Self, Vec<Inherited>)>, TakeoverError> {
        let stream = match UnixStream::connect(path).await {
            Ok(stream) => stream,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(source) => {
                let path = path.to_owned();
                return Err(TakeoverError::Connect { path, source });
            }
        };
        let mut line = Line::open(stream).await?;
        let ask = FromSuccessor::Ask {
            workload: workload.clone(),
            product: concat!("countersign-proxy/", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        line.send(&ask).await?;
        let names = match line.answer().await? {
            FromPredecessor::Sockets(names) => names,
            FromPredecessor::Refused(why) => return Err(TakeoverError::Refused(why)),
            FromPredecessor::Released => {
                return Err(TakeoverError::Unexpected("`released` before `sockets`"));
            }
        };
        let descriptors = line.take(names.len()).await?;
        let inherited = names.iter().zip(descriptors);
        let inherited = inherited
            .filter_map(|(name, fd)| Some(examine(known(name)?, fd)))
            .collect::<Result<_, _>>()?;
        Ok(Some((Self { line }, inherited)))
    }

    async fn release(mut self) -> Result<(), TakeoverError> {
        self.line.send(&FromSuccessor::Ready).await?;
        match self.line.answer().await? {
            FromPredecessor::Released => Ok(()),
            FromPredecessor::Sockets(_) | FromPredecessor::Refused(_) => {
                Err(TakeoverError::Unexpected("something else than `released`"))
            }
        }
    }
}

/// Waits until this process can serve, begins to, and tells the predecessor. One that dies
/// meanwhile leaves callers to nobody, so that serving begins at once.
///
/// # Errors
/// If this process is not ready in time. The predecessor goes on then.
pub(crate) async fn relieve(
    mut predecessor: Predecessor,
    config: &Takeover,
    sockets: &Sockets,
    ready: impl Future<Output = ()>,
) -> Result<(), TakeoverError> {
    let within = config.ready_within.duration();
    let alone = tokio::select! {
        ready = timeout(within, ready) => {
            ready.map_err(|_| TakeoverError::NotReady { within })?;
            false
        }
        () = predecessor.line.gone() => true,
    };
    sockets.admit();
    if alone {
        tracing::warn!("the proxy before this one is gone; serving at once");
        return Ok(());
    }
    match predecessor.release().await {
        Ok(()) => tracing::info!("this proxy has taken over"),
        Err(error) => {
            let error = runtime::exit::one_line(&error);
            tracing::warn!(error, "serving, but the proxy before did not say goodbye");
        }
    }
    Ok(())
}

fn examine(name: SocketName, fd: OwnedFd) -> Result<Inherited, TakeoverError> {
    let family = socket_domain(&fd).map_err(io::Error::from)?;
    let is_inet = family == AddressFamily::INET || family == AddressFamily::INET6;
    let listens = socket_acceptconn(&fd).map_err(io::Error::from)?;
    let fits = match name.kind() {
        Kind::Unix => family == AddressFamily::UNIX && listens,
        Kind::Tcp => is_inet && listens,
        Kind::Udp => is_inet && !listens,
    };
    if !fits {
        return Err(TakeoverError::NotListening(name.to_string()));
    }
    Ok(Inherited { name, fd })
}

/// No socket, or one that nobody serves any more.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}
