//! The verifier by SPIFFE ID: path validation against the bundle of the peer's own trust domain,
//! the leaf rules of X.509-SVIDs, then whether this peer is expected. Host names play no part.
//!
//! Invariant: each handshake proves the possession of the leaf's key anew. The signatures of a chain
//! are verified once for as long as nothing that decides about them changes: a verifier belongs to
//! one generation of bundles, and evidence is taken again only for the very same certificates while
//! each of them, and the roots, are in the periods they were in. What is not kept is judged again,
//! never skipped. The deny-list is asked in every handshake, whatever is kept.

use crypto::digest::Sha256;
use identity::TrustDomain;
use identity::x509::{BundleSet, UnverifiedChain};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use time::OffsetDateTime;

use crate::cache::Cache;
use crate::clock::wall_time;
use crate::denial::Denials;
use crate::error::Refusal;
use crate::expected::Expected;
use crate::peer::PeerIdentity;
use crate::pinned::PinnedRoots;

/// Peers that are remembered; more cost time, no memory.
const PEERS: usize = 256;

#[derive(Debug)]
pub(crate) struct PeerVerifier {
    trust: Trust,
    certificate_required: bool,
    algorithms: WebPkiSupportedAlgorithms,
    judged: Cache<Sha256, Evidence>,
    denials: Denials,
}

#[derive(Debug)]
enum Trust {
    /// Anyone whom a bundle vouches for; policy decides the rest.
    Anyone(BundleSet),
    /// One of the expected, seen from our own trust domain.
    Only {
        bundles: BundleSet,
        expected: Expected,
        own: TrustDomain,
    },
    /// A CA replica under a pinned root.
    Pinned(PinnedRoots),
}

/// What a verification yields.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    pub(crate) peer: PeerIdentity,
    /// The root that the server sent, if it is a pinned one.
    pub(crate) root: Option<CertificateDer<'static>>,
}

impl PeerVerifier {
    pub(crate) fn of_anyone(bundles: BundleSet, denials: Denials) -> Self {
        Self::new(Trust::Anyone(bundles), true, denials)
    }

    /// Asks for a certificate and does without one. One that is sent is judged all the same.
    pub(crate) fn of_anyone_or_nobody(bundles: BundleSet, denials: Denials) -> Self {
        Self::new(Trust::Anyone(bundles), false, denials)
    }

    pub(crate) fn of_expected(
        bundles: BundleSet,
        expected: Expected,
        own: TrustDomain,
        denials: Denials,
    ) -> Self {
        let trust = Trust::Only {
            bundles,
            expected,
            own,
        };
        Self::new(trust, true, denials)
    }

    /// Of one who knows of no deny-list yet.
    pub(crate) fn of_pinned(roots: PinnedRoots) -> Self {
        Self::new(Trust::Pinned(roots), true, Denials::none())
    }

    fn new(trust: Trust, certificate_required: bool, denials: Denials) -> Self {
        Self {
            trust,
            certificate_required,
            algorithms: crypto::provider().signature_verification_algorithms,
            judged: Cache::new(PEERS),
            denials,
        }
    }

    /// The evidence for the peer of a finished handshake, none if it sent no certificate and
    /// need not.
    pub(crate) fn evidence(
        &self,
        certificates: Option<&[CertificateDer<'static>]>,
        now: OffsetDateTime,
    ) -> Result<Option<Evidence>, Refusal> {
        let Some(chain) = certificates.filter(|chain| !chain.is_empty()) else {
            return if self.certificate_required {
                Err(Refusal::NoCertificate)
            } else {
                Ok(None)
            };
        };
        let evidence = match self.judged.find(&digest(chain)) {
            Some(evidence) => evidence,
            None => self.judge(chain.to_vec(), now)?,
        };
        self.denials.check(&evidence.peer)?;
        Ok(Some(evidence))
    }

    fn judge(
        &self,
        chain: Vec<CertificateDer<'static>>,
        now: OffsetDateTime,
    ) -> Result<Evidence, Refusal> {
        let by_bundles = |bundles, chain| {
            UnverifiedChain::from_der(chain)?
                .verify(bundles, now)
                .map_err(|error| Refusal::of_svid(error, now))
        };
        match &self.trust {
            Trust::Anyone(bundles) => {
                let svid = by_bundles(bundles, chain)?;
                Ok(Evidence {
                    peer: PeerIdentity::new(svid),
                    root: None,
                })
            }
            Trust::Only {
                bundles,
                expected,
                own,
            } => {
                let svid = by_bundles(bundles, chain)?;
                let got = svid.spiffe_id();
                if !expected.admits(got, own) {
                    let (expected, got) = (expected.clone(), got.clone());
                    return Err(Refusal::IdentityMismatch { expected, got });
                }
                Ok(Evidence {
                    peer: PeerIdentity::new(svid),
                    root: None,
                })
            }
            Trust::Pinned(roots) => {
                let (svid, root) = roots.verify(chain, now)?;
                Ok(Evidence {
                    peer: PeerIdentity::new(svid),
                    root: Some(root),
                })
            }
        }
    }

    fn judge_in_handshake(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let now = wall_time(now);
        let chain = std::iter::once(leaf).chain(others);
        let chain: Vec<_> = chain
            .map(|certificate| certificate.clone().into_owned())
            .collect();
        let digest = digest(&chain);
        let known = self.judged.find(&digest);
        let evidence = match known.filter(|evidence| evidence.peer.holds_at(now)) {
            Some(evidence) => evidence,
            None => {
                let evidence = self.judge(chain, now)?;
                self.judged.keep(digest, evidence.clone());
                evidence
            }
        };
        Ok(self.denials.check(&evidence.peer)?)
    }

    fn check_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }
}

/// Of all certificates, each with its length, so that no two chains have one.
fn digest(chain: &[CertificateDer<'_>]) -> Sha256 {
    let lengths: Vec<_> = chain.iter().map(|it| it.len().to_be_bytes()).collect();
    let parts = lengths.iter().zip(chain);
    let parts: Vec<&[u8]> = parts.flat_map(|(length, it)| [&length[..], it]).collect();
    Sha256::of_parts(&parts)
}

/// Unreachable while configurations offer TLS 1.3 alone; refused, should that ever change.
fn no_tls12() -> Result<HandshakeSignatureValid, rustls::Error> {
    Err(rustls::Error::General(
        "only TLS 1.3 is spoken between SPIFFE identities".to_owned(),
    ))
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge_in_handshake(leaf, others, now)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.certificate_required
    }

    /// No hints: a client has one identity, and the names of our authorities are nobody's
    /// business.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.judge_in_handshake(leaf, others, now)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
