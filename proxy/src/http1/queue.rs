//! Bytes on their way out: small ones gathered in one buffer, large ones not copied.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// Below this a copy costs less than another entry of a vectored write.
const COPIED_BELOW: usize = 2048;

/// What is to be written to one connection, in order. Read it as a [`Buf`], by
/// [`Buf::chunks_vectored`] where the socket can.
#[derive(Debug, Default)]
pub struct WriteQueue {
    /// Before `tail`.
    parts: VecDeque<Bytes>,
    parts_length: usize,
    tail: BytesMut,
}

impl WriteQueue {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends, by reference if it is large.
    pub fn push(&mut self, bytes: Bytes) {
        if bytes.len() < COPIED_BELOW {
            self.tail.extend_from_slice(&bytes);
            return;
        }
        if !self.tail.is_empty() {
            let gathered = self.tail.split().freeze();
            self.append(gathered);
        }
        self.append(bytes);
    }

    /// Whether [`Buf::chunk`] is all there is.
    pub(crate) fn is_one_chunk(&self) -> bool {
        self.parts.is_empty()
    }

    /// Where small things are written.
    pub(super) fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    fn append(&mut self, bytes: Bytes) {
        self.parts_length += bytes.len();
        self.parts.push_back(bytes);
    }
}

impl Buf for WriteQueue {
    fn remaining(&self) -> usize {
        self.parts_length + self.tail.len()
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&self.tail[..], |part| &part[..])
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let tail = (!self.tail.is_empty()).then_some(&self.tail[..]);
        let parts = self.parts.iter().map(|part| &part[..]).chain(tail);
        let mut filled = 0;
        for (slot, part) in into.iter_mut().zip(parts) {
            *slot = IoSlice::new(part);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(part) = self.parts.front_mut() {
            if count < part.len() {
                part.advance(count);
                self.parts_length -= count;
                return;
            }
            count -= part.len();
            self.parts_length -= part.len();
            self.parts.pop_front();
        }
        self.tail.advance(count);
        if self.tail.is_empty() {
            // The room before it is used again.
            self.tail.clear();
        }
    }
}
