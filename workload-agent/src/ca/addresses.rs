//! Which replica to try next.
//!
//! Invariant: never empty once it was not; a replica that works is kept, one that does not goes
//! to the end.

use std::collections::VecDeque;

use identity::join_token::CaAddress;

/// Replica addresses, the one in use first.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Addresses(VecDeque<CaAddress>);

impl Addresses {
    pub(crate) fn new(addresses: impl IntoIterator<Item = CaAddress>) -> Self {
        Self(addresses.into_iter().collect())
    }

    pub(crate) fn current(&self) -> Option<&CaAddress> {
        self.0.front()
    }

    /// After a failure.
    pub(crate) fn rotate(&mut self) {
        if !self.0.is_empty() {
            self.0.rotate_left(1);
        }
    }

    /// Puts the one to use first, if it is known; the others follow in the same order.
    pub(crate) fn prefer(&mut self, address: &CaAddress) {
        if let Some(position) = self.0.iter().position(|known| known == address) {
            self.0.rotate_left(position);
        }
    }

    /// What the CA announced replaces what was known; the one in use stays first if it is still
    /// there. Returns whether anything changed.
    pub(crate) fn replace(&mut self, announced: &[CaAddress]) -> bool {
        if announced.is_empty() {
            return false;
        }
        let mut next: VecDeque<CaAddress> = announced.iter().cloned().collect();
        if let Some(position) = self
            .current()
            .and_then(|current| next.iter().position(|address| address == current))
        {
            next.rotate_left(position);
        }
        let changed = next != self.0;
        self.0 = next;
        changed
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &CaAddress> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<CaAddress> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn empty_announcement_changes_nothing() {
        let mut known = Addresses::new(addresses(&["a:1"]));
        assert!(!known.replace(&[]));
        assert_eq!(known.current(), addresses(&["a:1"]).first());
    }

    #[test]
    fn replica_in_use_stays_first() {
        let mut known = Addresses::new(addresses(&["b:1"]));
        assert!(known.replace(&addresses(&["a:1", "b:1", "c:1"])));
        assert_eq!(known, Addresses::new(addresses(&["b:1", "c:1", "a:1"])));
    }

    #[test]
    fn failing_replica_goes_to_the_end() {
        let mut known = Addresses::new(addresses(&["a:1", "b:1"]));
        known.rotate();
        assert_eq!(known, Addresses::new(addresses(&["b:1", "a:1"])));
    }
}
