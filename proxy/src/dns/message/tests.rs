//! Compared with another implementation's reading of the same bytes.

use proptest::prelude::*;
use simple_dns::rdata::{OPT, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, TYPE};

use super::*;

const HOST: &str = "Orders.shop.mesh.internal";

fn asked(kind: TYPE, edns: bool) -> Vec<u8> {
    let mut packet = Packet::new_query(7);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new_unchecked(HOST);
    packet.questions.push(Question::new(
        name,
        QTYPE::TYPE(kind),
        CLASS::IN.into(),
        false,
    ));
    if edns {
        *packet.opt_mut() = Some(OPT {
            opt_codes: Vec::new(),
            udp_packet_size: 4096,
            version: 0,
        });
    }
    packet.build_bytes_vec().unwrap()
}

#[track_caller]
fn refused(message: &[u8], expected: Code) {
    let found = parse(message);
    assert!(
        matches!(&found, Err(Refused::With(code, _)) if *code == expected),
        "{found:?}"
    );
}

#[test]
fn what_is_no_query_gets_no_answer() {
    let mut response = asked(TYPE::A, false);
    response[2] |= 0x80;
    for message in [&response[..], &response[..11], &[]] {
        assert_eq!(parse(message), Err(Refused::Silently));
    }
}

#[test]
fn what_is_not_one_standard_question_is_refused() {
    let query = asked(TYPE::A, true);
    let with = |at: usize, byte: u8| {
        let mut changed = query.clone();
        changed[at] = byte;
        changed
    };
    refused(&with(2, 0x28), Code::NotImplemented);
    for (at, byte) in [
        (5, 0),
        (5, 2),
        (7, 1),
        (9, 1),
        (11, 2),
        (12, 0xc0),
        (12, 64),
    ] {
        refused(&with(at, byte), Code::FormatError);
    }
    refused(&query[..query.len() - 1], Code::FormatError);
    refused(&[&query[..], &[0]].concat(), Code::FormatError);
    // Version 1, in the OPT record's TTL.
    refused(&with(query.len() - 5, 1), Code::BadVersion);
}

#[test]
fn a_name_of_more_than_255_bytes_is_refused() {
    let mut message = asked(TYPE::A, false)[..HEADER].to_vec();
    for _ in 0..5 {
        message.push(63);
        message.extend_from_slice(&[b'a'; 63]);
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    refused(&message, Code::FormatError);
}

#[test]
fn a_question_of_an_unknown_type_is_a_question() {
    let mut message = asked(TYPE::A, false);
    let at = message.len() - 4;
    message[at..at + 2].copy_from_slice(&999u16.to_be_bytes());
    assert_eq!(parse(&message).unwrap().kind, 999);
}

#[test]
fn an_answer_that_is_too_long_is_cut_off_and_says_so() {
    let query = parse(&asked(TYPE::A, true)).unwrap();
    let answer = Answer {
        code: Code::NoError,
        addresses: vec!["240.0.0.1".parse().unwrap(); 90],
        authority: Authority::Ours,
    };
    let short = encode(&query, &answer, query.udp_limit(), false);
    let parsed = Packet::parse(&short).unwrap();
    assert!(parsed.has_flags(PacketFlag::TRUNCATION) && parsed.answers.is_empty());
    let whole = encode(&query, &answer, usize::from(u16::MAX), false);
    assert_eq!(Packet::parse(&whole).unwrap().answers.len(), 90);
}

#[test]
fn a_denial_carries_the_zone_and_how_long_to_believe_it() {
    let query = parse(&asked(TYPE::TXT, false)).unwrap();
    let answer = Answer {
        code: Code::NoSuchName,
        addresses: Vec::new(),
        authority: Authority::Negative,
    };
    let bytes = encode(&query, &answer, PLAIN_LIMIT, false);
    let parsed = Packet::parse(&bytes).unwrap();
    assert_eq!(parsed.rcode(), RCODE::NameError);
    let soa = &parsed.name_servers[0];
    assert_eq!(
        (soa.name.to_string().as_str(), soa.ttl),
        ("mesh.internal", 5)
    );
    assert!(matches!(&soa.rdata, RData::SOA(soa) if soa.minimum == 5));
}

#[test]
fn another_implementation_reads_the_addresses_and_the_case_that_was_asked() {
    let query = parse(&asked(TYPE::A, true)).unwrap();
    let labels: Vec<_> = query.labels().collect();
    assert_eq!(labels, [&b"Orders"[..], b"shop", b"mesh", b"internal"]);
    let answer = Answer {
        code: Code::NoError,
        addresses: vec!["240.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        authority: Authority::Ours,
    };
    let bytes = encode(&query, &answer, query.udp_limit(), true);
    let parsed = Packet::parse(&bytes).unwrap();
    assert_eq!(
        (parsed.id(), parsed.questions[0].qname.to_string()),
        (7, HOST.to_owned())
    );
    assert!(parsed.has_flags(PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_AVAILABLE));
    assert!(matches!(&parsed.answers[0].rdata, RData::A(a) if a.address == 0xf000_0001));
    assert!(matches!(&parsed.answers[1].rdata, RData::AAAA(a) if a.address == 0xfd00 << 112 | 1));
    assert_eq!(parsed.opt().unwrap().udp_packet_size, UDP_LIMIT);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_message_panics_and_every_answer_can_be_read(
        start in prop::sample::select(vec![asked(TYPE::A, false), asked(TYPE::AAAA, true), vec![]]),
        noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        tail in prop::collection::vec(any::<u8>(), 0..24),
        addresses in prop::collection::vec(any::<IpAddr>(), 0..80),
    ) {
        let mut message = start;
        message.extend(tail);
        for (at, byte) in noise.iter().filter(|_| true) {
            if !message.is_empty() {
                let at = at.index(message.len());
                message[at] = *byte;
            }
        }
        let (query, code) = match parse(&message) {
            Ok(query) => (query, Code::NoError),
            Err(Refused::With(code, query)) => (query, code),
            Err(Refused::Silently) => return Ok(()),
        };
        let ours = code == Code::NoError && query.name.ends_with(b"\x04mesh\x08internal\0");
        let answer = Answer {
            code,
            addresses: if ours { addresses } else { Vec::new() },
            authority: if ours { Authority::Negative } else { Authority::None },
        };
        let bytes = encode(&query, &answer, query.udp_limit(), false);
        prop_assert!(bytes.len() <= query.udp_limit());
        prop_assert_eq!(&bytes[..2], &message[..2]);
        // What the other implementation takes for a question, it finds again in the answer.
        if let (Ok(asked), Code::NoError) = (Packet::parse(&message), code) {
            let answered = Packet::parse(&bytes).unwrap();
            prop_assert_eq!(answered.questions[0].qname.to_string(), asked.questions[0].qname.to_string());
            prop_assert_eq!(answered.questions[0].qtype, asked.questions[0].qtype);
        }
    }
}
