//! What an encoder remembers of each name: enough to tell what is worth an entry, and where it is.
//!
//! A fixed number of slots found by hash. All that it recalls is a hint: two names or values of one
//! hash cost octets, never a wrong field, as the encoder compares before it relies on it.

use crate::hpack::static_table;

const SLOTS: usize = 64;
/// How far from its place a slot may be.
const PROBES: usize = 4;
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

pub(super) struct Memory(Box<[Slot; SLOTS]>);

/// What is remembered of a name.
#[derive(Clone, Copy, Default)]
pub(super) struct Slot {
    /// The hash of the name; 0 if the slot is free.
    name: u32,
    /// The hash of the last value that was a literal.
    value: u32,
    /// The number of the last entry inserted for the name.
    pub(super) entry: u32,
    /// Where the name is in the static table; 0 if it is not.
    index: u8,
}

pub(super) struct Recalled<'a> {
    pub(super) slot: &'a mut Slot,
    /// Whether the name was seen before.
    pub(super) known: bool,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self(Box::new([Slot::default(); SLOTS]))
    }

    /// The slot of `name`, which forgets another name if all are taken.
    pub(super) fn recall(&mut self, name: &str) -> Recalled<'_> {
        let hash = hash(name.as_bytes());
        let home = (hash >> 32) as usize % SLOTS;
        let tag = hash as u32 | 1;
        let mut place = home;
        for step in 0..PROBES {
            let probe = (home + step) % SLOTS;
            let slot = &self.0[probe];
            if slot.name == tag && slot.is_of(name) {
                return Recalled {
                    slot: &mut self.0[probe],
                    known: true,
                };
            }
            if slot.name == 0 {
                place = probe;
                break;
            }
        }
        let slot = &mut self.0[place];
        *slot = Slot {
            name: tag,
            index: static_table::find(name).unwrap_or_default() as u8,
            ..Slot::default()
        };
        Recalled { slot, known: false }
    }
}

impl Slot {
    pub(super) fn static_index(&self) -> usize {
        usize::from(self.index)
    }

    /// Whether the last literal had this value; from now on this is the last.
    pub(super) fn repeats(&mut self, value: &[u8]) -> bool {
        let hash = (hash(value) >> 32) as u32;
        std::mem::replace(&mut self.value, hash) == hash
    }

    /// Whether the index, if there is one, is that of `name`: hashes alone may be made to agree.
    fn is_of(&self, name: &str) -> bool {
        self.index == 0 || static_table::name(self.static_index()) == Some(name)
    }
}

/// Quick, not unpredictable.
fn hash(text: &[u8]) -> u64 {
    let (words, tail) = text.as_chunks::<8>();
    let mut hash = text.len() as u64;
    for word in words {
        hash = mix(hash, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    mix(hash, u64::from_le_bytes(last))
}

fn mix(hash: u64, word: u64) -> u64 {
    let product = (hash ^ word).wrapping_mul(FACTOR);
    product ^ (product >> 32)
}
