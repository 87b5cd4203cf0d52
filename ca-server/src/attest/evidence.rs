//! What callers of `Attest` and `Reattest` send, decoded once into types. Nothing here is judged:
//! every type says that it is unverified.

use crypto::digest::Sha256;
use crypto::signing::PublicKey;
use identity::jwt::UnverifiedJwt;
use identity::x509::UnverifiedChain;
use proto::agent::v1 as wire;
use proto::mesh::v1::PROTOCOL;
use rustls_pki_types::CertificateDer;

use super::possession::UnverifiedPossession;
use super::refusal::Refusal;

const LONGEST_TOKEN_ID: usize = 128;
const SECRET_BYTES: usize = 32;
const LONGEST_SIGNATURE: usize = 128;
/// RSA with 8192 bits.
const LONGEST_HOST_SIGNATURE: usize = 1024;

/// A key that wants an agent's SVID, and by what it wants it.
#[derive(Debug)]
pub(super) struct UnverifiedAttestation {
    pub(super) possession: UnverifiedPossession,
    pub(super) evidence: UnverifiedEvidence,
}

#[derive(Debug)]
pub(super) enum UnverifiedEvidence {
    JoinToken(UnverifiedJoin),
    Host(UnverifiedHost),
    Token(UnverifiedToken),
}

/// A join token, of whose secret only the digest is kept.
#[derive(Debug)]
pub(super) struct UnverifiedJoin {
    pub(super) token_id: String,
    pub(super) secret_sha256: Sha256,
}

/// A host's certificate, and a signature that may be by its key.
#[derive(Debug)]
pub(super) struct UnverifiedHost {
    pub(super) chain: UnverifiedChain,
    pub(super) scheme: u16,
    pub(super) signature: Vec<u8>,
}

/// A token that may be one of a believed issuer.
#[derive(Debug)]
pub(super) struct UnverifiedToken(pub(super) UnverifiedJwt);

/// An expired SVID and the key that wants its successor.
#[derive(Debug)]
pub(super) struct UnverifiedReturn {
    pub(super) possession: UnverifiedPossession,
    pub(super) chain: UnverifiedChain,
    /// By the expired leaf's key.
    pub(super) signature: Vec<u8>,
}

impl TryFrom<wire::AttestRequest> for UnverifiedAttestation {
    type Error = Refusal;

    fn try_from(request: wire::AttestRequest) -> Result<Self, Refusal> {
        use wire::attest_request::Evidence;

        check_version(request.version)?;
        let possession = decode_possession(request.possession)?;
        let evidence = match request.evidence {
            Some(Evidence::JoinToken(token)) => UnverifiedEvidence::JoinToken(token.try_into()?),
            Some(Evidence::X509pop(host)) => UnverifiedEvidence::Host(host.try_into()?),
            Some(Evidence::Jwt(token)) => UnverifiedEvidence::Token(token.try_into()?),
            None => return Err(malformed("evidence", "is of no kind that this CA knows")),
        };
        Ok(Self {
            possession,
            evidence,
        })
    }
}

impl TryFrom<wire::JoinTokenEvidence> for UnverifiedJoin {
    type Error = Refusal;

    fn try_from(token: wire::JoinTokenEvidence) -> Result<Self, Refusal> {
        // The secret itself goes no further than its digest.
        let secret = zeroize::Zeroizing::new(token.secret);
        if secret.len() != SECRET_BYTES {
            return Err(malformed("join_token.secret", "must have 32 bytes"));
        }
        if token.token_id.is_empty() || token.token_id.len() > LONGEST_TOKEN_ID {
            return Err(malformed("join_token.token_id", "must have 1 to 128 bytes"));
        }
        Ok(Self {
            token_id: token.token_id,
            secret_sha256: Sha256::of(&secret),
        })
    }
}

impl TryFrom<wire::X509PopEvidence> for UnverifiedHost {
    type Error = Refusal;

    fn try_from(host: wire::X509PopEvidence) -> Result<Self, Refusal> {
        let scheme = u16::try_from(host.signature_scheme)
            .map_err(|_| malformed("x509pop.signature_scheme", "must have 16 bits"))?;
        let signature = host.signature;
        if signature.is_empty() || signature.len() > LONGEST_HOST_SIGNATURE {
            return Err(malformed("x509pop.signature", "must have 1 to 1024 bytes"));
        }
        Ok(Self {
            chain: decode_chain("x509pop.chain", host.chain)?,
            scheme,
            signature,
        })
    }
}

impl TryFrom<wire::JwtEvidence> for UnverifiedToken {
    type Error = Refusal;

    fn try_from(evidence: wire::JwtEvidence) -> Result<Self, Refusal> {
        let token = zeroize::Zeroizing::new(evidence.token);
        let jwt = UnverifiedJwt::parse(&token).map_err(Refusal::Jwt)?;
        Ok(Self(jwt))
    }
}

impl TryFrom<wire::ReattestRequest> for UnverifiedReturn {
    type Error = Refusal;

    fn try_from(request: wire::ReattestRequest) -> Result<Self, Refusal> {
        check_version(request.version)?;
        let possession = decode_possession(request.possession)?;
        check_signature("expired_signature", &request.expired_signature)?;
        Ok(Self {
            possession,
            chain: decode_chain("expired_chain", request.expired_chain)?,
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

fn decode_chain(field: &'static str, chain: Vec<Vec<u8>>) -> Result<UnverifiedChain, Refusal> {
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    UnverifiedChain::from_der(chain).map_err(|error| malformed(field, &error.to_string()))
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
