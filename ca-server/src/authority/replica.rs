//! This replica's intermediate: pathLen 0, at most 24 hours, its key never written anywhere.

use crypto::digest::Sha256;
use crypto::signing::SigningKey;
use identity::Validity;
use identity::x509::{
    self, CrlSpec, Denied, DenyList, IssueError, IssuedLeaf, LeafSpec, key_id_of,
};
use rustls_pki_types::CertificateDer;

use super::RootError;
use super::lifecycle::Generation;

/// A signing certificate and its key.
#[derive(Debug)]
pub(crate) struct Intermediate {
    authority: x509::Authority,
    key: Sha256,
    key_id: String,
    root: Generation,
    /// What stands between it and the root, if that is an upstream's.
    above: Vec<CertificateDer<'static>>,
    /// As deny-lists name it, and each of those.
    keys: Vec<Sha256>,
}

impl Intermediate {
    pub(super) fn new(
        certificate: CertificateDer<'static>,
        key: SigningKey,
        root: Generation,
        above: Vec<CertificateDer<'static>>,
    ) -> Result<Self, RootError> {
        let fingerprint = key.public_key().fingerprint();
        let mut keys = vec![fingerprint];
        for certificate in &above {
            keys.push(key_id_of(certificate)?);
        }
        let authority = x509::Authority::load(certificate, key)?;
        Ok(Self {
            authority,
            key: fingerprint,
            key_id: fingerprint.to_string(),
            root,
            above,
            keys,
        })
    }

    /// Signs a leaf; `issue` alone calls this, with what it has authorized.
    pub(crate) fn sign(&self, leaf: &LeafSpec) -> Result<IssuedLeaf, IssueError> {
        self.authority.issue(leaf)
    }

    /// A list of leaves that it signed.
    pub(crate) fn sign_crl(&self, list: &CrlSpec) -> Result<Vec<u8>, IssueError> {
        self.authority.sign_crl(list)
    }

    /// Its own, without what stands above.
    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        self.authority.certificate()
    }

    /// What stands in every chain after the leaf: its certificate, and what leads from it to the
    /// root, which is left out.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        std::iter::once(self.authority.certificate()).chain(&self.above)
    }

    /// What stands between it and the root, if that is an upstream's.
    pub(crate) fn above(&self) -> &[CertificateDer<'static>] {
        &self.above
    }

    /// SHA-256 of its public key, by which records name it.
    pub(crate) fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The same, by which deny-lists name it.
    pub(crate) fn key(&self) -> Sha256 {
        self.key
    }

    /// Whether everybody refuses what it signs: it is on this list, or what stands above it is.
    pub(crate) fn is_refused_by(&self, list: &DenyList) -> bool {
        let mut keys = self.keys.iter().copied();
        keys.any(|key| list.contains(&Denied::Authority(key)))
    }

    /// The root that signed it.
    pub(crate) fn root(&self) -> Generation {
        self.root
    }

    pub(crate) fn validity(&self) -> Validity {
        *self.authority.validity()
    }
}
