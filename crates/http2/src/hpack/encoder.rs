//! Fields to blocks.
//!
//! What goes into the table is learnt: a field is a literal the first time, goes into the table when
//! it comes again, and is one index from then on. Values that differ (ids, paths, times) hence never
//! push out those that stay. Of a name that is in no table, one field goes in even so, since
//! its name then costs an index.
//!
//! It never Huffman-codes: between neighbours CPU is dearer than bytes, and any decoder reads plain
//! strings. It never indexes credentials and what is marked sensitive, lest one user's value can be
//! guessed by another's calls on the same connection (RFC 7541 section 7.1).

mod memory;

use std::fmt;

use http::{HeaderName, HeaderValue, Method, StatusCode, header};

use self::memory::Memory;
use super::field::OVERHEAD;
use super::primitive::{put_integer, put_string};
use super::table::Table;
use super::{DEFAULT_TABLE, static_table};

/// The most that we let the table have, whatever the peer would allow.
const MOST_TABLE: usize = DEFAULT_TABLE;

const INDEXED: (u8, u32) = (0x80, 7);
const INCREMENTAL: (u8, u32) = (0x40, 6);
const SIZE_UPDATE: (u8, u32) = (0x20, 5);
const NEVER: (u8, u32) = (0x10, 4);
const WITHOUT: (u8, u32) = (0x00, 4);

/// Fills the table that the peer's decoder follows.
pub struct Encoder {
    table: Table<Sent>,
    /// How many entries were ever inserted, modulo 2^32: the number of the newest.
    inserted: u32,
    memory: Memory,
    /// The lowest limit since the last block, if the limit changed.
    lowest: Option<usize>,
}

/// A field in the table: its name and value, one after the other.
struct Sent {
    text: Box<[u8]>,
    name: usize,
}

impl Encoder {
    /// An encoder for a peer that has not said otherwise: 4096 octets of table.
    pub fn new() -> Self {
        Self {
            table: Table::new(DEFAULT_TABLE),
            inserted: 0,
            memory: Memory::default(),
            lowest: None,
        }
    }

    /// Obeys the peer's SETTINGS_HEADER_TABLE_SIZE; the next block announces what changes.
    pub fn limit(&mut self, octets: usize) {
        let limit = octets.min(MOST_TABLE);
        if limit != self.table.limit() {
            self.table.resize(limit);
            self.lowest = Some(self.lowest.map_or(limit, |lowest| lowest.min(limit)));
        }
    }

    /// Starts a block: announces the lowest limit since the last one and the one that holds
    /// (RFC 7541 section 4.2).
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        let Some(lowest) = self.lowest.take() else {
            return;
        };
        let limit = self.table.limit();
        if lowest < limit {
            put(SIZE_UPDATE, lowest, out);
        }
        put(SIZE_UPDATE, limit, out);
    }

    pub fn method(&mut self, method: &Method, out: &mut Vec<u8>) {
        match *method {
            Method::GET => put(INDEXED, 2, out),
            Method::POST => put(INDEXED, 3, out),
            _ => self.learn(":method", method.as_str().as_bytes(), out),
        }
    }

    pub fn scheme(&mut self, scheme: &str, out: &mut Vec<u8>) {
        match scheme {
            "http" => put(INDEXED, 6, out),
            "https" => put(INDEXED, 7, out),
            _ => self.learn(":scheme", scheme.as_bytes(), out),
        }
    }

    pub fn authority(&mut self, authority: &str, out: &mut Vec<u8>) {
        self.learn(":authority", authority.as_bytes(), out);
    }

    pub fn path(&mut self, path: &str, out: &mut Vec<u8>) {
        match path {
            "/" => put(INDEXED, 4, out),
            _ => self.learn(":path", path.as_bytes(), out),
        }
    }

    pub fn status(&mut self, status: StatusCode, out: &mut Vec<u8>) {
        match status.as_u16() {
            200 => put(INDEXED, 8, out),
            204 => put(INDEXED, 9, out),
            206 => put(INDEXED, 10, out),
            304 => put(INDEXED, 11, out),
            400 => put(INDEXED, 12, out),
            404 => put(INDEXED, 13, out),
            500 => put(INDEXED, 14, out),
            _ => self.learn(":status", status.as_str().as_bytes(), out),
        }
    }

    pub fn field(&mut self, name: &HeaderName, value: &HeaderValue, out: &mut Vec<u8>) {
        if value.is_sensitive() || is_credential(name) {
            let index = static_table::find(name.as_str()).unwrap_or_default();
            literal(NEVER, index, name.as_str(), value.as_bytes(), out);
        } else {
            self.learn(name.as_str(), value.as_bytes(), out);
        }
    }

    fn learn(&mut self, name: &str, value: &[u8], out: &mut Vec<u8>) {
        let recalled = self.memory.recall(name);
        let slot = recalled.slot;
        let age = self.inserted.wrapping_sub(slot.entry) as usize;
        let sent = self
            .table
            .get(age)
            .filter(|sent| sent.name() == name.as_bytes());
        let place = static_table::LENGTH + 1 + age;
        if sent.is_some_and(|sent| sent.value() == value) {
            return put(INDEXED, place, out);
        }
        let index = match (slot.static_index(name), sent) {
            (0, Some(_)) => place,
            (index, _) => index,
        };
        let repeated = slot.repeats(value);
        let size = name.len() + value.len() + OVERHEAD;
        let share = if repeated { 2 } else { 16 };
        let pays = recalled.known && (repeated || index == 0);
        if !pays || size > self.table.limit() / share {
            return literal(WITHOUT, index, name, value, out);
        }
        self.inserted = self.inserted.wrapping_add(1);
        slot.entry = self.inserted;
        self.table.insert(Sent::new(name, value), size);
        literal(INCREMENTAL, index, name, value, out);
    }

    #[cfg(test)]
    pub(super) fn table_sizes(&self) -> Vec<usize> {
        self.table.sizes()
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Without what the table holds: fields may be secrets.
impl fmt::Debug for Encoder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Encoder")
            .field("table", &self.table)
            .field("lowest", &self.lowest)
            .finish_non_exhaustive()
    }
}

impl Sent {
    fn new(name: &str, value: &[u8]) -> Self {
        Self {
            text: [name.as_bytes(), value].concat().into(),
            name: name.len(),
        }
    }

    fn name(&self) -> &[u8] {
        &self.text[..self.name]
    }

    fn value(&self) -> &[u8] {
        &self.text[self.name..]
    }
}

fn is_credential(name: &HeaderName) -> bool {
    *name == header::AUTHORIZATION
        || *name == header::COOKIE
        || *name == header::SET_COOKIE
        || *name == header::PROXY_AUTHORIZATION
}

fn put((pattern, bits): (u8, u32), value: usize, out: &mut Vec<u8>) {
    put_integer(pattern, bits, value, out);
}

/// Puts a literal whose name is at `index`, or spelt out if that is 0.
fn literal(kind: (u8, u32), index: usize, name: &str, value: &[u8], out: &mut Vec<u8>) {
    put(kind, index, out);
    if index == 0 {
        put_string(name.as_bytes(), out);
    }
    put_string(value, out);
}
