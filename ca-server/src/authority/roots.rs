//! The roots that the trust domain trusts at one state of their life, as everybody is told of them.

use std::collections::BTreeMap;

use crypto::digest::Sha256;
use identity::TrustDomain;
use identity::x509::{Bundle, BundleSet, RootCertificate};
use proto::mesh::v1 as wire;
use time::OffsetDateTime;

use super::lifecycle::{Generation, Lifecycle, Phase};
use super::root::RootError;
use crate::store::{KeyPurpose, Store};

/// Immutable. Without a root in the store nothing is trusted.
#[derive(Debug)]
pub(crate) struct PublishedRoots {
    active: Option<Generation>,
    certificates: BTreeMap<Generation, RootCertificate>,
    last_removal: Option<OffsetDateTime>,
    bundles: BundleSet,
    bundle: Bundle,
    wire: wire::Bundle,
}

impl PublishedRoots {
    pub(crate) fn none(trust_domain: &TrustDomain) -> Self {
        Self::of(trust_domain, None, BTreeMap::new())
            .expect("a bundle without roots breaks no rule of theirs")
    }

    /// As the store has it. The state is read first: what is not in it yet is not told.
    pub(crate) async fn read(store: &Store) -> Result<Self, RootError> {
        let Some(state) = store.authority_state(KeyPurpose::X509Root).await? else {
            return Ok(Self::none(store.trust_domain()));
        };
        let lifecycle: Lifecycle = serde_json::from_str(&state.json).map_err(RootError::State)?;
        let mut certificates = BTreeMap::new();
        for key in store.sealed_keys().await? {
            let generation = Generation::of_number(key.version);
            if let (KeyPurpose::X509Root, Some(generation)) = (key.purpose, generation) {
                let certificate = RootCertificate::from_der(key.certificate.into())?;
                certificates.insert(generation, certificate);
            }
        }
        Self::of(store.trust_domain(), Some(&lifecycle), certificates)
    }

    #[cfg(test)]
    pub(crate) fn of_test(
        trust_domain: &TrustDomain,
        lifecycle: &Lifecycle,
        certificates: BTreeMap<Generation, RootCertificate>,
    ) -> Self {
        Self::of(trust_domain, Some(lifecycle), certificates)
            .expect("roots that a test has made make a bundle")
    }

    fn of(
        trust_domain: &TrustDomain,
        lifecycle: Option<&Lifecycle>,
        certificates: BTreeMap<Generation, RootCertificate>,
    ) -> Result<Self, RootError> {
        let members = lifecycle.iter().flat_map(|it| it.bundled());
        let bundled: Vec<_> = members
            .filter_map(|member| Some((member, certificates.get(&member.generation)?)))
            .collect();
        let sequence = lifecycle.map_or(0, Lifecycle::sequence);
        let tainted = bundled.iter().filter(|(member, _)| member.is_reissued());
        let tainted = tainted.map(|(_, root)| root.digest().as_bytes().to_vec());
        let wire = wire::Bundle {
            trust_domain: trust_domain.to_string(),
            sequence,
            x509_authorities: bundled
                .iter()
                .map(|(_, root)| root.der().to_vec())
                .collect(),
            tainted_authorities: tainted.collect(),
        };
        let roots = bundled.iter().map(|(_, root)| (*root).clone()).collect();
        let bundle = Bundle::from_roots(trust_domain.clone(), sequence, roots)?;
        let members = lifecycle.iter().flat_map(|it| it.members());
        let removed = members.filter(|it| it.phase == Phase::Removed);
        Ok(Self {
            last_removal: removed.map(|it| it.since).max(),
            active: lifecycle.map(|it| it.active().generation),
            certificates,
            bundles: BundleSet::from(bundle.clone()),
            bundle,
            wire,
        })
    }

    /// Of the bundle; 0 while there is none.
    pub(crate) fn sequence(&self) -> u64 {
        self.wire.sequence
    }

    /// Of every root whose key the store holds.
    pub(crate) fn certificate(&self, generation: Generation) -> Option<&RootCertificate> {
        self.certificates.get(&generation)
    }

    /// Which root has this public key, by its SHA-256.
    pub(crate) fn generation_of(&self, key: Sha256) -> Option<(Generation, &RootCertificate)> {
        let mut known = self.certificates.iter();
        let found = known.find(|(_, root)| root.key_id() == key);
        found.map(|(generation, root)| (*generation, root))
    }

    /// What signs intermediates.
    pub(crate) fn active(&self) -> Option<(Generation, &RootCertificate)> {
        let generation = self.active?;
        Some((generation, self.certificates.get(&generation)?))
    }

    /// Those that agents trust.
    pub(crate) fn trusted(&self) -> impl Iterator<Item = (Generation, &RootCertificate)> {
        let known = self.certificates.iter();
        known
            .filter(|(_, root)| self.bundle.authorities().contains(root))
            .map(|(generation, root)| (*generation, root))
    }

    /// When a root ceased to be trusted last.
    pub(crate) fn last_removal(&self) -> Option<OffsetDateTime> {
        self.last_removal
    }

    pub(crate) fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    pub(crate) fn bundles(&self) -> &BundleSet {
        &self.bundles
    }

    /// The bundle as agents get it.
    pub(crate) fn wire(&self) -> &wire::Bundle {
        &self.wire
    }
}
