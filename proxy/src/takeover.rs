//! A new proxy process takes the listening sockets of the one before it, so that no caller finds
//! the port closed.
//!
//! Invariants: both processes are of one uid, as the kernel says; the new one accepts nothing
//! before its credentials and policy are live; the old one stops accepting only when it is told
//! that they are. Whatever goes wrong before that leaves the old one as it was.
//!
//! The protocol, on a Unix stream socket: both sides send a preamble with their version. The
//! successor says which workload it serves; the predecessor lists its sockets by name and passes
//! them (`SCM_RIGHTS`). When the successor is ready it says so; the predecessor lets go of what
//! it passed, says so, and drains.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use identity::QualifiedName;
use serde::{Deserialize, Serialize};

use crate::sockets::SocketName;

mod desk;
mod line;
mod successor;

pub(crate) use desk::{Desk, HandedOver};
pub(crate) use successor::{Predecessor, relieve};

/// Spoken by this version. Another major number is refused.
const VERSION: Version = Version { major: 1, minor: 0 };

/// For everything but becoming ready.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Of the takeover protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    pub major: u16,
    pub minor: u16,
}

/// Why sockets do not change hands. The predecessor goes on as before.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    #[error("cannot connect to the running proxy at {}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("the process at the other end (pid {pid}) is of uid {theirs}, not {ours}")]
    OtherUser { pid: i32, theirs: u32, ours: u32 },
    #[error("the other process speaks takeover version {}.{}, this one {}.{}", theirs.major, theirs.minor, VERSION.major, VERSION.minor)]
    Version { theirs: Version },
    #[error("the other process does not speak the takeover protocol")]
    NotTakeover,
    #[error("the running proxy refuses: {0}")]
    Refused(Refusal),
    #[error("the other process said something that was not due: {0}")]
    Unexpected(&'static str),
    #[error("a message of {0} bytes is too long")]
    TooLong(u32),
    #[error("a message cannot be read")]
    Message(#[from] serde_json::Error),
    #[error("{listed} sockets were listed and {received} received")]
    Count { listed: usize, received: usize },
    #[error("what was passed as {0} is no such listening socket")]
    NotListening(String),
    #[error("not ready to serve within {}", humantime::format_duration(*within))]
    NotReady { within: Duration },
    #[error("the other process did not answer in time")]
    Slow,
    #[error("the other process is gone")]
    Io(#[from] io::Error),
}

/// Why a predecessor hands over nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    #[error("it serves {0}")]
    OtherWorkload(QualifiedName),
    #[error("another process is taking over")]
    Busy,
    #[error("it is draining")]
    Draining,
}

/// What a successor says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FromSuccessor {
    Ask {
        workload: QualifiedName,
        product: String,
    },
    Ready,
}

/// What a predecessor says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FromPredecessor {
    /// Descriptors follow, in this order.
    Sockets(Vec<String>),
    Refused(Refusal),
    /// It accepts nothing more.
    Released,
}

/// Names of a newer version are none of ours, and their sockets are closed.
fn known(name: &str) -> Option<SocketName> {
    name.parse().ok()
}

#[cfg(test)]
mod tests;
