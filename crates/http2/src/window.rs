//! Flow control (RFC 9113 section 5.2).

use crate::frame::LARGEST;

/// How much we may send.
#[derive(Debug)]
pub(crate) struct SendWindow(i64);

/// How much the peer may send, and what of it is to be given back.
#[derive(Debug)]
pub(crate) struct ReceiveWindow {
    /// What the peer may have on its way at once.
    size: u32,
    available: i64,
    /// Taken by the reader, and not yet told to the peer.
    released: u32,
}

impl SendWindow {
    pub(crate) fn new(size: u32) -> Self {
        Self(size.into())
    }

    /// Negative after the peer made it smaller.
    pub(crate) fn room(&self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    pub(crate) fn take(&mut self, bytes: usize) {
        self.0 -= bytes as i64;
    }

    /// Larger, or smaller by a changed setting; no if it passes what a window may be.
    #[must_use]
    pub(crate) fn change(&mut self, by: i64) -> bool {
        self.0 += by;
        self.0 <= LARGEST.into()
    }
}

impl ReceiveWindow {
    pub(crate) fn new(size: u32) -> Self {
        Self {
            size,
            available: size.into(),
            released: 0,
        }
    }

    /// No if the peer sent more than it may.
    #[must_use]
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        self.available -= bytes as i64;
        self.available >= 0
    }

    /// Gives back what was read; now and then, how much to tell the peer of.
    pub(crate) fn release(&mut self, bytes: usize) -> Option<u32> {
        // Never more than was taken, which is less than 31 bits.
        self.released = self
            .released
            .saturating_add(u32::try_from(bytes).unwrap_or(LARGEST));
        if self.released < self.size / 2 {
            return None;
        }
        let told = std::mem::take(&mut self.released);
        self.available += i64::from(told);
        Some(told)
    }
}
