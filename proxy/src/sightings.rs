//! Which certificates peers have shown, for the CA to hold against its log.
//!
//! Invariant: bounded, and cheap on a handshake's way. Each certificate is told once an hour; what
//! finds no room is not told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crypto::digest::Sha256;
use mtls::PeerIdentity;
use proto::mesh::v1;
use tokio::time::Instant;

/// A certificate is told again after so long.
const AGAIN: Duration = Duration::from_secs(60 * 60);
/// Certificates that are remembered as told.
const MOST_KNOWN: usize = 4_096;
/// Certificates that wait to be told.
const MOST_WAITING: usize = 256;

/// Cheap to clone; all clones see together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sightings(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    told: HashMap<Sha256, Instant>,
    waiting: Vec<v1::SeenLeaf>,
}

impl Sightings {
    /// A handshake has verified this peer.
    pub(crate) fn note(&self, peer: &PeerIdentity) {
        let digest = peer.leaf_digest();
        if self.seen().is_news(digest, Instant::now()) {
            let leaf = v1::SeenLeaf {
                spiffe_id: peer.spiffe_id().to_string(),
                serial: peer.serial().as_bytes().to_vec(),
                sha256: digest.as_bytes().to_vec(),
                authorities: peer
                    .authorities()
                    .iter()
                    .map(|key| key.as_bytes().to_vec())
                    .collect(),
            };
            self.seen().waiting.push(leaf);
        }
    }

    /// What is to be told; it counts as told.
    pub(crate) fn take(&self) -> Vec<v1::SeenLeaf> {
        std::mem::take(&mut self.seen().waiting)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn is_news(&mut self, digest: Sha256, now: Instant) -> bool {
        let known = self.told.get(&digest);
        if known.is_some_and(|told| now < *told + AGAIN) || self.waiting.len() >= MOST_WAITING {
            return false;
        }
        if self.told.len() >= MOST_KNOWN {
            self.told.retain(|_, told| now < *told + AGAIN);
            if self.told.len() >= MOST_KNOWN {
                return false;
            }
        }
        self.told.insert(digest, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(index: usize) -> Sha256 {
        Sha256::of(&index.to_be_bytes())
    }

    #[test]
    fn a_certificate_is_news_once_an_hour() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        assert!(seen.is_news(digest(1), now));
        assert!(!seen.is_news(digest(1), now + AGAIN - Duration::from_secs(1)));
        assert!(seen.is_news(digest(1), now + AGAIN));
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        let news = (0..MOST_KNOWN + 10).filter(|index| seen.is_news(digest(*index), now));
        assert_eq!(news.count(), MOST_KNOWN);
        assert!(seen.is_news(digest(MOST_KNOWN), now + AGAIN));
        assert_eq!(seen.told.len(), 1);
    }

    #[test]
    fn what_waits_is_bounded_and_what_found_no_room_is_news_later() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        seen.waiting = vec![v1::SeenLeaf::default(); MOST_WAITING];
        assert!(!seen.is_news(digest(1), now));
        seen.waiting.clear();
        assert!(seen.is_news(digest(1), now));
    }
}
