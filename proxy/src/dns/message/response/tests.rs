use proptest::prelude::*;

use super::*;

fn query(kind: u16) -> Query {
    Query {
        id: 7,
        recursion_desired: true,
        checking_disabled: false,
        name: host_name("db.example").unwrap(),
        kind,
        class: CLASS_IN,
        edns: None,
    }
}

/// A response with these records; its question stands at 12, and `example` in it at 15.
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn to(query: &Query, code: u8) -> Self {
        let mut bytes = question(query);
        bytes[2] |= RESPONSE;
        bytes[3] |= code;
        Self { bytes }
    }

    fn answer(self, name: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Self {
        self.record(6, name, kind, ttl, data)
    }

    fn record(mut self, count: usize, name: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Self {
        self.bytes[count + 1] += 1;
        self.bytes.extend_from_slice(name);
        self.bytes
            .extend([kind, CLASS_IN].map(u16::to_be_bytes).concat());
        self.bytes.extend(ttl.to_be_bytes());
        self.bytes.extend((data.len() as u16).to_be_bytes());
        self.bytes.extend_from_slice(data);
        self
    }

    fn read(&self) -> Result<Response, Malformed> {
        read(&self.bytes, &query(TYPE_A))
    }
}

const QUESTION: &[u8] = &[0xc0, 12];
const ONE: [u8; 4] = [10, 0, 0, 1];

fn found(addresses: &[[u8; 4]], ttl: u32) -> Result<Response, Malformed> {
    let addresses = addresses.iter().map(|it| IpAddr::from(*it)).collect();
    Ok(Response::Addresses { addresses, ttl })
}

#[test]
fn texts_that_are_no_host_name_are_refused() {
    for text in [
        "",
        ".",
        "a..b",
        "a b",
        "ä.example",
        &"a".repeat(64),
        &"a.".repeat(128),
    ] {
        assert_eq!(host_name(text), None, "{text}");
    }
    assert_eq!(host_name("Db.Example."), host_name("db.example"));
}

#[test]
fn an_answer_to_another_question_is_not_read() {
    let whole = Message::to(&query(TYPE_A), 0).answer(QUESTION, TYPE_A, 60, &ONE);
    for (at, byte) in [(0, 9), (2, 1), (5, 2), (13, b'x'), (24, 28)] {
        let mut other = whole.bytes.clone();
        other[at] = byte;
        assert_eq!(read(&other, &query(TYPE_A)), Err(Malformed), "{at}");
    }
    assert_eq!(whole.read(), found(&[ONE], 60));
}

#[test]
fn records_of_another_name_are_not_believed() {
    let other = b"\x04evil\x00";
    let message = Message::to(&query(TYPE_A), 0)
        .answer(other, TYPE_A, 60, &[6, 6, 6, 6])
        .answer(QUESTION, TYPE_A, 30, &ONE);
    assert_eq!(message.read(), found(&[ONE], 30));
}

#[test]
fn pointers_that_do_not_lead_back_are_refused() {
    for pointer in [[0xc0, 28], [0xc0, 200], [0xff, 0xff]] {
        let message = Message::to(&query(TYPE_A), 0).answer(&pointer, TYPE_A, 60, &ONE);
        assert_eq!(message.read(), Err(Malformed), "{pointer:?}");
    }
}

#[test]
fn an_alias_that_leads_in_a_circle_leads_nowhere() {
    let message = Message::to(&query(TYPE_A), 0).answer(QUESTION, TYPE_CNAME, 60, QUESTION);
    assert_eq!(message.read(), Ok(Response::Nothing { ttl: None }));
}

#[test]
fn an_alias_is_followed_and_the_least_ttl_counts() {
    let to = b"\x01x\xc0\x0f";
    let message = Message::to(&query(TYPE_A), 0)
        .answer(b"\x01x\xc0\x0f", TYPE_A, 300, &ONE)
        .answer(QUESTION, TYPE_CNAME, 20, to)
        .answer(b"\x01X\xc0\x0f", TYPE_A, 200, &[10, 0, 0, 2]);
    assert_eq!(message.read(), found(&[ONE, [10, 0, 0, 2]], 20));
}

#[test]
fn a_ttl_with_its_highest_bit_set_is_none() {
    let message = Message::to(&query(TYPE_A), 0).answer(QUESTION, TYPE_A, u32::MAX, &ONE);
    assert_eq!(message.read(), found(&[ONE], 0));
}

#[test]
fn a_name_that_does_not_exist_is_believed_as_long_as_its_zone_says() {
    let soa = [&b"\x00\x00"[..], &[0; 16], &30u32.to_be_bytes()].concat();
    let missing = Message::to(&query(TYPE_A), NO_SUCH_NAME);
    assert_eq!(missing.read(), Ok(Response::Nothing { ttl: None }));
    let told = missing.record(8, &[0], TYPE_SOA, 90, &soa);
    assert_eq!(told.read(), Ok(Response::Nothing { ttl: Some(30) }));
}

#[test]
fn a_resolver_that_fails_and_one_that_has_more_to_say_are_told_apart() {
    let mut truncated = Message::to(&query(TYPE_A), 0);
    truncated.bytes[2] |= TRUNCATED;
    assert_eq!(truncated.read(), Ok(Response::Truncated));
    let failed = Message::to(&query(TYPE_A), 2);
    assert_eq!(failed.read(), Ok(Response::Failed { code: 2 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_answer_panics(tail in proptest::collection::vec(any::<u8>(), 0..200), counts: [u8; 4]) {
        let mut message = Message::to(&query(TYPE_A), 0);
        message.bytes[6..8].copy_from_slice(&counts[..2]);
        message.bytes[8..10].copy_from_slice(&counts[2..]);
        message.bytes.extend(tail);
        let _ = message.read();
    }

    #[test]
    fn all_addresses_of_the_name_are_found(addresses in proptest::collection::vec(any::<[u8; 4]>(), 1..40)) {
        let message = Message::to(&query(TYPE_A), 0);
        let message = addresses.iter().fold(message, |message, it| {
            message.answer(QUESTION, TYPE_A, 60, it)
        });
        prop_assert_eq!(message.read(), found(&addresses, 60));
    }
}
