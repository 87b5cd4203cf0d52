//! What an encoder remembers of each name: enough to tell what is worth an entry, and where it is.
//!
//! A fixed number of slots found by hash. All that it recalls is a hint: two names or values of one
//! hash cost octets, never a wrong field, as the encoder compares before it relies on it.

use crate::hpack::static_table;

const SLOTS: usize = 64;
/// How far from its place a slot may be.
const PROBES: usize = 4;
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Nothing is held before the first name: a connection that only waits needs none.
#[derive(Default)]
pub(super) struct Memory(Option<Box<[Slot; SLOTS]>>);

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
    /// The slot of `name`, which forgets another name if all are taken.
    pub(super) fn recall(&mut self, name: &str) -> Recalled<'_> {
        let empty = || Box::new([Slot::default(); SLOTS]);
        let slots = self.0.get_or_insert_with(empty);
        let hash = hash(name.as_bytes());
        let home = (hash >> 32) as usize % SLOTS;
        let tag = hash as u32 | 1;
        let mut place = home;
        for step in 0..PROBES {
            let probe = (home + step) % SLOTS;
            let slot = &slots[probe];
            if slot.name == tag {
                return Recalled {
                    slot: &mut slots[probe],
                    known: true,
                };
            }
            if slot.name == 0 {
                place = probe;
                break;
            }
        }
        let slot = &mut slots[place];
        *slot = Slot {
            name: tag,
            index: static_table::find(name).unwrap_or_default() as u8,
            ..Slot::default()
        };
        Recalled { slot, known: false }
    }
}

impl Slot {
    /// Where `name` is in the static table; 0 if it is not.
    pub(super) fn static_index(&self, name: &str) -> usize {
        let index = usize::from(self.index);
        if index == 0 || static_table::name(index) == Some(name) {
            return index;
        }
        // Another name of the same hash, which may be made on purpose.
        static_table::find(name).unwrap_or_default()
    }

    /// Whether the last literal had this value; from now on this is the last.
    pub(super) fn repeats(&mut self, value: &[u8]) -> bool {
        let hash = (hash(value) >> 32) as u32;
        std::mem::replace(&mut self.value, hash) == hash
    }
}

/// Quick, not unpredictable.
fn hash(text: &[u8]) -> u64 {
    let mut hash = mix(0, text.len() as u64);
    let Some(last) = text.last_chunk::<8>() else {
        return text
            .iter()
            .fold(hash, |hash, octet| mix(hash, u64::from(*octet)));
    };
    for word in text.as_chunks::<8>().0 {
        hash = mix(hash, u64::from_le_bytes(*word));
    }
    mix(hash, u64::from_le_bytes(*last))
}

fn mix(hash: u64, word: u64) -> u64 {
    let product = (hash ^ word).wrapping_mul(FACTOR);
    product ^ (product >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_of_another_name_lends_no_index() {
        let mut memory = Memory::default();
        let accept = *memory.recall("accept").slot;
        assert_eq!(accept.static_index("accept"), 19);
        assert_eq!(accept.static_index("x-other"), 0);
        assert_eq!(accept.static_index("via"), 60);
    }

    #[test]
    fn more_names_than_slots_are_recalled_all_the_same() {
        let mut memory = Memory::default();
        let names: Vec<_> = (0..1000).map(|number| format!("x-{number}")).collect();
        assert!(names.iter().all(|name| !memory.recall(name).known));
        assert!(memory.recall(&names[999]).known);
    }
}
