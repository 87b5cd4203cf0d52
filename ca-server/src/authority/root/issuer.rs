//! What signs intermediates in the name of a root: the root itself, or an authority below it.

use std::sync::Arc;

use crypto::digest::Sha256;
use crypto::signing::PublicKey;
use identity::x509::{self, CrlSpec, RootCertificate};
use identity::{SerialNumber, Validity};
use rustls_pki_types::CertificateDer;

use super::RootError;
use super::key::RootKey;
use crate::authority::upstream::OpenedUpstream;
use crate::pkcs11::TokenSigningKey;

/// What the store seals in the place of a key that it never has.
pub(super) const OF_UPSTREAM: &[u8] = b"upstream";

pub(super) struct RootIssuer {
    authority: x509::Authority,
    /// Of everything from here to the root.
    pub(super) validity: Validity,
    /// What chains carry between an intermediate and the root.
    pub(super) above: Vec<CertificateDer<'static>>,
    /// SHA-256 of its own key, in hex, by which the log names it.
    pub(super) key_id: String,
    in_token: Option<Arc<TokenSigningKey>>,
}

impl RootIssuer {
    pub(super) fn own(root: &RootCertificate, key: RootKey) -> Result<Self, RootError> {
        Ok(Self {
            authority: x509::Authority::load(root.der().clone(), key.signer())?,
            validity: *root.validity(),
            above: Vec::new(),
            key_id: root.key_id().to_string(),
            in_token: key.in_token(),
        })
    }

    pub(super) fn of_upstream(opened: OpenedUpstream) -> Result<Self, RootError> {
        let key_id = Sha256::of(opened.key.spki()).to_string();
        Ok(Self {
            key_id,
            authority: opened.chain.authority(opened.key)?,
            validity: *opened.chain.validity(),
            above: opened.chain.above().to_vec(),
            in_token: opened.in_token,
        })
    }

    /// Signs the certificate of a replica's authority.
    pub(super) fn sign(
        &self,
        replica: &str,
        key: &PublicKey,
        validity: Validity,
        serial: SerialNumber,
    ) -> Result<CertificateDer<'static>, RootError> {
        let signed = self
            .authority
            .sign_intermediate(replica, key, validity, serial);
        signed.map_err(|error| self.explain(error))
    }

    /// Signs the certificate of what another instance signs its replicas' authorities with.
    pub(super) fn sign_mesh_authority(
        &self,
        name: &str,
        key: &PublicKey,
        validity: Validity,
        serial: SerialNumber,
    ) -> Result<CertificateDer<'static>, RootError> {
        let signed = self
            .authority
            .sign_mesh_authority(name, key, validity, serial);
        signed.map_err(|error| self.explain(error))
    }

    /// Signs a list of certificates of replicas' authorities.
    pub(super) fn sign_crl(&self, list: &CrlSpec) -> Result<Vec<u8>, RootError> {
        let signed = self.authority.sign_crl(list);
        signed.map_err(|error| self.explain(error))
    }

    /// The token knows better than who made the certificate.
    fn explain(&self, error: x509::IssueError) -> RootError {
        let failure = self.in_token.as_ref().and_then(|key| key.take_failure());
        failure.map_or_else(|| error.into(), RootError::Token)
    }
}
