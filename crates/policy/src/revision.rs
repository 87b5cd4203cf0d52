//! Which configuration a decision was made from.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// A configuration write, as `<epoch>-<number>`. The epoch is random and changes when the store
/// is restored; numbers count up within one epoch, so only there are revisions ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Revision {
    /// Of the store's life.
    pub epoch: u64,
    /// Counts writes.
    pub number: u64,
}

/// Why a text is not a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a revision is written `<epoch: 8 to 16 small hex digits>-<number>`, such as 9f1c02ab-42")]
pub struct InvalidRevision;

impl PartialOrd for Revision {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self.epoch == other.epoch).then(|| self.number.cmp(&other.number))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.epoch, self.number)
    }
}

impl FromStr for Revision {
    type Err = InvalidRevision;

    fn from_str(text: &str) -> Result<Self, InvalidRevision> {
        let (epoch, number) = text.split_once('-').ok_or(InvalidRevision)?;
        let revision = Self {
            epoch: u64::from_str_radix(epoch, 16).map_err(|_| InvalidRevision)?,
            number: number.parse().map_err(|_| InvalidRevision)?,
        };
        // One text for each revision: signs, capitals and spare zeros are refused.
        if revision.to_string() != text {
            return Err(InvalidRevision);
        }
        Ok(revision)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn other_spellings_of_a_revision_are_refused() {
        let spellings = [
            "",
            "-",
            "9f1c02ab",
            "9F1C02AB-1",
            "9f1c02ab-01",
            "9f1c02ab-+1",
            "1-1",
        ];
        for text in spellings {
            assert_eq!(text.parse::<Revision>(), Err(InvalidRevision), "{text}");
        }
    }

    #[test]
    fn revisions_of_two_epochs_have_no_order() {
        let (old, restored) = (
            Revision {
                epoch: 1,
                number: 9,
            },
            Revision {
                epoch: 2,
                number: 3,
            },
        );
        assert_eq!(old.partial_cmp(&restored), None);
        assert!(
            old < Revision {
                epoch: 1,
                number: 10
            }
        );
    }

    proptest! {
        #[test]
        fn text_of_a_revision_gives_it_back(epoch: u64, number: u64) {
            let revision = Revision { epoch, number };
            prop_assert_eq!(revision.to_string().parse(), Ok(revision));
        }
    }
}
