//! The path from a leaf to a root (RFC 5280 §6.1), as webpki builds it, with what webpki leaves
//! out: the key usage and the SPIFFE ID of each intermediate, and both roles in one pass.

use std::cell::Cell;

use crypto::digest::Sha256;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter,
    RequiredEkuNotFoundContext, VerifiedPath,
};

use super::certificate::CertificateError;
use super::root::SigningFacts;
use crate::validity::Validity;

/// id-kp-serverAuth and id-kp-clientAuth (RFC 5280 §4.2.1.12), without tag and length.
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

#[derive(Debug)]
pub(super) enum PathError {
    Path(webpki::Error),
    Intermediate(CertificateError),
}

/// A path that verifies.
#[derive(Debug, Default)]
pub(super) struct Path {
    /// The periods of its intermediates.
    pub(super) periods: Vec<Validity>,
    /// SHA-256 of the SubjectPublicKeyInfo of each intermediate.
    pub(super) keys: Vec<Sha256>,
    /// Which of the anchors it ends at.
    pub(super) anchor: usize,
}

pub(super) fn verify(
    chain: &[CertificateDer<'static>],
    anchors: &[TrustAnchor<'static>],
    time: UnixTime,
) -> Result<Path, PathError> {
    let Some((leaf, intermediates)) = chain.split_first() else {
        return Err(PathError::Path(webpki::Error::UnknownIssuer));
    };
    let (refused, used) = (Cell::new(None), Cell::new(Path::default()));
    let check_path = |path: &VerifiedPath<'_>| {
        let anchor = anchors.iter().position(|anchor| anchor == path.anchor());
        match judge(path, anchor.unwrap_or_default()) {
            Ok(judged) => used.set(judged),
            Err(reason) => {
                refused.set(Some(reason));
                return Err(webpki::Error::UnknownIssuer);
            }
        }
        Ok(())
    };
    let algorithms = crypto::provider().signature_verification_algorithms.all;
    let leaf = EndEntityCert::try_from(leaf).map_err(PathError::Path)?;
    leaf.verify_for_usage(
        algorithms,
        anchors,
        intermediates,
        time,
        BothRoles,
        None,
        Some(&check_path),
    )
    .map(|_| used.take())
    .map_err(|error| match refused.take() {
        Some(reason) => PathError::Intermediate(reason),
        None => PathError::Path(error),
    })
}

fn judge(path: &VerifiedPath<'_>, anchor: usize) -> Result<Path, CertificateError> {
    let mut judged = Path {
        anchor,
        ..Path::default()
    };
    for intermediate in path.intermediate_certificates() {
        let facts = SigningFacts::check(&intermediate.der())?;
        judged.periods.push(facts.validity);
        judged.keys.push(Sha256::of(&facts.public_key));
    }
    Ok(judged)
}

/// X509-SVID §4.4: an SVID serves as server and client, so a certificate of the path that limits
/// its roles (requirement 45) must leave both.
struct BothRoles;

impl ExtendedKeyUsageValidator for BothRoles {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let (mut any, mut server, mut client) = (false, false, false);
        let mut present = Vec::new();
        for purpose in purposes {
            let purpose = purpose?;
            any = true;
            server |= purpose == KeyPurposeId::new(SERVER_AUTH);
            client |= purpose == KeyPurposeId::new(CLIENT_AUTH);
            present.push(purpose.to_decoded_oid());
        }
        if !any || (server && client) {
            return Ok(());
        }
        let required = if server {
            webpki::KeyUsage::client_auth()
        } else {
            webpki::KeyUsage::server_auth()
        };
        Err(webpki::Error::RequiredEkuNotFoundContext(
            RequiredEkuNotFoundContext { required, present },
        ))
    }
}
