//! The streams of a connection, by place and by number.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use slab::Slab;

use crate::stream::Stream;

pub(crate) type Key = usize;

/// So many streams that we ended are remembered: what their peer had sent before it learned of it
/// is no mistake.
const MOST_RESET: usize = 512;

#[derive(Debug, Default)]
pub(crate) struct Streams {
    all: Slab<Stream>,
    keys: HashMap<u32, Key, BuildHasherDefault<IdHasher>>,
    reset: VecDeque<u32>,
    /// Those that neither side has ended.
    open: usize,
}

impl Streams {
    pub(crate) fn insert(&mut self, stream: Stream) -> Key {
        let id = stream.id;
        let key = self.all.insert(stream);
        self.keys.insert(id, key);
        self.open += 1;
        key
    }

    pub(crate) fn key(&self, id: u32) -> Option<Key> {
        self.keys.get(&id).copied()
    }

    pub(crate) fn contains(&self, key: Key) -> bool {
        self.all.contains(key)
    }

    pub(crate) fn get(&self, key: Key) -> &Stream {
        &self.all[key]
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> &mut Stream {
        &mut self.all[key]
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.all.iter_mut().map(|(_, stream)| stream)
    }

    /// Those that count against what a side may open.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Those that are kept, for a handle at least.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Looks at a stream again after a change: it no longer counts when it is closed, and is
    /// forgotten when nobody has a handle on it. Says whether another may be opened for it.
    pub(crate) fn settle(&mut self, key: Key) -> bool {
        let stream = &self.all[key];
        if !stream.is_closed() {
            return false;
        }
        let (id, unheld) = (stream.id, stream.handles == 0);
        let counted = self.keys.remove(&id).is_some();
        if counted {
            self.open -= 1;
        }
        if unheld {
            self.all.remove(key);
        }
        counted
    }

    /// To be called when we end a stream that the peer may yet send on.
    pub(crate) fn remember_reset(&mut self, id: u32) {
        if self.reset.len() == MOST_RESET {
            self.reset.pop_front();
        }
        self.reset.push_back(id);
    }

    pub(crate) fn was_reset(&self, id: u32) -> bool {
        self.reset.contains(&id)
    }
}

/// Numbers of streams are spread enough.
#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, id: u32) {
        // The table takes its position from the low bits and its tag from the high ones.
        self.0 = (self.0 ^ u64::from(id >> 1))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
