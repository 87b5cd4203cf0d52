//! What callers of `Attest` and `Reattest` send, decoded once into types. Nothing here is judged:
//! every type says that it is unverified.

use crypto::digest::Sha256;
use crypto::signing::PublicKey;
use identity::x509::UnverifiedChain;
use proto::agent::v1 as wire;
use proto::mesh::v1::PROTOCOL;
use rustls_pki_types::CertificateDer;

use super::possession::UnverifiedPossession;
use super::refusal::Refusal;

const LONGEST_TOKEN_ID: usize = 128;
const SECRET_BYTES: usize = 32;
const LONGEST_SIGNATURE: usize = 128;

/// A join token and the key that wants to redeem it.
#[derive(Debug)]
pub(super) struct UnverifiedJoin {
    pub(super) possession: UnverifiedPossession,
    pub(super) token_id: String,
    pub(super) secret_sha256: Sha256,
}

/// An expired SVID and the key that wants its successor.
#[derive(Debug)]
pub(super) struct UnverifiedReturn {
    pub(super) possession: UnverifiedPossession,
    pub(super) chain: UnverifiedChain,
    /// By the expired leaf's key.
    pub(super) signature: Vec<u8>,
}

impl TryFrom<wire::AttestRequest> for UnverifiedJoin {
    type Error = Refusal;

    fn try_from(request: wire::AttestRequest) -> Result<Self, Refusal> {
        check_version(request.version)?;
        let possession = decode_possession(request.possession)?;
        let Some(wire::attest_request::Evidence::JoinToken(token)) = request.evidence else {
            return Err(malformed("evidence", "must be a join token"));
        };
        // The secret itself goes no further than its digest.
        let secret = zeroize::Zeroizing::new(token.secret);
        if secret.len() != SECRET_BYTES {
            return Err(malformed("join_token.secret", "must have 32 bytes"));
        }
        if token.token_id.is_empty() || token.token_id.len() > LONGEST_TOKEN_ID {
            return Err(malformed("join_token.token_id", "must have 1 to 128 bytes"));
        }
        Ok(Self {
            possession,
            token_id: token.token_id,
            secret_sha256: Sha256::of(&secret),
        })
    }
}

impl TryFrom<wire::ReattestRequest> for UnverifiedReturn {
    type Error = Refusal;

    fn try_from(request: wire::ReattestRequest) -> Result<Self, Refusal> {
        check_version(request.version)?;
        let possession = decode_possession(request.possession)?;
        let chain = request
            .expired_chain
            .into_iter()
            .map(CertificateDer::from)
            .collect();
        let chain = UnverifiedChain::from_der(chain)
            .map_err(|error| malformed("expired_chain", &error.to_string()))?;
        check_signature("expired_signature", &request.expired_signature)?;
        Ok(Self {
            possession,
            chain,
            signature: request.expired_signature,
        })
    }
}

fn check_version(version: Option<proto::mesh::v1::ProtocolVersion>) -> Result<(), Refusal> {
    let version = version.ok_or_else(|| malformed("version", "is missing"))?;
    if PROTOCOL.interoperates_with(version) {
        Ok(())
    } else {
        Err(Refusal::Version {
            theirs: (version.major, version.minor),
            ours: (PROTOCOL.major, PROTOCOL.minor),
        })
    }
}

fn decode_possession(
    possession: Option<wire::Possession>,
) -> Result<UnverifiedPossession, Refusal> {
    let possession = possession.ok_or_else(|| malformed("possession", "is missing"))?;
    let public_key = PublicKey::from_spki(&possession.public_key)
        .map_err(|error| malformed("possession.public_key", &error.to_string()))?;
    check_signature("possession.signature", &possession.signature)?;
    Ok(UnverifiedPossession {
        public_key,
        signature: possession.signature,
    })
}

fn check_signature(field: &'static str, signature: &[u8]) -> Result<(), Refusal> {
    if signature.is_empty() || signature.len() > LONGEST_SIGNATURE {
        return Err(malformed(field, "must have 1 to 128 bytes"));
    }
    Ok(())
}

fn malformed(field: &'static str, rule: &str) -> Refusal {
    Refusal::Malformed {
        field,
        rule: rule.to_owned(),
    }
}
