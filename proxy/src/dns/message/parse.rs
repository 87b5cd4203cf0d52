//! Reads a query.

use super::{Code, Edns, HEADER, Query, TYPE_OPT};

const RESPONSE: u8 = 0x80;
const OPCODE: u8 = 0x78;
const RECURSION_DESIRED: u8 = 0x01;
const CHECKING_DISABLED: u8 = 0x10;
const DNSSEC_OK: u8 = 0x80;
const LONGEST_NAME: usize = 255;
/// Above it a length is a compression pointer (RFC 1035 section 4.1.4).
const LONGEST_LABEL: u8 = 63;
const POINTER: u8 = 0xc0;

/// Why there is no question to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// A response, or too short to have an id: nobody waits for an answer.
    Silently,
    /// The asker is told so, with an answer that repeats no question.
    With(Code, Query),
}

/// # Errors
/// If it is not one standard query.
pub(crate) fn parse(message: &[u8]) -> Result<Query, Refused> {
    let mut reader = Reader { rest: message };
    let header = reader.take(HEADER).ok_or(Refused::Silently)?;
    let [id_high, id_low, flags, more, counts @ ..] = header else {
        return Err(Refused::Silently);
    };
    if flags & RESPONSE != 0 {
        return Err(Refused::Silently);
    }
    let blank = Query {
        id: u16::from_be_bytes([*id_high, *id_low]),
        recursion_desired: flags & RECURSION_DESIRED != 0,
        checking_disabled: more & CHECKING_DISABLED != 0,
        name: Vec::new(),
        kind: 0,
        class: 0,
        edns: None,
    };
    if flags & OPCODE != 0 {
        return Err(Refused::With(Code::NotImplemented, blank));
    }
    let Some(query) = body(&mut reader, counts, &blank) else {
        return Err(Refused::With(Code::FormatError, blank));
    };
    match query.edns {
        Some(edns) if edns.version != 0 => Err(Refused::With(Code::BadVersion, query)),
        _ => Ok(query),
    }
}

/// One question, no answer, no authority; of what is added, only the OPT record matters.
fn body(reader: &mut Reader<'_>, counts: &[u8], blank: &Query) -> Option<Query> {
    let [0, 1, 0, 0, 0, 0, added_high, added_low] = counts else {
        return None;
    };
    let name = reader.name()?;
    let (kind, class) = (reader.number()?, reader.number()?);
    let mut edns = blank.edns;
    for _ in 0..u16::from_be_bytes([*added_high, *added_low]) {
        if let Some(found) = reader.added()?
            && edns.replace(found).is_some()
        {
            return None;
        }
    }
    reader.rest.is_empty().then_some(Query {
        name,
        kind,
        class,
        edns,
        ..blank.clone()
    })
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u16> {
        let bytes = self.take(2)?.try_into().ok()?;
        Some(u16::from_be_bytes(bytes))
    }

    /// A name that is written out; there is nothing before a question that it could point to.
    fn name(&mut self) -> Option<Vec<u8>> {
        let mut name = Vec::new();
        loop {
            let length = self.byte()?;
            if length > LONGEST_LABEL {
                return None;
            }
            name.push(length);
            name.extend_from_slice(self.take(usize::from(length))?);
            if name.len() > LONGEST_NAME {
                return None;
            }
            if length == 0 {
                return Some(name);
            }
        }
    }

    /// An added record; what it says if it is an OPT.
    fn added(&mut self) -> Option<Option<Edns>> {
        let root = self.rest.first() == Some(&0);
        self.skip_name()?;
        let (kind, class) = (self.number()?, self.number()?);
        let [_code, version, flags, _] = self.take(4)?.try_into().ok()?;
        let length = self.number()?;
        self.take(usize::from(length))?;
        if kind != TYPE_OPT {
            return Some(None);
        }
        root.then_some(Some(Edns {
            size: class,
            version,
            dnssec_ok: flags & DNSSEC_OK != 0,
        }))
    }

    fn skip_name(&mut self) -> Option<()> {
        loop {
            match self.byte()? {
                0 => return Some(()),
                pointer if pointer & POINTER == POINTER => return self.byte().map(drop),
                length if length > LONGEST_LABEL => return None,
                length => drop(self.take(usize::from(length))?),
            }
        }
    }
}
