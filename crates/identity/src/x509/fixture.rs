//! A trust domain for tests: a root, a replica's intermediate, and certificates that break rules.

use std::time::Duration;

use crypto::random::SystemRandom;
use crypto::signing::SigningKey;
use rcgen::{BasicConstraints, CertificateParams, Issuer};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use time::macros::datetime;

use super::authority::{authority_name, authority_params, leaf_params};
use super::{Authority, Bundle, BundleSet, LeafSpec, UnverifiedChain};
use crate::{SerialNumber, SpiffeId, TrustDomain, Validity};

pub(super) const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

/// From so many minutes before now to so many after.
pub(super) fn validity(before: u64, after: u64) -> Validity {
    let minutes = |count| Duration::from_secs(60 * count);
    Validity::try_new(NOW - minutes(before), NOW + minutes(after)).unwrap()
}

pub(super) fn serial() -> SerialNumber {
    SerialNumber::random(&mut SystemRandom)
}

pub(super) struct Mesh {
    pub(super) domain: TrustDomain,
    pub(super) root_key: SigningKey,
    pub(super) root: Authority,
    pub(super) replica: Authority,
}

impl Mesh {
    pub(super) fn new(domain: &str) -> Self {
        let domain: TrustDomain = domain.parse().unwrap();
        let (root_key, key) = (SigningKey::generate(), SigningKey::generate());
        let root = Authority::new_root(&domain, &root_key, validity(9000, 9000), serial()).unwrap();
        let certificate = root
            .sign_intermediate("ca-1", key.public_key(), validity(600, 600), serial())
            .unwrap();
        Self {
            domain,
            root_key,
            root,
            replica: Authority::load(certificate, key).unwrap(),
        }
    }

    pub(super) fn bundle(&self) -> Bundle {
        let root = self.root.certificate().to_vec();
        Bundle::new(self.domain.clone(), 1, vec![root]).unwrap()
    }

    pub(super) fn bundles(&self) -> BundleSet {
        self.bundle().into()
    }

    pub(super) fn spec(&self, key: &SigningKey) -> LeafSpec {
        LeafSpec {
            spiffe_id: SpiffeId::new(&self.domain, "/ns/shop/sa/orders").unwrap(),
            public_key: *key.public_key(),
            validity: validity(1, 60),
            serial: serial(),
            dns_names: vec!["orders.shop.mesh.internal".parse().unwrap()],
        }
    }

    /// The leaf and the replica's intermediate, as an agent gets them.
    pub(super) fn chain(&self, spec: &LeafSpec) -> Vec<CertificateDer<'static>> {
        let leaf = self.replica.issue(spec).unwrap().certificate;
        vec![leaf, self.replica.certificate().clone()]
    }

    /// A leaf that the root signs with what `change` did to a good one.
    pub(super) fn forged_leaf(
        &self,
        change: impl FnOnce(&mut CertificateParams),
    ) -> UnverifiedChain {
        let key = SigningKey::generate();
        let mut params = leaf_params(&self.spec(&key)).unwrap();
        change(&mut params);
        let leaf = params.signed_by(&key, &self.root_issuer()).unwrap();
        UnverifiedChain::from_der(vec![leaf.into()]).unwrap()
    }

    /// A good leaf under an intermediate that the root signs with what `change` did to a good one.
    pub(super) fn forged_intermediate(
        &self,
        change: impl FnOnce(&mut CertificateParams),
    ) -> UnverifiedChain {
        let (key, leaf_key, number) = (SigningKey::generate(), SigningKey::generate(), serial());
        let name = authority_name("intermediate", number, None);
        let (life, depth) = (validity(600, 600), BasicConstraints::Constrained(0));
        let mut params = authority_params(&self.domain, name, life, number, depth).unwrap();
        change(&mut params);
        let intermediate = params.signed_by(&key, &self.root_issuer()).unwrap();
        let leaf = leaf_params(&self.spec(&leaf_key)).unwrap();
        let leaf = leaf
            .signed_by(&leaf_key, &Issuer::new(params, key))
            .unwrap();
        UnverifiedChain::from_der(vec![leaf.into(), intermediate.into()]).unwrap()
    }

    fn root_issuer(&self) -> Issuer<'static, SigningKey> {
        Issuer::from_ca_cert_der(self.root.certificate(), self.root_key.clone()).unwrap()
    }
}
