//! What must hold of any bytes that come as a DNS message. For fuzzing, and for a property test.

use super::message::{
    Answer, CLASS_IN, Code, HEADER, Query, Refused, Response, TYPE_A, TYPE_AAAA, encode, parse,
    question, read,
};

const TRUNCATED: u8 = 0x02;
const MOST_ADDRESSES: usize = 256;

/// Reads the bytes as a question to us, and as the answer to a question of ours.
///
/// # Panics
/// If one of the claims does not hold.
pub fn read_as_all(bytes: &[u8]) {
    match parse(bytes) {
        Ok(query) => is_answered(&query),
        Err(Refused::With(_, query)) => {
            let answer = encode(&query, &Answer::bare(Code::FormatError), 512, false);
            assert!(answer.len() >= HEADER);
        }
        Err(Refused::Silently) => {}
    }
    for kind in [TYPE_A, TYPE_AAAA] {
        if let Some(query) = asked(bytes, kind) {
            is_ours(bytes, &query);
        }
    }
}

/// What we answer is no longer than the asker takes, and names the question.
fn is_answered(query: &Query) {
    let limit = query.udp_limit();
    let answer = Answer::bare(Code::ServerFailure);
    let message = encode(query, &answer, limit, true);
    assert!(message.len() <= limit || message[2] & TRUNCATED != 0);
    assert_eq!(message[..2], query.id.to_be_bytes());
}

/// The question that the bytes repeat, if they are the answer to one of ours.
fn asked(bytes: &[u8], kind: u16) -> Option<Query> {
    let id = bytes.get(..2)?.try_into().ok()?;
    let name = bytes.get(HEADER..)?;
    let end = name.iter().position(|byte| *byte == 0)?;
    Some(Query {
        id: u16::from_be_bytes(id),
        recursion_desired: true,
        checking_disabled: false,
        name: name[..=end].to_vec(),
        kind,
        class: CLASS_IN,
        edns: None,
    })
}

fn is_ours(bytes: &[u8], query: &Query) {
    if let Ok(Response::Addresses { addresses, ttl }) = read(bytes, query) {
        let is_four = query.kind == TYPE_A;
        assert!(addresses.iter().all(|address| address.is_ipv4() == is_four));
        assert!((1..=MOST_ADDRESSES).contains(&addresses.len()) && ttl <= i32::MAX as u32);
    }
    // A resolver that repeats the question says nothing.
    assert!(read(&question(query), query).is_err());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANSWER: &[u8] = include_bytes!("../../../tests/fuzz/seeds/dns/answer");

    #[test]
    fn the_seed_is_an_answer() {
        let query = asked(ANSWER, TYPE_A).unwrap();
        assert!(matches!(
            read(ANSWER, &query),
            Ok(Response::Addresses { ttl: 20, .. })
        ));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn an_answer_with_a_few_other_bytes_is_no_surprise(
            changes in proptest::collection::vec((0..ANSWER.len(), any::<u8>()), 1..6),
        ) {
            let mut bytes = ANSWER.to_vec();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            read_as_all(&bytes);
        }
    }
}
