//! A dynamic table (RFC 7541 sections 2.3.2 and 4): entries by age, the oldest evicted.
//!
//! Encoder and decoder share it, so that both evict the same. It never counts more octets than its
//! limit, hence never has more than a thirty-second of that in entries.

use std::collections::VecDeque;
use std::fmt;

use super::field::OVERHEAD;

pub(super) struct Table<T> {
    entries: VecDeque<(T, usize)>,
    size: usize,
    limit: usize,
}

impl<T> Table<T> {
    /// `limit`: in octets, as RFC 7541 section 4.1 counts.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            limit,
        }
    }

    /// The entry that has had `age` insertions after it.
    #[inline]
    pub(super) fn get(&self, age: usize) -> Option<&T> {
        self.entries.get(age).map(|(entry, _)| entry)
    }

    /// Adds an entry of `size` octets; one larger than the table empties it (section 4.4).
    pub(super) fn insert(&mut self, entry: T, size: usize) {
        debug_assert!(size >= OVERHEAD, "an entry counts its overhead");
        self.evict(self.limit.saturating_sub(size));
        if size <= self.limit {
            self.size += size;
            self.entries.push_front((entry, size));
        }
    }

    pub(super) fn resize(&mut self, limit: usize) {
        self.limit = limit;
        self.evict(limit);
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Of each entry, the newest first.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> Vec<usize> {
        self.entries.iter().map(|(_, size)| *size).collect()
    }

    /// Evicts until no more than `most` octets are left.
    fn evict(&mut self, most: usize) {
        while self.size > most {
            let Some((_, size)) = self.entries.pop_back() else {
                return;
            };
            self.size -= size;
        }
    }
}

/// Without the entries: fields may be secrets.
impl<T> fmt::Debug for Table<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Table")
            .field("entries", &self.entries.len())
            .field("size", &self.size)
            .field("limit", &self.limit)
            .finish()
    }
}
