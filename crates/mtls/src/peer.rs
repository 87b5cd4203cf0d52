//! Evidence of who is at the other end. Only the verifier makes it; whatever admits a peer takes
//! it.

use std::fmt;

use crypto::digest::Sha256;
use crypto::signing::PublicKey;
use identity::x509::{Denied, DenyList, VerifiedSvid};
use identity::{SerialNumber, SpiffeId};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

/// A peer whose X.509-SVID was verified, and whose possession of its key this connection's
/// handshake proved. Cheap to clone.
#[derive(Clone)]
pub struct PeerIdentity(VerifiedSvid);

impl PeerIdentity {
    pub(crate) fn new(svid: VerifiedSvid) -> Self {
        Self(svid)
    }

    /// The peer's SPIFFE ID.
    #[must_use]
    pub fn spiffe_id(&self) -> &SpiffeId {
        self.0.spiffe_id()
    }

    /// The serial number of its leaf certificate.
    #[must_use]
    pub fn serial(&self) -> SerialNumber {
        self.0.serial()
    }

    /// When the evidence ends: the leaf's notAfter.
    #[must_use]
    pub fn not_after(&self) -> OffsetDateTime {
        self.0.validity().not_after()
    }

    /// Whether the same bundles would vouch for the same chain at `now`.
    pub(crate) fn holds_at(&self, now: OffsetDateTime) -> bool {
        self.0.holds_at(now)
    }

    /// The entry of the list that refuses this peer, if one does.
    #[must_use]
    pub fn denied_by(&self, list: &DenyList) -> Option<Denied> {
        list.refuses(&self.0)
    }

    /// SHA-256 of the leaf's DER.
    #[must_use]
    pub fn leaf_digest(&self) -> Sha256 {
        self.0.leaf_digest()
    }

    /// SHA-256 of the SubjectPublicKeyInfo of each authority above the leaf, up to the root.
    #[must_use]
    pub fn authorities(&self) -> &[Sha256] {
        self.0.authorities()
    }

    /// The key that the peer holds.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        self.0.public_key()
    }

    /// The chain that was verified, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        self.0.chain()
    }
}

impl fmt::Debug for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerIdentity({})", self.spiffe_id())
    }
}
