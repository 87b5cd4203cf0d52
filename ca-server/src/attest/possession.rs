//! Proof that the caller holds a private key, bound to this connection by the TLS exporter
//! (RFC 8446 §7.5): what was signed for one connection says nothing on another.

use crypto::digest::Sha256;
use crypto::signing::{BadSignature, PublicKey};

/// The label of the exporter that each proof covers.
pub(crate) const EXPORTER_LABEL: &[u8] = b"EXPORTER-countersign-attest";

/// Keying material of one connection.
#[derive(Clone, Copy)]
pub(crate) struct ChannelBinding([u8; 32]);

/// What the proof is for; a proof for one purpose is none for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Attest,
    Reattest,
    /// By the key of a host's certificate.
    Host,
}

/// A key and a signature that may have been made by it.
#[derive(Debug)]
pub(super) struct UnverifiedPossession {
    pub(super) public_key: PublicKey,
    pub(super) signature: Vec<u8>,
}

/// A key that the caller has just signed with.
#[derive(Debug)]
pub(super) struct ProvenKey(PublicKey);

impl ChannelBinding {
    pub(crate) fn new(keying_material: [u8; 32]) -> Self {
        Self(keying_material)
    }

    /// What the holder of `new_key` signs.
    pub(super) fn statement(&self, purpose: Purpose, new_key: &PublicKey) -> Vec<u8> {
        let prefix: &[u8] = match purpose {
            Purpose::Attest => b"countersign-attest-v1\0",
            Purpose::Reattest => b"countersign-reattest-v1\0",
            Purpose::Host => b"countersign-x509pop-v1\0",
        };
        let digest = Sha256::of(new_key.spki());
        [prefix, &self.0, digest.as_bytes()].concat()
    }
}

impl std::fmt::Debug for ChannelBinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChannelBinding(redacted)")
    }
}

impl UnverifiedPossession {
    /// The proof for a key to come always has the purpose `Attest`; in a `Reattest` the expired
    /// key signs beside it, with a purpose of its own.
    pub(super) fn verify(self, channel: &ChannelBinding) -> Result<ProvenKey, BadSignature> {
        let statement = channel.statement(Purpose::Attest, &self.public_key);
        self.public_key.verify(&statement, &self.signature)?;
        Ok(ProvenKey(self.public_key))
    }
}

impl ProvenKey {
    pub(super) fn public_key(&self) -> &PublicKey {
        &self.0
    }

    pub(super) fn into_public_key(self) -> PublicKey {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use crypto::signing::SigningKey;

    use super::*;

    fn possession(key: &SigningKey, statement: &[u8]) -> UnverifiedPossession {
        UnverifiedPossession {
            public_key: *key.public_key(),
            signature: key.sign(statement),
        }
    }

    #[test]
    fn a_proof_made_for_another_connection_is_refused() {
        let key = SigningKey::generate();
        let elsewhere = ChannelBinding::new([1; 32]).statement(Purpose::Attest, key.public_key());
        let replayed = possession(&key, &elsewhere).verify(&ChannelBinding::new([2; 32]));
        assert_eq!(replayed.err(), Some(BadSignature));
    }

    #[test]
    fn a_proof_for_another_key_is_refused() {
        let (key, other) = (SigningKey::generate(), SigningKey::generate());
        let channel = ChannelBinding::new([1; 32]);
        let statement = channel.statement(Purpose::Attest, other.public_key());
        assert!(possession(&key, &statement).verify(&channel).is_err());
    }

    #[test]
    fn a_proof_for_another_purpose_is_refused() {
        let key = SigningKey::generate();
        let channel = ChannelBinding::new([1; 32]);
        let statement = channel.statement(Purpose::Reattest, key.public_key());
        assert!(possession(&key, &statement).verify(&channel).is_err());
    }

    #[test]
    fn the_holder_of_the_key_proves_it() {
        let key = SigningKey::generate();
        let channel = ChannelBinding::new([1; 32]);
        let statement = channel.statement(Purpose::Attest, key.public_key());
        let proven = possession(&key, &statement).verify(&channel).unwrap();
        assert_eq!(proven.public_key().spki(), key.public_key().spki());
    }
}
