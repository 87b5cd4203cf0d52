//! Which proxy is at the other end of a feed connection.
//!
//! Invariant: a program may take a workload's feed only if an entry of `[[proxies]]` names its
//! uid, its executable where the entry has one, and that workload.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use identity::QualifiedName;

use crate::caller::{Caller, Executable};
use crate::config::ProxyEntry;

/// The other end.
#[derive(Clone, Debug)]
pub(crate) enum FeedPeer {
    /// Whoever holds the socket pair's other half, which this process made for one workload.
    InProcess(QualifiedName),
    Process(Arc<Caller>),
}

/// The local configuration's map from programs to workloads.
#[derive(Clone, Debug)]
pub(crate) struct ProxyMap(Arc<Vec<ProxyEntry>>);

/// Why a peer gets no feed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAProxy {
    #[error(
        "no [[proxies]] entry of the agent's configuration fits uid {uid} with this executable"
    )]
    NoEntry { uid: u32 },
    #[error("the agent's configuration does not let this proxy serve {0}")]
    OtherWorkload(QualifiedName),
    #[error("this proxy may serve several workloads: name one in `workload`")]
    Ambiguous,
    #[error("the proxy's process cannot be examined")]
    Unreadable(#[source] io::Error),
}

impl ProxyMap {
    pub(crate) fn new(entries: Vec<ProxyEntry>) -> Self {
        Self(Arc::new(entries))
    }

    /// The workload whose feed `peer` gets, given the one it asks for, if any.
    pub(crate) fn admit(
        &self,
        peer: &FeedPeer,
        asked: Option<&QualifiedName>,
    ) -> Result<QualifiedName, NotAProxy> {
        let permitted = match peer {
            FeedPeer::InProcess(workload) => BTreeSet::from([workload.clone()]),
            FeedPeer::Process(caller) => self.of_process(caller)?,
        };
        let only = || match permitted.first() {
            Some(first) if permitted.len() == 1 => Ok(first.clone()),
            _ => Err(NotAProxy::Ambiguous),
        };
        match asked {
            None => only(),
            Some(asked) if permitted.contains(asked) => Ok(asked.clone()),
            Some(asked) => Err(NotAProxy::OtherWorkload(asked.clone())),
        }
    }

    fn of_process(&self, caller: &Caller) -> Result<BTreeSet<QualifiedName>, NotAProxy> {
        let of_uid: Vec<&ProxyEntry> = self
            .0
            .iter()
            .filter(|entry| entry.uid == caller.uid)
            .collect();
        let no_entry = NotAProxy::NoEntry { uid: caller.uid };
        if of_uid.is_empty() {
            return Err(no_entry);
        }
        let executable = Executable::of(&caller.process, None).map_err(NotAProxy::Unreadable)?;
        let fits = |entry: &&&ProxyEntry| {
            entry
                .path
                .as_ref()
                .is_none_or(|path| *path == executable.path)
        };
        let workloads: BTreeSet<QualifiedName> = of_uid
            .iter()
            .filter(fits)
            .flat_map(|entry| entry.workloads.iter().cloned())
            .collect();
        if workloads.is_empty() {
            return Err(no_entry);
        }
        Ok(workloads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::Process;

    fn name(text: &str) -> QualifiedName {
        text.parse().unwrap()
    }

    fn entry(uid: u32, path: Option<&str>, workloads: &[&str]) -> ProxyEntry {
        ProxyEntry {
            uid,
            path: path.map(Into::into),
            workloads: workloads.iter().map(|text| name(text)).collect(),
        }
    }

    fn process(uid: u32) -> FeedPeer {
        FeedPeer::Process(Arc::new(Caller {
            uid,
            gid: 0,
            process: Process::open(i32::try_from(std::process::id()).unwrap()).unwrap(),
        }))
    }

    fn admit(entries: Vec<ProxyEntry>, asked: Option<&str>) -> Result<QualifiedName, NotAProxy> {
        ProxyMap::new(entries).admit(&process(7), asked.map(name).as_ref())
    }

    #[tokio::test]
    async fn uid_without_an_entry_is_refused() {
        let refused = admit(vec![entry(8, None, &["shop/orders"])], Some("shop/orders"));
        assert!(matches!(refused, Err(NotAProxy::NoEntry { uid: 7 })));
    }

    #[tokio::test]
    async fn other_executable_of_the_same_uid_is_refused() {
        let entries = vec![entry(7, Some("/usr/bin/proxy"), &["shop/orders"])];
        assert!(matches!(
            admit(entries, Some("shop/orders")),
            Err(NotAProxy::NoEntry { uid: 7 })
        ));
    }

    #[tokio::test]
    async fn workload_that_the_entry_does_not_name_is_refused() {
        let refused = admit(
            vec![entry(7, None, &["shop/orders"])],
            Some("shop/checkout"),
        );
        assert!(matches!(refused, Err(NotAProxy::OtherWorkload(_))));
    }

    #[tokio::test]
    async fn one_of_several_workloads_must_be_named() {
        let entries = vec![entry(7, None, &["shop/orders", "shop/checkout"])];
        assert!(matches!(admit(entries, None), Err(NotAProxy::Ambiguous)));
    }

    #[tokio::test]
    async fn in_process_proxy_gets_its_own_workload_only() {
        let peer = FeedPeer::InProcess(name("shop/orders"));
        let map = ProxyMap::new(Vec::new());
        assert!(map.admit(&peer, Some(&name("shop/checkout"))).is_err());
        assert_eq!(map.admit(&peer, None).unwrap(), name("shop/orders"));
    }

    #[tokio::test]
    async fn mapped_program_is_admitted() {
        let own = std::env::current_exe().unwrap();
        let entries = vec![entry(7, own.to_str(), &["shop/orders"])];
        assert_eq!(admit(entries, None).unwrap(), name("shop/orders"));
    }
}
