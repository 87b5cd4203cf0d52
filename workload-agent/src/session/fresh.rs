//! Proofs that the agent can give afresh whenever it has no live SVID: the certificate of its host,
//! or a token of an issuer.
//!
//! Invariant: it proves itself only to a CA that the held bundle vouches for, or, where that one
//! cannot be reached any more, the roots that the operator pins.

use std::fs;
use std::path::Path;

use crypto::digest::Sha256;
use crypto::signing::{ForeignKey, SigningKey};
use identity::x509::UnverifiedChain;
use mtls::PinnedRoots;
use runtime::files::read_private;
use zeroize::Zeroizing;

use super::admission::AdmissionError;
use super::{Session, Trouble};
use crate::ca::{ConnectError, Connection, Trust};
use crate::config::{HostCertificate, IssuersToken};
use crate::join::{HostProof, Proof, attest};
use crate::view::judge_bundle;

impl Session {
    pub(super) async fn prove_host(&mut self, files: &HostCertificate) -> Result<(), Trouble> {
        let proof = read_host(files)?;
        let connection = self.connect_to_believed().await?;
        let key = SigningKey::generate();
        let admission = attest(&connection, Proof::Host(&proof), &key)
            .await
            .map_err(AdmissionError::from)?;
        self.hand_over(admission, key).await
    }

    /// The key is kept for as long as the token is the same: the CA binds one to the other.
    pub(super) async fn show_token(&mut self, file: &IssuersToken) -> Result<(), Trouble> {
        let token = read_token(&file.token_file)?;
        let id = Sha256::of(token.as_bytes()).to_string();
        let connection = self.connect_to_believed().await?;
        let key = self.joining_key(&id).await?;
        let admission = attest(&connection, Proof::IssuersToken(&token), &key)
            .await
            .map_err(AdmissionError::from)?;
        self.hand_over(admission, key).await
    }

    /// The bundle first: it follows rotations, which the operator's file may not.
    async fn connect_to_believed(&self) -> Result<Connection, Trouble> {
        let mut refused = Trouble::from(AdmissionError::NoRoots);
        for roots in self.held_roots()?.into_iter().chain(self.roots.clone()) {
            match self.connect(Trust::Pinned(roots)).await {
                Err(trouble @ Trouble::Connect(ConnectError::Tls(..))) => refused = trouble,
                other => return other,
            }
        }
        Err(refused)
    }

    fn held_roots(&self) -> Result<Option<PinnedRoots>, AdmissionError> {
        let Some(bundle) = self.holdings.borrow().bundle.clone() else {
            return Ok(None);
        };
        let judged = judge_bundle(&self.trust_domain, &bundle).map_err(AdmissionError::Bundle)?;
        Ok(Some(PinnedRoots::of_bundle(&judged)))
    }
}

/// Projected tokens are readable by others of their pod, so the file's mode says nothing.
fn read_token(path: &Path) -> Result<Zeroizing<String>, AdmissionError> {
    let text = fs::read_to_string(path).map_err(|source| {
        let path = path.to_owned();
        AdmissionError::IssuersToken { path, source }
    })?;
    let text = Zeroizing::new(text);
    Ok(Zeroizing::new(text.trim().to_owned()))
}

fn read_host(files: &HostCertificate) -> Result<HostProof, AdmissionError> {
    let path = &files.certificate_file;
    let text = fs::read(path).map_err(|source| {
        let path = path.clone();
        AdmissionError::HostFile { path, source }
    })?;
    let chain = UnverifiedChain::from_pem(&text).map_err(AdmissionError::HostCertificate)?;
    let key = read_private(&files.key_file).map_err(AdmissionError::HostKeyFile)?;
    let key = ForeignKey::from_pem(&key).map_err(AdmissionError::HostKey)?;
    Ok(HostProof { chain, key })
}
