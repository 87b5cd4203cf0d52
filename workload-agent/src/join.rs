//! How an agent without a live SVID gets one: by its join token, by the certificate of its host,
//! by a token of an issuer, or by the SVID that expired.
//!
//! Invariants: the token's secret is sent only to a server that a pinned root vouches for; the key
//! is on disk before the token is used, so that a lost reply can be repeated with the same key.

use crypto::digest::Sha256;
use crypto::signing::{ForeignKey, ForeignKeyError, SigningKey};
use identity::JoinToken;
use identity::x509::UnverifiedChain;
use proto::agent::v1::attestation_client::AttestationClient;
use proto::agent::v1::{self as wire, attest_request::Evidence};
use proto::mesh::v1::{self as mesh, PROTOCOL};
use tonic::{Code, Status};

use crate::ca::Connection;

const ATTEST: &[u8] = b"countersign-attest-v1";
const REATTEST: &[u8] = b"countersign-reattest-v1";
const X509POP: &[u8] = b"countersign-x509pop-v1";

/// What requests to the CA are addressed to; TLS has judged the server before.
pub(crate) fn origin() -> http::Uri {
    http::Uri::from_static("https://ca.countersign.internal")
}

/// What the CA answered to an attestation, not yet judged.
#[derive(Debug)]
pub(crate) struct Admission {
    /// DER, leaf first.
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) bundle: mesh::Bundle,
    pub(crate) ca_time_unix_ms: i64,
    /// SubjectPublicKeyInfo; empty where there is none.
    pub(crate) recovery_key: Vec<u8>,
}

/// Why the CA did not admit this agent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAdmitted {
    #[error("the CA refuses this agent: {}", .0.message())]
    Refused(Status),
    #[error("the CA did not answer: {}", .0.message())]
    Unavailable(Status),
    #[error("the CA's answer lacks `{0}`")]
    Incomplete(&'static str),
    #[error("the host's key cannot be used")]
    HostKey(#[from] ForeignKeyError),
}

/// By what an agent proves who it is.
#[derive(Debug)]
pub(crate) enum Proof<'a> {
    JoinToken(&'a JoinToken),
    Host(&'a HostProof),
    /// JWS, compact form.
    IssuersToken(&'a str),
}

/// The certificate of a host, and its key.
#[derive(Debug)]
pub(crate) struct HostProof {
    pub(crate) chain: UnverifiedChain,
    pub(crate) key: ForeignKey,
}

/// A fresh proof, for an SVID of `key`.
pub(crate) async fn attest(
    connection: &Connection,
    proof: Proof<'_>,
    key: &SigningKey,
) -> Result<Admission, NotAdmitted> {
    let evidence = match proof {
        Proof::JoinToken(token) => Evidence::JoinToken(wire::JoinTokenEvidence {
            token_id: token.id().to_owned(),
            secret: token.secret().to_vec(),
        }),
        Proof::IssuersToken(token) => Evidence::Jwt(wire::JwtEvidence {
            token: token.to_owned(),
        }),
        Proof::Host(host) => Evidence::X509pop(host.evidence(&connection.exporter, key)?),
    };
    let request = wire::AttestRequest {
        version: Some(PROTOCOL),
        possession: Some(possession(&connection.exporter, key)),
        evidence: Some(evidence),
    };
    let mut client = AttestationClient::with_origin(connection.channel.clone(), origin());
    Admission::from_answer(client.attest(request).await)
}

impl HostProof {
    fn evidence(
        &self,
        exporter: &[u8; 32],
        key: &SigningKey,
    ) -> Result<wire::X509PopEvidence, ForeignKeyError> {
        let signed = self.key.sign(&bound_bytes(X509POP, exporter, key))?;
        let certificates = self.chain.certificates().iter();
        Ok(wire::X509PopEvidence {
            chain: certificates.map(|one| one.to_vec()).collect(),
            signature_scheme: signed.scheme.into(),
            signature: signed.signature,
        })
    }
}

/// Another SVID for the agent whose own expired while it was down.
pub(crate) async fn reattest(
    connection: &Connection,
    expired_chain: Vec<Vec<u8>>,
    expired_key: &SigningKey,
    key: &SigningKey,
) -> Result<Admission, NotAdmitted> {
    let bound = bound_bytes(REATTEST, &connection.exporter, key);
    let request = wire::ReattestRequest {
        version: Some(PROTOCOL),
        possession: Some(possession(&connection.exporter, key)),
        expired_chain,
        expired_signature: expired_key.sign(&bound),
    };
    let mut client = AttestationClient::with_origin(connection.channel.clone(), origin());
    Admission::from_answer(client.reattest(request).await)
}

impl Admission {
    fn from_answer(
        answer: Result<tonic::Response<wire::AttestResponse>, Status>,
    ) -> Result<Self, NotAdmitted> {
        let response = answer.map_err(NotAdmitted::from)?.into_inner();
        let svid = response.svid.ok_or(NotAdmitted::Incomplete("svid"))?;
        Ok(Self {
            chain: svid.chain,
            bundle: response.bundle.ok_or(NotAdmitted::Incomplete("bundle"))?,
            ca_time_unix_ms: response.ca_time_unix_ms,
            recovery_key: response.recovery_key,
        })
    }
}

impl NotAdmitted {
    /// Asking again soon cannot help: a person must do something.
    pub(crate) fn is_permanent(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::HostKey(_))
    }
}

impl From<Status> for NotAdmitted {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Unimplemented
            | Code::Unauthenticated => Self::Refused(status),
            _ => Self::Unavailable(status),
        }
    }
}

fn possession(exporter: &[u8; 32], key: &SigningKey) -> wire::Possession {
    wire::Possession {
        public_key: key.public_key().spki().to_vec(),
        signature: key.sign(&bound_bytes(ATTEST, exporter, key)),
    }
}

/// Prefix || 0x00 || exporter || SHA-256(public key), as agent.proto says.
fn bound_bytes(prefix: &[u8], exporter: &[u8; 32], key: &SigningKey) -> Vec<u8> {
    let digest = Sha256::of(key.public_key().spki());
    [prefix, &[0], exporter, digest.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn possession_is_bound_to_its_connection_and_its_purpose() {
        let key = SigningKey::generate();
        let proof = possession(&[1; 32], &key);
        let verifies = |prefix, exporter| {
            let bytes = bound_bytes(prefix, &exporter, &key);
            key.public_key().verify(&bytes, &proof.signature).is_ok()
        };
        assert!(!verifies(ATTEST, [2; 32]));
        assert!(!verifies(REATTEST, [1; 32]));
        assert!(!verifies(X509POP, [1; 32]));
        assert!(verifies(ATTEST, [1; 32]));
    }

    #[test]
    fn used_token_is_permanent_and_overload_is_not() {
        let used = NotAdmitted::from(Status::permission_denied("token used"));
        let overloaded = NotAdmitted::from(Status::resource_exhausted("later"));
        assert!(used.is_permanent());
        assert!(!overloaded.is_permanent());
    }
}
