//! The first two blocks of the spool's file: whose it is, how long it was made, and up to which
//! number its records have been shipped. They are written in turn, so that one of them is whole
//! whenever the power fails.

use crypto::digest::Sha256;
use identity::TrustDomain;

use super::record::BLOCK;

const MARK: [u8; 8] = *b"CSGSPL01";
const DOMAIN: usize = 16;
const CHECKED: usize = 48;
const CHECKSUM: usize = 16;
/// Records begin behind both blocks.
pub(super) const LENGTH: usize = 2 * BLOCK;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Counts the writes; the later of two blocks is the one in force.
    pub(super) turn: u64,
    /// Records with smaller numbers are in the store.
    pub(super) shipped: u64,
    /// Of the whole file.
    pub(super) size: u64,
    pub(super) domain: [u8; DOMAIN],
}

impl Header {
    pub(super) fn new(trust_domain: &TrustDomain, size: u64) -> Self {
        let digest = Sha256::of(trust_domain.as_str().as_bytes());
        Self {
            turn: 0,
            shipped: 0,
            size,
            domain: *digest.as_bytes().first_chunk().expect("it is longer"),
        }
    }

    /// Where its block begins.
    pub(super) fn place(&self) -> u64 {
        (self.turn % 2) * BLOCK as u64
    }

    pub(super) fn encode(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[..8].copy_from_slice(&MARK);
        block[8..16].copy_from_slice(&self.turn.to_le_bytes());
        block[16..24].copy_from_slice(&self.shipped.to_le_bytes());
        block[24..32].copy_from_slice(&self.size.to_le_bytes());
        block[32..CHECKED].copy_from_slice(&self.domain);
        let checksum = checksum(&block[..CHECKED]);
        block[CHECKED..].copy_from_slice(&checksum);
        block
    }

    /// The one in force. `None`: neither block can be read.
    pub(super) fn read(file: &[u8]) -> Option<Self> {
        let blocks = file.chunks_exact(BLOCK).take(2);
        blocks
            .filter_map(Self::decode)
            .max_by_key(|header| header.turn)
    }

    fn decode(block: &[u8]) -> Option<Self> {
        let (checked, expected) = block.split_at_checked(CHECKED)?;
        if checked[..8] != MARK || checksum(checked) != *expected {
            return None;
        }
        let number = |at: usize| -> Option<u64> {
            let bytes = checked.get(at..at + 8)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        Some(Self {
            turn: number(8)?,
            shipped: number(16)?,
            size: number(24)?,
            domain: checked[32..].try_into().ok()?,
        })
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let digest = Sha256::of(bytes);
    *digest.as_bytes().first_chunk().expect("it is longer")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(turn: u64) -> Header {
        Header {
            turn,
            shipped: turn * 10,
            ..Header::new(&"td.test".parse().unwrap(), 4096)
        }
    }

    fn file(headers: [Header; 2]) -> Vec<u8> {
        let mut file = vec![0; LENGTH];
        for header in headers {
            let at = usize::try_from(header.place()).unwrap();
            file[at..at + BLOCK].copy_from_slice(&header.encode());
        }
        file
    }

    #[test]
    fn the_later_block_is_in_force_and_the_earlier_when_it_is_torn() {
        let mut file = file([header(6), header(7)]);
        assert_eq!(Header::read(&file), Some(header(7)));
        file[BLOCK + 20] ^= 1;
        assert_eq!(Header::read(&file), Some(header(6)));
        file[20] ^= 1;
        assert_eq!(Header::read(&file), None);
        assert_eq!(Header::read(&file[..10]), None);
    }
}
