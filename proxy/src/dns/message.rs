//! DNS messages: one question in, one answer out (RFC 1035 section 4, RFC 6891). Pure.
//!
//! Refused: anything but a standard query with exactly one question, whose name is written out.
//! What is not a query at all gets no answer, so that two servers never talk in a circle.

use std::net::IpAddr;

mod encode;
mod parse;
mod response;

pub(crate) use encode::encode;
pub(crate) use parse::{Refused, parse};
pub(crate) use response::{Response, host_name, question, read};

pub(crate) const HEADER: usize = 12;
/// What a client without EDNS takes over UDP (RFC 1035 section 2.3.4).
pub(crate) const PLAIN_LIMIT: usize = 512;
/// What we take, and send at most, over UDP: never fragmented in practice.
pub(crate) const UDP_LIMIT: u16 = 1232;

pub(crate) const TYPE_A: u16 = 1;
pub(crate) const TYPE_SOA: u16 = 6;
pub(crate) const TYPE_AAAA: u16 = 28;
pub(crate) const TYPE_OPT: u16 = 41;
pub(crate) const TYPE_ANY: u16 = 255;
pub(crate) const CLASS_IN: u16 = 1;
pub(crate) const CLASS_ANY: u16 = 255;

/// One question, as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub id: u16,
    pub recursion_desired: bool,
    pub checking_disabled: bool,
    /// Labels with their lengths, as received: an answer repeats their case.
    pub name: Vec<u8>,
    pub kind: u16,
    pub class: u16,
    pub edns: Option<Edns>,
}

/// What the asker says of itself (RFC 6891 section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edns {
    pub size: u16,
    pub version: u8,
    pub dnssec_ok: bool,
}

/// RFC 1035 section 4.1.1, RFC 6891 section 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    NoError,
    FormatError,
    ServerFailure,
    NoSuchName,
    NotImplemented,
    Refused,
    BadVersion,
}

/// What is answered. Records are of the question's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub code: Code,
    pub addresses: Vec<IpAddr>,
    pub authority: Authority,
}

/// Where the zone's SOA stands (RFC 2308 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authority {
    /// Not our zone, or no answer of it.
    None,
    /// Ours, and there are records.
    Ours,
    /// Ours, and there are none: how long that may be believed.
    Negative,
    /// The SOA itself was asked for.
    Soa,
}

impl Query {
    /// Labels without their lengths, from the left; the root has none.
    pub(crate) fn labels(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        let mut labels = Vec::new();
        let mut rest = self.name.as_slice();
        while let [length, tail @ ..] = rest {
            let (label, tail) = tail.split_at(usize::from(*length).min(tail.len()));
            if label.is_empty() {
                break;
            }
            labels.push(label);
            rest = tail;
        }
        labels.into_iter()
    }

    /// How long an answer over UDP may be.
    pub(crate) fn udp_limit(&self) -> usize {
        self.edns.map_or(PLAIN_LIMIT, |edns| {
            usize::from(edns.size.min(UDP_LIMIT)).max(PLAIN_LIMIT)
        })
    }
}

impl Code {
    fn number(self) -> u16 {
        match self {
            Self::NoError => 0,
            Self::FormatError => 1,
            Self::ServerFailure => 2,
            Self::NoSuchName => 3,
            Self::NotImplemented => 4,
            Self::Refused => 5,
            Self::BadVersion => 16,
        }
    }
}

impl Answer {
    /// Nothing but a code.
    pub(crate) fn bare(code: Code) -> Self {
        Self {
            code,
            addresses: Vec::new(),
            authority: Authority::None,
        }
    }
}

#[cfg(test)]
mod tests;
