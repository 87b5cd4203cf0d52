//! Entry bundles: the entries of a tile, each after its length (c2sp.org/tlog-tiles, "Log Entries").

use thiserror::Error;

use crate::tile::TILE_WIDTH;

/// No entry is longer, in bytes.
pub const MAX_ENTRY: usize = u16::MAX as usize;
/// No bundle is longer, in bytes.
pub const MAX_BUNDLE: usize = TILE_WIDTH as usize * (2 + MAX_ENTRY);

/// Why bytes are not a bundle of so many entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BundleError {
    #[error("the bundle has {found} entries, not {wanted}")]
    Count { wanted: u16, found: usize },
    #[error("the bundle ends inside of entry {0}")]
    Cut(usize),
    #[error("an entry of {0} bytes does not fit in a bundle")]
    Entry(usize),
}

/// Appends one entry.
pub fn push(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), BundleError> {
    let length = u16::try_from(entry.len()).map_err(|_| BundleError::Entry(entry.len()))?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// The entries of a bundle that has exactly `count`.
pub fn split(bytes: &[u8], count: u16) -> Result<Vec<&[u8]>, BundleError> {
    let mut entries = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (entry, after) = first(rest).ok_or(BundleError::Cut(entries.len()))?;
        entries.push(entry);
        rest = after;
        if entries.len() > usize::from(TILE_WIDTH) {
            break;
        }
    }
    match entries.len() == usize::from(count) {
        true => Ok(entries),
        false => Err(BundleError::Count {
            wanted: count,
            found: entries.len(),
        }),
    }
}

/// The beginning of a bundle: its first `count` entries, as they are served.
pub fn prefix(bytes: &[u8], count: u16) -> Result<&[u8], BundleError> {
    let mut rest = bytes;
    for place in 0..usize::from(count) {
        let (_, after) = first(rest).ok_or(BundleError::Cut(place))?;
        rest = after;
    }
    Ok(&bytes[..bytes.len() - rest.len()])
}

fn first(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_that_is_too_long_is_refused() {
        let outcome = push(&mut Vec::new(), &[0; 65_536]);
        assert_eq!(outcome, Err(BundleError::Entry(65_536)));
    }

    #[test]
    fn a_bundle_that_ends_inside_of_an_entry_is_refused() {
        assert_eq!(split(&[0, 1, 9, 0], 2), Err(BundleError::Cut(1)));
        assert_eq!(split(&[0, 2, 9], 1), Err(BundleError::Cut(0)));
        assert_eq!(prefix(&[0, 1, 9], 2), Err(BundleError::Cut(1)));
    }

    #[test]
    fn a_bundle_with_more_entries_than_asked_for_is_refused() {
        let count = |wanted, found| BundleError::Count { wanted, found };
        assert_eq!(split(&[0, 0, 0, 0], 1), Err(count(1, 2)));
        assert_eq!(split(&[0; 2 * 300], 256), Err(count(256, 257)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn entries_are_read_as_they_were_written(
            entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
            some: prop::sample::Index,
        ) {
            let mut bundle = Vec::new();
            for entry in &entries {
                push(&mut bundle, entry).unwrap();
            }
            let count = entries.len() as u16;
            prop_assert_eq!(split(&bundle, count).unwrap(), entries.clone());
            let some = some.index(entries.len() + 1);
            let beginning = prefix(&bundle, some as u16).unwrap();
            prop_assert_eq!(split(beginning, some as u16).unwrap(), &entries[..some]);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            for count in [0, 1, 3, 256] {
                if let Ok(entries) = split(&bytes, count) {
                    let mut again = Vec::new();
                    entries.iter().for_each(|entry| push(&mut again, entry).unwrap());
                    prop_assert_eq!(&again, &bytes);
                }
            }
        }
    }
}
