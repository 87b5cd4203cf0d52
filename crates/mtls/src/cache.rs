//! A small bounded map for values that are cheap to make again: when it is full it is emptied, so
//! that an unforeseen number of keys costs time, never memory.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) struct Cache<K, V> {
    capacity: usize,
    entries: Mutex<HashMap<K, V>>,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            entries: Mutex::new(HashMap::new()),
        }
    }

    pub(crate) fn find(&self, key: &K) -> Option<V> {
        self.entries().get(key).cloned()
    }

    pub(crate) fn keep(&self, key: K, value: V) {
        let mut entries = self.entries();
        if entries.len() >= self.capacity && !entries.contains_key(&key) {
            entries.clear();
        }
        entries.insert(key, value);
    }

    /// The value kept for `key`; made and kept if there is none. Two callers at once may both
    /// make it: the lock is not held meanwhile.
    pub(crate) fn find_or_make(&self, key: K, make: impl FnOnce(&K) -> V) -> V {
        if let Some(value) = self.find(&key) {
            return value;
        }
        let value = make(&key);
        self.keep(key, value.clone());
        value
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<K, V>> {
        // No step above leaves the map half-changed, so a panic elsewhere does not spoil it.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_cache_is_emptied_and_never_grows() {
        let cache = Cache::new(2);
        (0..5).for_each(|key| cache.keep(key, key));
        assert_eq!(cache.find(&3), None);
        assert_eq!(cache.find(&4), Some(4));
        assert!(cache.entries().len() <= 2);
    }

    #[test]
    fn a_kept_value_is_not_made_again() {
        let cache = Cache::new(2);
        cache.keep("a", 1);
        assert_eq!(cache.find_or_make("a", |_| 2), 1);
    }
}
