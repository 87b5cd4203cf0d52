//! How records lie in the spool's file: no IO, no clock.
//!
//! A record fills whole blocks of 64 bytes: a mark, the payload's length, the record's number, a
//! checksum over these and the payload, the payload, zeros. Free blocks are zero. So damage costs
//! the records that it touches, and none behind them; and whatever is neither free nor a record is
//! reported, never passed over.

use crypto::digest::Sha256;
use identity::{SerialNumber, SpiffeId};
use time::OffsetDateTime;

use crate::store::IssuedRow;

pub(super) const BLOCK: usize = 64;
const MARK: [u8; 4] = *b"CSGR";
const HEAD: usize = 32;
const CHECKSUM: usize = 16;
/// Two SPIFFE IDs of the greatest length, and room for the rest.
const LONGEST: usize = 8 * 1024;
/// What a payload begins with; a later build may add kinds.
const ISSUED: u8 = 1;

/// What a file keeps one record of each of.
pub(crate) trait Payload: Sized {
    /// A few kilobytes at most.
    fn payload(&self) -> Vec<u8>;
    /// `None`: it is not one of these, whole.
    fn of_payload(payload: &[u8]) -> Option<Self>;
}

/// What the blocks of a file hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scan<P = IssuedRow> {
    /// In the order of their numbers.
    pub(super) records: Vec<(u64, P)>,
    pub(super) damages: Vec<Damage>,
    /// Numbers below the last one found, from `shipped` on, that no readable record has.
    pub(super) missing: Vec<u64>,
    /// The first block behind everything that is not free.
    pub(super) end: usize,
}

/// A stretch that is neither free nor a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) at: usize,
    pub(super) bytes: usize,
}

/// The record's blocks.
pub(super) fn encode(number: u64, row: &impl Payload) -> Vec<u8> {
    let payload = row.payload();
    let length = u32::try_from(payload.len()).expect("a record has a few kilobytes at most");
    let mut bytes = Vec::with_capacity((HEAD + payload.len()).next_multiple_of(BLOCK));
    bytes.extend(MARK);
    bytes.extend(length.to_le_bytes());
    bytes.extend(number.to_le_bytes());
    bytes.extend(checksum(number, &payload));
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// Everything that has not been shipped, and all that cannot be read.
pub(super) fn scan<P: Payload>(bytes: &[u8], shipped: u64) -> Scan<P> {
    let mut scan = Scan {
        records: Vec::new(),
        damages: Vec::new(),
        missing: Vec::new(),
        end: 0,
    };
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let block = &rest[..rest.len().min(BLOCK)];
        if block.iter().all(|byte| *byte == 0) {
            at += block.len();
            continue;
        }
        match decode(rest) {
            Some((number, row, length)) => {
                if number >= shipped {
                    scan.records.push((number, row));
                }
                at += length;
            }
            None => {
                scan.damaged(at, block.len());
                at += block.len();
            }
        }
        scan.end = at;
    }
    scan.records.sort_by_key(|(number, _)| *number);
    scan.records.dedup_by_key(|(number, _)| *number);
    scan.missing = missing(&scan.records, shipped);
    scan
}

impl<P> Scan<P> {
    fn damaged(&mut self, at: usize, bytes: usize) {
        match self.damages.last_mut() {
            Some(last) if last.at + last.bytes == at => last.bytes += bytes,
            _ => self.damages.push(Damage { at, bytes }),
        }
    }
}

/// At most as many as anybody would read.
fn missing<P>(records: &[(u64, P)], shipped: u64) -> Vec<u64> {
    const NAMED: usize = 1_000;
    let mut expected = shipped;
    let mut missing = Vec::new();
    for (number, _) in records {
        let room = NAMED.saturating_sub(missing.len());
        missing.extend((expected..*number).take(room));
        expected = number + 1;
    }
    missing
}

/// The record at the beginning of `bytes`, and how many bytes it fills.
fn decode<P: Payload>(bytes: &[u8]) -> Option<(u64, P, usize)> {
    let mut reader = Reader(bytes);
    if reader.array()? != MARK {
        return None;
    }
    let length = u32::from_le_bytes(reader.array()?) as usize;
    let number = u64::from_le_bytes(reader.array()?);
    let expected: [u8; CHECKSUM] = reader.array()?;
    if length > LONGEST {
        return None;
    }
    let payload = reader.bytes(length)?;
    let filled = (HEAD + length).next_multiple_of(BLOCK);
    let rest = bytes.get(HEAD + length..filled)?;
    let sound = checksum(number, payload) == expected && rest.iter().all(|byte| *byte == 0);
    let row = P::of_payload(payload).filter(|_| sound)?;
    Some((number, row, filled))
}

fn checksum(number: u64, payload: &[u8]) -> [u8; CHECKSUM] {
    let whole = Sha256::of_parts(&[&number.to_le_bytes(), payload]);
    *whole.as_bytes().first_chunk().expect("a digest is longer")
}

