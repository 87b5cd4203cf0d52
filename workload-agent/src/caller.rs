//! Who is at the other end of a Unix socket, as the kernel tells it.
//!
//! Invariant: what is read about a process counts only if the process was still alive after it was
//! read, so a recycled pid is never mistaken for the caller. uid and gid come from the socket
//! alone. Refused: callers from another pid namespace, callers that have gone.

mod executable;
mod process;
mod spawned;

use std::io;

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};
use tokio::net::UnixStream;

pub(crate) use executable::{Digests, Executable};
pub(crate) use process::Process;
pub(crate) use spawned::Spawned;

/// The process that connected.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) process: Process,
}

impl Caller {
    /// Asks the kernel who connected. Call it right after accepting.
    pub(crate) fn of(stream: &UnixStream) -> Result<Self, CallerUnknown> {
        let peer = getsockopt(stream, sockopt::PeerCredentials)
            .map_err(|errno| CallerUnknown::Credentials(errno.into()))?;
        if peer.pid() == 0 {
            return Err(CallerUnknown::OtherPidNamespace);
        }
        let process = match getsockopt(stream, sockopt::PeerPidfd) {
            Ok(pidfd) => Process::from_pidfd(peer.pid(), pidfd),
            // Kernels before 6.5.
            Err(Errno::ENOPROTOOPT) => Process::accepted_just_now(peer.pid()),
            Err(errno) => Err(errno.into()),
        };
        Ok(Self {
            uid: peer.uid(),
            gid: peer.gid(),
            process: process.map_err(CallerUnknown::Process)?,
        })
    }
}

/// Why a caller cannot be identified.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallerUnknown {
    #[error("the kernel does not say who is calling")]
    Credentials(#[source] io::Error),
    #[error("the caller lives in another pid namespace; run the agent in the host's (hostPID)")]
    OtherPidNamespace,
    #[error("the calling process cannot be held on to")]
    Process(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn caller_is_the_process_at_the_other_end() {
        let directory = tempfile::tempdir().unwrap();
        let listener = tokio::net::UnixListener::bind(directory.path().join("s")).unwrap();
        let _client = UnixStream::connect(directory.path().join("s"))
            .await
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let caller = Caller::of(&stream).unwrap();
        assert_eq!(caller.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(
            caller.process.pid(),
            i32::try_from(std::process::id()).unwrap()
        );
        assert!(caller.process.is_alive());
    }
}
