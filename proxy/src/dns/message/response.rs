//! Asks for the addresses of a name, and reads the answer (RFC 1035 section 4, RFC 2308).
//!
//! Invariant: believed is only what belongs to the question: records of the name itself, or of the
//! end of the aliases that lead away from it. A pointer leads backwards only, so reading ends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{CLASS_IN, HEADER, Query, TYPE_A, TYPE_AAAA, TYPE_SOA};

const TYPE_CNAME: u16 = 5;
const RESPONSE: u8 = 0x80;
const OPCODE: u8 = 0x78;
const TRUNCATED: u8 = 0x02;
const CODE: u8 = 0x0f;
const NO_SUCH_NAME: u8 = 3;
const LONGEST_NAME: usize = 255;
const LONGEST_LABEL: u8 = 63;
const POINTER: u8 = 0xc0;
/// Aliases of aliases.
const MOST_ALIASES: usize = 8;
/// Of one name; more are not used.
const MOST_ADDRESSES: usize = 256;

/// What a resolver says of a name and a kind of address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Response {
    Addresses {
        addresses: Vec<IpAddr>,
        /// Seconds; the least on the way to them.
        ttl: u32,
    },
    /// There is no such name, or it has no such address. For so many seconds that may be
    /// believed; none if the answer does not say.
    Nothing { ttl: Option<u32> },
    /// It is too long for a datagram.
    Truncated,
    /// The resolver cannot or will not say, and names this code.
    Failed { code: u8 },
}

/// No answer to the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the resolver's answer cannot be read, or answers another question")]
pub(crate) struct Malformed;

/// A name as it stands in a question: labels with their lengths, in small letters, ended by the
/// root. None if it is no host name.
pub(crate) fn host_name(text: &str) -> Option<Vec<u8>> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let mut name = Vec::with_capacity(text.len() + 2);
    for label in text.split('.') {
        let fits = (1..=usize::from(LONGEST_LABEL)).contains(&label.len());
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !fits || !label.bytes().all(is_plain) {
            return None;
        }
        name.push(label.len() as u8);
        name.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
    }
    name.push(0);
    (name.len() <= LONGEST_NAME).then_some(name)
}

/// A question for one name and kind, recursion desired, without EDNS: what is longer than 512
/// bytes comes over TCP.
pub(crate) fn question(query: &Query) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + query.name.len() + 4);
    for number in [query.id, 0x0100, 1, 0, 0, 0] {
        message.extend_from_slice(&number.to_be_bytes());
    }
    message.extend_from_slice(&query.name);
    for number in [query.kind, query.class] {
        message.extend_from_slice(&number.to_be_bytes());
    }
    message
}

/// Reads the answer to a question for addresses.
///
/// # Errors
/// If it is none.
pub(crate) fn read(message: &[u8], query: &Query) -> Result<Response, Malformed> {
    let mut reader = Reader { message, at: 0 };
    let header = reader.take(HEADER).ok_or(Malformed)?;
    let [id_high, id_low, flags, more, first, second, ..] = *header else {
        return Err(Malformed);
    };
    let is_ours = u16::from_be_bytes([id_high, id_low]) == query.id
        && flags & RESPONSE != 0
        && flags & OPCODE == 0
        && [first, second] == [0, 1];
    if !is_ours || !reader.repeats(query).unwrap_or(false) {
        return Err(Malformed);
    }
    if flags & TRUNCATED != 0 {
        return Ok(Response::Truncated);
    }
    let code = more & CODE;
    if code != 0 && code != NO_SUCH_NAME {
        return Ok(Response::Failed { code });
    }
    let counts = [6, 8].map(|at| u16::from_be_bytes([header[at], header[at + 1]]));
    body(&mut reader, counts, query).ok_or(Malformed)
}

fn body(reader: &mut Reader<'_>, counts: [u16; 2], query: &Query) -> Option<Response> {
    let [answers, authorities] = counts;
    let answers = reader.records(answers)?;
    let (addresses, ttl) = addresses(&answers, query);
    if addresses.is_empty() {
        let authorities = reader.records(authorities)?;
        let mut found = authorities.iter();
        return Some(Response::Nothing {
            ttl: found.find_map(negative_ttl),
        });
    }
    Some(Response::Addresses { addresses, ttl })
}