impl Payload for IssuedRow {
    fn payload(&self) -> Vec<u8> {
        let mut bytes = vec![ISSUED];
        let texts = [
            self.spiffe_id.as_str(),
            self.agent_id.as_str(),
            &self.issuer,
        ];
        let variable = [self.serial.as_bytes()];
        for field in variable.into_iter().chain(texts.map(str::as_bytes)) {
            let length = u16::try_from(field.len()).expect("a SPIFFE ID has at most 2048 bytes");
            bytes.extend(length.to_le_bytes());
            bytes.extend(field);
        }
        for at in [self.not_before, self.not_after, self.issued_at] {
            bytes.extend(at.unix_timestamp_nanos().to_le_bytes());
        }
        bytes.extend(self.leaf_sha256.as_bytes());
        bytes
    }

    fn of_payload(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader(payload);
        if reader.array()? != [ISSUED] {
            return None;
        }
        let row = Self {
            serial: SerialNumber::from_bytes(reader.field()?).ok()?,
            spiffe_id: reader.id()?,
            agent_id: reader.id()?,
            issuer: reader.text()?.to_owned(),
            not_before: reader.instant()?,
            not_after: reader.instant()?,
            issued_at: reader.instant()?,
            leaf_sha256: Sha256::from_bytes(reader.array()?),
        };
        reader.0.is_empty().then_some(row)
    }
}

/// What is left to be read.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn field(&mut self) -> Option<&'a [u8]> {
        let length = u16::from_le_bytes(self.array()?);
        self.bytes(length.into())
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.field()?).ok()
    }

    fn id(&mut self) -> Option<SpiffeId> {
        self.text()?.parse().ok()
    }

    pub(super) fn instant(&mut self) -> Option<OffsetDateTime> {
        let nanos = i128::from_le_bytes(self.array()?);
        OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use crypto::random::SeededRandom;
    use proptest::prelude::*;

    use super::*;

    pub(in crate::spool) fn issued(seed: u64) -> IssuedRow {
        let at = OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(1_800_000_000_123);
        IssuedRow {
            serial: SerialNumber::random(&mut SeededRandom::new(seed)),
            spiffe_id: format!("spiffe://td.test/ns/shop/sa/orders-{seed}")
                .parse()
                .unwrap(),
            agent_id: "spiffe://td.test/countersign/agent/x509pop/web-7"
                .parse()
                .unwrap(),
            issuer: "ab".repeat(usize::try_from(seed % 90).unwrap()),
            not_before: at,
            not_after: at + time::Duration::hours(1),
            issued_at: at,
            leaf_sha256: Sha256::of(&seed.to_le_bytes()),
        }
    }

    fn file(first: u64, count: u64) -> Vec<u8> {
        let records = (first..first + count).flat_map(|number| encode(number, &issued(number)));
        let mut bytes: Vec<u8> = records.collect();
        bytes.extend([0; 3 * BLOCK]);
        bytes
    }

    fn numbers(scan: &Scan) -> Vec<u64> {
        scan.records.iter().map(|(number, _)| *number).collect()
    }

    #[test]
    fn a_record_in_the_middle_that_cannot_be_read_is_named_and_costs_no_other() {
        let mut bytes = file(7, 3);
        let second = encode(7, &issued(7)).len();
        bytes[second + HEAD + 3] ^= 1;
        let scan: Scan = scan(&bytes, 7);
        assert_eq!((numbers(&scan), scan.missing), (vec![7, 9], vec![8]));
        assert_eq!(scan.damages.len(), 1);
        assert_eq!(scan.damages[0].at, second);
    }

    #[test]
    fn what_was_shipped_is_not_read_again() {
        let scan: Scan = scan(&file(7, 3), 9);
        assert_eq!((numbers(&scan), scan.missing), (vec![9], vec![]));
    }

    #[test]
    fn a_file_that_was_cut_has_a_damage_where_the_cut_is() {
        let bytes = file(0, 2);
        let first = encode(0, &issued(0)).len();
        let scan: Scan = scan(&bytes[..first + 40], 0);
        assert_eq!(numbers(&scan), [0]);
        let damage = Damage {
            at: first,
            bytes: 40,
        };
        assert_eq!(scan.damages, [damage]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn records_come_back_as_they_went(first in 0..1000_u64, count in 0..20_u64) {
            let scan: Scan = scan(&file(first, count), first);
            let expected: Vec<_> = (first..first + count).map(|it| (it, issued(it))).collect();
            prop_assert_eq!(scan.records, expected);
            prop_assert!(scan.damages.is_empty() && scan.missing.is_empty());
        }

        /// Whatever happens to some bytes: a record is read as it was, or its loss is told of.
        #[test]
        fn damage_is_told_of_and_never_changes_a_record(
            count in 1..12_u64,
            hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in any::<prop::sample::Index>(),
            is_cut in any::<bool>(),
        ) {
            let mut bytes = file(0, count);
            for (at, value) in &hits {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            if is_cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            let scan: Scan = scan(&bytes, 0);
            for (number, row) in &scan.records {
                prop_assert_eq!(row, &issued(*number));
            }
            let lost = (count as usize) - scan.records.len();
            let told = !scan.damages.is_empty() || !scan.missing.is_empty();
            // A cut between two records, or zeros over whole records at the end, leave no trace
            // here: the file's length and header tell of these.
            prop_assert!(lost == 0 || told || is_cut);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            let scan = scan::<IssuedRow>(&bytes, 0);
            prop_assert!(scan.end <= bytes.len());
        }
    }
}
