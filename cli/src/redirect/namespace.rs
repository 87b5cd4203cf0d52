//! The network namespace that is worked in, and what it must allow.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::PathBuf;
use std::str::FromStr;
use std::thread;

use nix::sched::{CloneFlags, setns};

/// `CAP_NET_ADMIN` of capability.h.
const NET_ADMIN: u32 = 12;

/// A name of `ip netns`, or a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NamespaceName {
    Named(String),
    Process(u32),
}

#[derive(Debug, thiserror::Error)]
pub(super) enum NamespaceError {
    #[error("there is no network namespace at {}", path.display())]
    Absent { path: PathBuf, source: io::Error },
    #[error("cannot enter the network namespace at {} (this needs CAP_SYS_ADMIN)", path.display())]
    Enter {
        path: PathBuf,
        source: nix::errno::Errno,
    },
    #[error("redirecting needs CAP_NET_ADMIN: run as root, or grant the capability")]
    NotPermitted,
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    #[error("the work ended without a result")]
    Panicked,
}

/// Works in `name`, on a thread of its own, since a thread that has entered does not return.
pub(super) fn inside<T: Send + 'static>(
    name: Option<NamespaceName>,
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let Some(name) = name else {
        return work();
    };
    let worker = thread::Builder::new()
        .name("netns".to_owned())
        .spawn(move || {
            name.enter()?;
            work()
        });
    let worker = worker.map_err(NamespaceError::Thread)?;
    worker.join().map_err(|_| NamespaceError::Panicked)?
}

/// # Errors
/// If this thread may not change the rules of the network.
pub(super) fn require_net_admin() -> Result<(), NamespaceError> {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|it| it.strip_prefix("CapEff:"));
    let set = line.and_then(|it| u64::from_str_radix(it.trim(), 16).ok());
    match set {
        Some(set) if set >> NET_ADMIN & 1 == 1 => Ok(()),
        _ => Err(NamespaceError::NotPermitted),
    }
}

/// A connection is redirected only after the kernel has found a route for it; warns of those
/// families that have none.
pub(super) fn unroutable() -> Vec<String> {
    let families: [(&str, IpAddr, IpAddr); 2] = [
        (
            "240.0.0.0/4",
            Ipv4Addr::UNSPECIFIED.into(),
            Ipv4Addr::new(240, 0, 0, 1).into(),
        ),
        (
            "fd00::/8",
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).into(),
        ),
    ];
    let unroutable = families.into_iter().filter(|(_, any, service)| {
        // Connecting a datagram socket asks for the route, and sends nothing.
        let socket = UdpSocket::bind((*any, 0));
        socket.and_then(|it| it.connect((*service, 9))).is_err()
    });
    unroutable
        .map(|(range, ..)| {
            format!(
                "warning: no route leads to {range}, where the Services' addresses are, so calls \
                 to them fail before they can be redirected; a default route will do"
            )
        })
        .collect()
}

impl NamespaceName {
    fn path(&self) -> PathBuf {
        match self {
            Self::Named(name) => PathBuf::from("/run/netns").join(name),
            Self::Process(pid) => PathBuf::from(format!("/proc/{pid}/ns/net")),
        }
    }

    fn enter(&self) -> Result<(), NamespaceError> {
        let path = self.path();
        let file = File::open(&path).map_err(|source| NamespaceError::Absent {
            path: path.clone(),
            source,
        })?;
        setns(&file, CloneFlags::CLONE_NEWNET)
            .map_err(|source| NamespaceError::Enter { path, source })
    }
}

impl FromStr for NamespaceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(pid) = text.parse() {
            return Ok(Self::Process(pid));
        }
        let plain = |it: char| it.is_ascii_alphanumeric() || "-_.".contains(it);
        match !text.is_empty() && !text.starts_with('.') && text.chars().all(plain) {
            true => Ok(Self::Named(text.to_owned())),
            false => Err("a name of `ip netns list`, or a process id".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_out_of_the_directory_are_refused() {
        for text in ["", "..", "../4711", "a/b", ".hidden"] {
            assert!(text.parse::<NamespaceName>().is_err(), "{text}");
        }
        assert_eq!("4711".parse(), Ok(NamespaceName::Process(4711)));
        assert_eq!(
            "pod-1".parse(),
            Ok(NamespaceName::Named("pod-1".to_owned()))
        );
    }

    #[test]
    fn a_namespace_that_is_not_there_is_refused_by_its_path() {
        let name = "countersign-no-such-namespace".parse().ok();
        let error = inside(name, || Ok(())).unwrap_err();
        let found = error.downcast_ref::<NamespaceError>();
        assert!(
            matches!(found, Some(NamespaceError::Absent { .. })),
            "{error}"
        );
    }
}
