//! What one source may hold of something that all share. A source is an IPv4 address or an IPv6
//! /64, since one host has a whole /64 to call from.
//!
//! Invariant: memory follows the places that are held, not the sources that ever called.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const FORGET_FROM: usize = 64;

/// Counts places by source.
#[derive(Debug)]
pub(crate) struct Sources {
    most: usize,
    rooms: Mutex<Rooms>,
}

#[derive(Debug)]
struct Rooms {
    of: HashMap<IpAddr, Weak<Semaphore>>,
    forget_at: usize,
}

/// One place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Sources {
    /// One source may hold a `share`-th of `all`, at least one.
    pub(crate) fn sharing(all: NonZeroU32, share: usize) -> Self {
        Self {
            most: (all.get() as usize / share).max(1),
            rooms: Mutex::new(Rooms {
                of: HashMap::new(),
                forget_at: FORGET_FROM,
            }),
        }
    }

    /// A place, or none if this source holds all that it may.
    pub(crate) fn try_enter(&self, from: IpAddr) -> Option<Place> {
        self.room(from).try_acquire_owned().ok().map(Place)
    }

    /// A place, as soon as this source gives one back.
    pub(crate) async fn enter(&self, from: IpAddr) -> Option<Place> {
        self.room(from).acquire_owned().await.ok().map(Place)
    }

    fn room(&self, from: IpAddr) -> Arc<Semaphore> {
        let source = source(from);
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(room) = rooms.of.get(&source).and_then(Weak::upgrade) {
            return room;
        }
        if rooms.of.len() >= rooms.forget_at {
            rooms.of.retain(|_, room| room.strong_count() > 0);
            rooms.forget_at = FORGET_FROM.max(rooms.of.len() * 2);
        }
        let room = Arc::new(Semaphore::new(self.most));
        rooms.of.insert(source, Arc::downgrade(&room));
        room
    }
}

/// What counts as one source.
pub(crate) fn source(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() >> 64 << 64;
            IpAddr::V6(network.into())
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_that_holds_its_share_gets_no_more_until_it_gives_one_back() {
        let sources = Sources::sharing(NonZeroU32::new(8).unwrap(), 4);
        let greedy = address("192.0.2.1");
        let (first, _second) = (sources.try_enter(greedy), sources.try_enter(greedy));
        assert!(sources.try_enter(greedy).is_none());
        drop(first);
        assert!(sources.try_enter(greedy).is_some());
    }

    #[test]
    fn the_addresses_of_one_network_share_and_others_do_not() {
        let sources = Sources::sharing(NonZeroU32::MIN, 4);
        let _held = sources.try_enter(address("2001:db8::1")).unwrap();
        assert!(sources.try_enter(address("2001:db8::2")).is_none());
        assert!(sources.try_enter(address("2001:db8:0:1::1")).is_some());
        assert!(sources.try_enter(address("192.0.2.1")).is_some());
    }

    #[test]
    fn sources_that_hold_nothing_are_forgotten() {
        let sources = Sources::sharing(NonZeroU32::MIN, 1);
        for last in 0..=u16::MAX {
            let [high, low] = last.to_be_bytes();
            assert!(sources.try_enter([10, 0, high, low].into()).is_some());
        }
        assert!(sources.rooms.lock().unwrap().of.len() <= FORGET_FROM);
    }
}
