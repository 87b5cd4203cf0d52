//! Writes an answer.

use std::net::IpAddr;

use super::{
    Answer, Authority, CLASS_IN, HEADER, Query, TYPE_A, TYPE_AAAA, TYPE_OPT, TYPE_SOA, UDP_LIMIT,
};

/// Addresses are for good, but a Service may go.
const TTL: u32 = 30;
/// A Service that is made now is soon seen by those who asked for it before.
const NEGATIVE_TTL: u32 = 5;

const RESPONSE: u16 = 0x8000;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;
const CHECKING_DISABLED: u16 = 0x0010;
const DNSSEC_OK: u16 = 0x8000;
/// A compression pointer to the question's name.
const QUESTION: u16 = 0xc000 + HEADER as u16;
/// `mesh.internal.` at the end of a question of ours.
const ZONE_LENGTH: usize = 15;

/// The answer in at most `limit` bytes; one that is too long is cut off and says so (RFC 2181
/// section 9).
pub(crate) fn encode(query: &Query, answer: &Answer, limit: usize, recursive: bool) -> Vec<u8> {
    let whole = write(query, answer, recursive, 0);
    if whole.len() <= limit {
        return whole;
    }
    let cut = Answer {
        addresses: Vec::new(),
        authority: match answer.authority {
            Authority::None => Authority::None,
            _ => Authority::Ours,
        },
        ..answer.clone()
    };
    write(query, &cut, recursive, TRUNCATED)
}

fn write(query: &Query, answer: &Answer, recursive: bool, flags: u16) -> Vec<u8> {
    let set = |flag: u16, on: bool| if on { flag } else { 0 };
    let code = answer.code.number();
    let flags = flags
        | RESPONSE
        | set(AUTHORITATIVE, answer.authority != Authority::None)
        | set(RECURSION_DESIRED, query.recursion_desired)
        | set(RECURSION_AVAILABLE, recursive)
        | set(CHECKING_DISABLED, query.checking_disabled)
        | (code & 0xf);
    let has_question = !query.name.is_empty();
    let soa = [Authority::Soa, Authority::Negative].map(|it| answer.authority == it);
    let answers = answer.addresses.len() as u16 + u16::from(soa[0]);
    let counts = [
        u16::from(has_question),
        answers,
        u16::from(soa[1]),
        u16::from(query.edns.is_some()),
    ];
    let mut out = Vec::with_capacity(128);
    put(&mut out, &[query.id, flags]);
    put(&mut out, &counts);
    if has_question {
        out.extend_from_slice(&query.name);
        put(&mut out, &[query.kind, query.class]);
    }
    for address in &answer.addresses {
        record(&mut out, *address);
    }
    if soa.contains(&true) {
        write_soa(&mut out, query);
    }
    if let Some(edns) = query.edns {
        out.push(0);
        put(&mut out, &[TYPE_OPT, UDP_LIMIT]);
        // RFC 6891 section 6.1.3: the code's upper bits, version 0; DO as it was asked.
        put(
            &mut out,
            &[(code >> 4) << 8, set(DNSSEC_OK, edns.dnssec_ok), 0],
        );
    }
    out
}

fn record(out: &mut Vec<u8>, address: IpAddr) {
    let ttl = |out: &mut Vec<u8>| out.extend_from_slice(&TTL.to_be_bytes());
    match address {
        IpAddr::V4(address) => {
            put(out, &[QUESTION, TYPE_A, CLASS_IN]);
            ttl(out);
            put(out, &[4]);
            out.extend_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            put(out, &[QUESTION, TYPE_AAAA, CLASS_IN]);
            ttl(out);
            put(out, &[16]);
            out.extend_from_slice(&address.octets());
        }
    }
}

/// The zone's SOA; its name is the end of the question's.
fn write_soa(out: &mut Vec<u8>, query: &Query) {
    let zone = QUESTION + query.name.len().saturating_sub(ZONE_LENGTH) as u16;
    let nobody = b"\x06nobody\x07invalid\x00";
    put(out, &[zone, TYPE_SOA, CLASS_IN]);
    out.extend_from_slice(&NEGATIVE_TTL.to_be_bytes());
    let numbers: [u32; 5] = [1, 3600, 600, 86400, NEGATIVE_TTL];
    put(out, &[(2 + nobody.len() + 4 * numbers.len()) as u16, zone]);
    out.extend_from_slice(nobody);
    for number in numbers {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

fn put(out: &mut Vec<u8>, numbers: &[u16]) {
    for number in numbers {
        out.extend_from_slice(&number.to_be_bytes());
    }
}
