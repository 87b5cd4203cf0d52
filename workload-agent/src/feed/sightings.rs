//! Certificates that peers of the host's proxies have shown, until the CA was told on whatever
//! stream there is.
//!
//! Invariant: bounded, and each certificate is kept once however many proxies saw it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use identity::QualifiedName;
use proto::agent::v1 as wire;
use proto::mesh::v1 as mesh;
use time::OffsetDateTime;

/// A proxy tells of a certificate again after an hour.
const KEPT: Duration = Duration::from_secs(60 * 60);
const MOST: usize = 512;
const LONGEST_ID: usize = 2048;
const LONGEST_SERIAL: usize = 20;
/// As many certificates as a chain may have.
const MOST_AUTHORITIES: usize = 10;

/// By digest. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sightings(Arc<BTreeMap<Vec<u8>, Kept>>);

#[derive(Clone, Debug)]
struct Kept {
    sighting: wire::Sighting,
    since: OffsetDateTime,
}

/// Why what a proxy says of a certificate is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "seen.leaves: a leaf has a digest of 32 bytes, a serial number of 1 to 20, an identity, and at \
     most 10 authorities by digests of 32 bytes"
)]
pub(crate) struct MalformedSighting;

impl Sightings {
    /// Takes what the proxy of `workload` saw, as far as there is room. Answers whether any is news.
    pub(crate) fn note(
        &mut self,
        workload: &QualifiedName,
        leaves: Vec<mesh::SeenLeaf>,
        now: OffsetDateTime,
    ) -> bool {
        let mut news = false;
        for leaf in leaves {
            if self.0.contains_key(&leaf.sha256) || self.0.len() >= MOST {
                continue;
            }
            let digest = leaf.sha256.clone();
            let sighting = wire::Sighting {
                workload: workload.to_string(),
                leaf: Some(leaf),
            };
            let kept = Kept {
                sighting,
                since: now,
            };
            Arc::make_mut(&mut self.0).insert(digest, kept);
            news = true;
        }
        news
    }

    /// Forgets what proxies would tell again.
    pub(crate) fn tidy(&mut self, now: OffsetDateTime) {
        let is_old = |kept: &Kept| now - kept.since >= KEPT;
        if self.0.values().any(is_old) {
            Arc::make_mut(&mut self.0).retain(|_, kept| !is_old(kept));
        }
    }

    pub(crate) fn by_digest(&self) -> impl Iterator<Item = (&Vec<u8>, &wire::Sighting)> {
        self.0.iter().map(|(digest, kept)| (digest, &kept.sighting))
    }
}

/// Refuses what a CA would end the stream for.
pub(crate) fn require_well_formed(leaves: &[mesh::SeenLeaf]) -> Result<(), MalformedSighting> {
    let is_well_formed = |leaf: &mesh::SeenLeaf| {
        leaf.sha256.len() == 32
            && (1..=LONGEST_SERIAL).contains(&leaf.serial.len())
            && leaf.serial[0] != 0
            && leaf.spiffe_id.len() <= LONGEST_ID
            && leaf.authorities.len() <= MOST_AUTHORITIES
            && leaf.authorities.iter().all(|key| key.len() == 32)
            && leaf.spiffe_id.parse::<identity::SpiffeId>().is_ok()
    };
    match leaves.iter().all(is_well_formed) {
        true => Ok(()),
        false => Err(MalformedSighting),
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2030-01-01 00:00 UTC);

    fn leaf(index: u16) -> mesh::SeenLeaf {
        let mut sha256 = vec![0; 32];
        sha256[..2].copy_from_slice(&index.to_be_bytes());
        mesh::SeenLeaf {
            spiffe_id: "spiffe://td.test/ns/shop/sa/orders".to_owned(),
            serial: vec![1],
            sha256,
            authorities: vec![vec![1; 32]],
        }
    }

    fn orders() -> QualifiedName {
        "shop/orders".parse().unwrap()
    }

    #[test]
    fn a_malformed_leaf_is_refused() {
        let with = |change: fn(&mut mesh::SeenLeaf)| {
            let mut leaf = leaf(1);
            change(&mut leaf);
            require_well_formed(&[leaf])
        };
        assert_eq!(
            with(|leaf| leaf.sha256.truncate(31)),
            Err(MalformedSighting)
        );
        assert_eq!(with(|leaf| leaf.serial.clear()), Err(MalformedSighting));
        assert_eq!(
            with(|leaf| leaf.serial = vec![0, 1]),
            Err(MalformedSighting)
        );
        assert_eq!(with(|leaf| leaf.spiffe_id.clear()), Err(MalformedSighting));
        assert_eq!(
            with(|leaf| leaf.authorities = vec![vec![1; 31]]),
            Err(MalformedSighting)
        );
        assert_eq!(
            with(|leaf| leaf.authorities = vec![vec![1; 32]; 11]),
            Err(MalformedSighting)
        );
        assert_eq!(with(|_| {}), Ok(()));
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let mut sightings = Sightings::default();
        assert!(sightings.note(&orders(), (0..600).map(leaf).collect(), NOW));
        assert_eq!(sightings.by_digest().count(), MOST);
    }

    #[test]
    fn a_certificate_is_news_once_until_it_is_told_again() {
        let mut sightings = Sightings::default();
        assert!(sightings.note(&orders(), vec![leaf(1)], NOW));
        assert!(!sightings.note(&orders(), vec![leaf(1)], NOW));
        sightings.tidy(NOW + KEPT);
        assert!(sightings.note(&orders(), vec![leaf(1)], NOW + KEPT));
    }
}
