//! Where hosts with names are: their addresses, kept fresh while somebody follows them.
//!
//! Invariant: nobody looks a name up on a call's way. A name is followed from the first
//! [`Discovery::resolve`] on, its answers are believed as long as they say (within bounds), and
//! when its resolvers fail, what was known before stays for a bounded time.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::dns::message;

mod driver;
mod lookup;
mod places;
mod slot;

pub(crate) use driver::Driver;
pub(crate) use lookup::Resolvers;
pub(crate) use places::Places;
pub(crate) use slot::Bounds;

/// More names than this are not followed.
const MOST_NAMES: usize = 1024;

/// Follows names for the whole process. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Discovery {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Grows with each change of any name.
    version: watch::Sender<u64>,
    followed: Mutex<HashMap<HostName, watch::Sender<Resolved>>>,
    /// There are names that the driver does not know yet.
    news: Notify,
}

/// A name that DNS may know: in small letters, without a final dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct HostName(Arc<str>);

/// What is known of a name at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// Nobody has answered yet.
    Pending,
    /// In their order, each once; at least one.
    Addresses(Arc<[IpAddr]>),
    /// There is no such name, or it has no address.
    Nothing,
    /// Nobody answers, and what was known before is too old.
    Failed,
}

impl Discovery {
    pub(crate) fn new() -> Self {
        Self {
            inner: Arc::new(Inner {
                version: watch::Sender::new(0),
                followed: Mutex::default(),
                news: Notify::new(),
            }),
        }
    }

    /// The addresses of a host, now and as long as the receiver lives. An IP address is its own,
    /// for good; a text that is no host name has none.
    pub(crate) fn resolve(&self, host: &str) -> watch::Receiver<Resolved> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return watch::channel(Resolved::Addresses(Arc::from([address]))).1;
        }
        let Some(name) = HostName::new(host) else {
            return watch::channel(Resolved::Nothing).1;
        };
        let mut followed = self.followed();
        if let Some(known) = followed.get(&name) {
            return known.subscribe();
        }
        if followed.len() >= MOST_NAMES {
            tracing::warn!(%name, "more than {MOST_NAMES} names are followed already");
            return watch::channel(Resolved::Failed).1;
        }
        let sender = watch::Sender::new(Resolved::Pending);
        let receiver = sender.subscribe();
        followed.insert(name, sender);
        self.inner.news.notify_one();
        receiver
    }

    /// Changes with each change of any name.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.inner.version.subscribe()
    }

    pub(crate) fn version(&self) -> u64 {
        *self.inner.version.borrow()
    }

    /// Says what is known of a name now. Returns false if nobody has followed it lately.
    fn publish(&self, name: &HostName, resolved: Resolved) {
        let changed = self.followed().get(name).is_some_and(|sender| {
            sender.send_if_modified(|known| {
                let changed = *known != resolved;
                *known = resolved;
                changed
            })
        });
        if changed {
            self.inner.version.send_modify(|version| *version += 1);
        }
    }

    /// The names that are followed, and whether anybody waits for news of them.
    fn names(&self) -> Vec<(HostName, bool)> {
        let followed = self.followed();
        let names = followed.iter();
        names
            .map(|(name, sender)| (name.clone(), sender.receiver_count() > 0))
            .collect()
    }

    /// Forgets a name, unless somebody follows it. Returns whether it did.
    fn forget(&self, name: &HostName) -> bool {
        let mut followed = self.followed();
        let unused = |sender: &watch::Sender<Resolved>| sender.receiver_count() == 0;
        let forgets = followed.get(name).is_some_and(unused);
        if forgets {
            followed.remove(name);
        }
        forgets
    }

    /// Every change under the lock is complete before anything can panic.
    fn followed(&self) -> MutexGuard<'_, HashMap<HostName, watch::Sender<Resolved>>> {
        let followed = self.inner.followed.lock();
        followed.unwrap_or_else(PoisonError::into_inner)
    }
}

impl HostName {
    fn new(text: &str) -> Option<Self> {
        message::host_name(text)?;
        let text = text.strip_suffix('.').unwrap_or(text);
        Some(Self(text.to_ascii_lowercase().into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Resolved {
    pub(crate) fn addresses(&self) -> &[IpAddr] {
        match self {
            Self::Addresses(addresses) => addresses,
            Self::Pending | Self::Nothing | Self::Failed => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_host_name_has_no_address_and_is_not_followed() {
        let discovery = Discovery::new();
        assert_eq!(*discovery.resolve("a b").borrow(), Resolved::Nothing);
        let itself = discovery.resolve("10.0.0.7");
        assert_eq!(
            itself.borrow().addresses(),
            ["10.0.0.7".parse::<IpAddr>().unwrap()]
        );
        assert_eq!(discovery.names(), []);
    }

    #[test]
    fn all_who_follow_a_name_hear_of_it_and_only_a_change_is_news() {
        let discovery = Discovery::new();
        let (one, other) = (
            discovery.resolve("db.example"),
            discovery.resolve("DB.example."),
        );
        let name = HostName::new("db.example").unwrap();
        for _ in 0..2 {
            discovery.publish(&name, Resolved::Nothing);
        }
        assert_eq!(
            (one.borrow().clone(), discovery.version()),
            (Resolved::Nothing, 1)
        );
        assert_eq!(*other.borrow(), Resolved::Nothing);
    }

    #[test]
    fn a_name_is_forgotten_only_when_nobody_follows_it() {
        let discovery = Discovery::new();
        let following = discovery.resolve("db.example");
        let name = HostName::new("db.example").unwrap();
        assert!(!discovery.forget(&name));
        assert_eq!(discovery.names(), [(name.clone(), true)]);
        drop(following);
        assert!(discovery.forget(&name));
        assert_eq!(discovery.names(), []);
    }
}
