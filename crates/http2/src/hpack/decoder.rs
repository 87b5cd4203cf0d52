//! Blocks to fields.
//!
//! Fields are kept read, so that one from a table is a clone and never parsed again. What a block
//! can make us hold is bounded: the table by what we announced (or the default, which a peer may use
//! until it has read our settings), a string by its block, the list by what the caller allows.

use std::fmt;

use super::field::{Field, Name, OVERHEAD};
use super::primitive::{integer, string};
use super::static_table::{self, Entry};
use super::table::Table;
use super::{DEFAULT_TABLE, DecodeError};

/// What is kept between blocks for strings that are Huffman-coded.
const MOST_SCRATCH: usize = 4096;

/// What became of a block whose every octet was decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// Every field was given.
    Complete,
    /// The list is larger than allowed: fields are missing.
    TooLarge,
}

/// Follows the table of the peer's encoder.
pub struct Decoder {
    table: Table<Entry>,
    announced: usize,
    scratch: Vec<u8>,
}

/// How a literal wants to be treated (RFC 7541 section 6.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Indexing {
    Incremental,
    Without,
    Never,
}

impl Decoder {
    /// `table`: the SETTINGS_HEADER_TABLE_SIZE that we announced, in octets.
    pub fn new(table: usize) -> Self {
        Self {
            table: Table::new(DEFAULT_TABLE),
            announced: table,
            scratch: Vec::new(),
        }
    }

    /// Decodes a whole block and gives each field in order, but none beyond `most` octets of list
    /// (RFC 9113 section 6.5.2: name, value and 32 for each).
    ///
    /// After an error the tables differ, and nothing else can be decoded.
    pub fn decode(
        &mut self,
        block: &[u8],
        most: usize,
        mut each: impl FnMut(Field),
    ) -> Result<Decoded, DecodeError> {
        let mut rest = block;
        self.resize(&mut rest)?;
        let mut room = Room(Some(most));
        while let Some(first) = rest.first() {
            match first {
                0x80.. => {
                    let entry = self.entry(integer(&mut rest, 7)?)?;
                    if room.has(entry.size) {
                        each(entry.field.clone());
                    }
                }
                0x40.. => self.literal(&mut rest, Indexing::Incremental, &mut room, &mut each)?,
                0x20.. => return Err(DecodeError::LateSizeUpdate),
                0x10.. => self.literal(&mut rest, Indexing::Never, &mut room, &mut each)?,
                _ => self.literal(&mut rest, Indexing::Without, &mut room, &mut each)?,
            }
        }
        self.scratch.shrink_to(MOST_SCRATCH);
        Ok(room.0.map_or(Decoded::TooLarge, |_| Decoded::Complete))
    }

    /// Takes the size updates that a block starts with.
    fn resize(&mut self, rest: &mut &[u8]) -> Result<(), DecodeError> {
        while let Some(0x20..=0x3f) = rest.first() {
            let size = integer(rest, 5)?;
            if size > self.announced {
                return Err(DecodeError::SizeAboveLimit);
            }
            self.table.resize(size);
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn table_sizes(&self) -> Vec<usize> {
        self.table.sizes()
    }

    #[inline]
    fn entry(&self, index: usize) -> Result<&Entry, DecodeError> {
        match index.checked_sub(static_table::LENGTH + 1) {
            None => static_table::get(index),
            Some(age) => self.table.get(age),
        }
        .ok_or(DecodeError::Index)
    }

    fn literal(
        &mut self,
        rest: &mut &[u8],
        indexing: Indexing,
        room: &mut Room,
        each: &mut impl FnMut(Field),
    ) -> Result<(), DecodeError> {
        let bits = if indexing == Indexing::Incremental {
            6
        } else {
            4
        };
        let name = match integer(rest, bits)? {
            0 => Name::read(string(rest, &mut self.scratch)?),
            index => self.entry(index)?.name.clone(),
        };
        let value = string(rest, &mut self.scratch)?;
        let size = name.octets() + value.len() + OVERHEAD;
        let wanted = room.has(size);
        if indexing == Indexing::Incremental {
            let field = name.clone().with(value, false);
            if wanted {
                each(field.clone());
            }
            self.table.insert(Entry { name, field, size }, size);
        } else if wanted {
            each(name.with(value, indexing == Indexing::Never));
        }
        Ok(())
    }
}

/// Without what the table holds: fields may be secrets.
impl fmt::Debug for Decoder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Decoder")
            .field("table", &self.table)
            .field("announced", &self.announced)
            .finish_non_exhaustive()
    }
}

/// The octets that the list may still have; none once a field did not fit.
struct Room(Option<usize>);

impl Room {
    #[inline]
    fn has(&mut self, size: usize) -> bool {
        self.0 = self.0.and_then(|left| left.checked_sub(size));
        self.0.is_some()
    }
}
