//! How a revocation that waits for the store lies in its spool: no IO, no clock.

use time::OffsetDateTime;

use super::record::{Payload, Reader};
use crate::store::RevocationSubject;

/// Distinct from what other files hold, whose records would otherwise be read as these.
const REVOKED: u8 = 2;

/// A revocation that was accepted while the store was away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpooledRevocation {
    pub(crate) subject: RevocationSubject,
    pub(crate) expires_at: Option<OffsetDateTime>,
    pub(crate) reason: String,
    pub(crate) author: String,
    pub(crate) accepted_at: OffsetDateTime,
}

impl Payload for SpooledRevocation {
    fn payload(&self) -> Vec<u8> {
        let subject = self.subject.to_string();
        let mut bytes = vec![REVOKED];
        for text in [self.subject.kind(), &subject, &self.reason, &self.author] {
            let length = u16::try_from(text.len()).expect("REST takes no longer text");
            bytes.extend(length.to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        bytes.extend(self.accepted_at.unix_timestamp_nanos().to_le_bytes());
        bytes.push(u8::from(self.expires_at.is_some()));
        if let Some(end) = self.expires_at {
            bytes.extend(end.unix_timestamp_nanos().to_le_bytes());
        }
        bytes
    }

    fn of_payload(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader(payload);
        if reader.array()? != [REVOKED] {
            return None;
        }
        let (kind, subject) = (reader.text()?, reader.text()?);
        let revocation = Self {
            subject: RevocationSubject::parse(kind, subject).ok()?,
            reason: reader.text()?.to_owned(),
            author: reader.text()?.to_owned(),
            accepted_at: reader.instant()?,
            expires_at: match reader.array()? {
                [0] => None,
                [1] => Some(reader.instant()?),
                _ => return None,
            },
        };
        reader.0.is_empty().then_some(revocation)
    }
}

#[cfg(test)]
mod tests {
    use crypto::digest::Sha256;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn a_revocation_reads_back_as_it_was(
            key: [u8; 32],
            reason in "\\PC{1,80}",
            at in 0..2_000_000_000_i64,
            end in prop::option::of(0..2_000_000_000_i64),
        ) {
            let instant = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
            let revocation = SpooledRevocation {
                subject: RevocationSubject::Authority(Sha256::from_bytes(key)),
                expires_at: end.map(instant),
                reason,
                author: "admin/first".to_owned(),
                accepted_at: instant(at),
            };
            let again = SpooledRevocation::of_payload(&revocation.payload());
            prop_assert_eq!(again, Some(revocation));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = bytes;
            bytes.insert(0, REVOKED);
            if let Some(read) = SpooledRevocation::of_payload(&bytes) {
                prop_assert_eq!(read.payload(), bytes);
            }
        }
    }
}
