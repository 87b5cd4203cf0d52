//! What is to be written, gathered until the connection's task writes it.

use std::cell::Cell;

/// Bodies wait when so much does.
pub(crate) const MOST: usize = 64 * 1024;

/// Twice that, so that bodies which wait keep nobody from reading: their peer may have stopped to
/// read for the same reason.
const FULL: usize = 2 * MOST;

/// What a buffer has room for at first: what may wait, and the frame that passes it.
const ROOM: usize = MOST + 17 * 1024;

/// What a burst grew beyond this is not kept.
const MOST_SPARE: usize = 8 * ROOM;

thread_local! {
    /// Each thread has one buffer to gather in: a burst grows none anew, and a connection that has
    /// nothing to say holds none.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

#[derive(Debug, Default)]
pub(crate) struct Output {
    bytes: Vec<u8>,
    written: usize,
}

impl Output {
    /// To write frames to.
    pub(crate) fn frames(&mut self) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = SPARE.take();
            self.bytes.reserve(ROOM);
        }
        // A peer that takes some but never all would have what it took kept.
        if self.written >= MOST {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
        &mut self.bytes
    }

    pub(crate) fn waiting(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.written == self.bytes.len()
    }

    /// How much more of bodies it takes.
    pub(crate) fn room(&self) -> usize {
        MOST.saturating_sub(self.waiting().len())
    }

    /// Whether what was read made us say so much that no more should be read.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting().len() >= FULL
    }

    pub(crate) fn wrote(&mut self, count: usize) {
        self.written += count;
        if self.is_empty() {
            let mut spare = std::mem::take(&mut self.bytes);
            spare.clear();
            self.written = 0;
            if spare.capacity() <= MOST_SPARE {
                SPARE.set(spare);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_is_not_kept_while_more_waits() {
        let mut output = Output::default();
        for _ in 0..1000 {
            let room = output.room();
            output.frames().extend(std::iter::repeat_n(7, room));
            output.wrote(MOST / 2);
        }
        assert!(output.bytes.capacity() <= 4 * ROOM);
        assert_eq!(output.waiting(), [7; MOST / 2]);
    }
}