/// Follows the aliases from the name that was asked for.
fn addresses(records: &[Record<'_>], query: &Query) -> (Vec<IpAddr>, u32) {
    let mut name = query.name.to_ascii_lowercase();
    let mut ttl = u32::MAX;
    for _ in 0..MOST_ALIASES {
        let alias = records.iter().find_map(|record| match &record.data {
            Data::Alias(to) if record.name == name => Some((to, record.ttl)),
            _ => None,
        });
        let Some((to, alias_ttl)) = alias else {
            break;
        };
        name.clone_from(to);
        ttl = ttl.min(alias_ttl);
    }
    let mut addresses = Vec::new();
    for record in records.iter().filter(|it| it.name == name) {
        if let Data::Address(address) = record.data
            && (record.kind == query.kind)
            && addresses.len() < MOST_ADDRESSES
        {
            addresses.push(address);
            ttl = ttl.min(record.ttl);
        }
    }
    (addresses, ttl)
}

/// RFC 2308 section 5: the lesser of the SOA's own TTL and its last number.
fn negative_ttl(record: &Record<'_>) -> Option<u32> {
    let Data::Other(data) = record.data else {
        return None;
    };
    let minimum = data.last_chunk::<4>().filter(|_| record.kind == TYPE_SOA)?;
    Some(record.ttl.min(u32::from_be_bytes(*minimum)))
}

struct Record<'a> {
    name: Vec<u8>,
    kind: u16,
    ttl: u32,
    data: Data<'a>,
}

enum Data<'a> {
    Address(IpAddr),
    Alias(Vec<u8>),
    Other(&'a [u8]),
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.message.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// Whether the question is the one that was asked; the case of its name may differ.
    fn repeats(&mut self, query: &Query) -> Option<bool> {
        let name = self.name()?;
        let same = name.eq_ignore_ascii_case(&query.name);
        Some(same && self.number()? == query.kind && self.number()? == query.class)
    }

    fn records(&mut self, count: u16) -> Option<Vec<Record<'a>>> {
        (0..count).map(|_| self.record()).collect()
    }

    fn record(&mut self) -> Option<Record<'a>> {
        let name = self.name()?;
        let (kind, class) = (self.number()?, self.number()?);
        let ttl = u32::from_be_bytes(self.take(4)?.try_into().ok()?);
        let length = self.number()?;
        let start = self.at;
        let data = self.take(usize::from(length))?;
        let data = match class {
            CLASS_IN => self.data(kind, data, start)?,
            _ => Data::Other(&[]),
        };
        Some(Record {
            name,
            kind,
            // RFC 2181 section 8: one with the highest bit set is none.
            ttl: if ttl > i32::MAX as u32 { 0 } else { ttl },
            data,
        })
    }

    fn data(&self, kind: u16, data: &'a [u8], start: usize) -> Option<Data<'a>> {
        Some(match kind {
            TYPE_A => Data::Address(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into()),
            TYPE_AAAA => Data::Address(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into()),
            TYPE_CNAME => {
                let mut alias = Reader {
                    message: self.message,
                    at: start,
                };
                let to = alias.name()?;
                (alias.at == start + data.len()).then_some(Data::Alias(to))?
            }
            _ => Data::Other(data),
        })
    }

    /// A name in small letters, its pointers followed.
    fn name(&mut self) -> Option<Vec<u8>> {
        let mut name = Vec::new();
        let mut end = None;
        let mut lowest = self.at;
        loop {
            let length = *self.take(1)?.first()?;
            if length & POINTER == POINTER {
                let low = *self.take(1)?.first()?;
                end.get_or_insert(self.at);
                let to = usize::from(u16::from_be_bytes([length & !POINTER, low]));
                if to >= lowest {
                    return None;
                }
                lowest = to;
                self.at = to;
                continue;
            }
            if length > LONGEST_LABEL {
                return None;
            }
            name.push(length);
            name.extend(self.take(usize::from(length))?.to_ascii_lowercase());
            if name.len() > LONGEST_NAME {
                return None;
            }
            if length == 0 {
                self.at = end.unwrap_or(self.at);
                return Some(name);
            }
        }
    }
}

#[cfg(test)]
mod tests;
