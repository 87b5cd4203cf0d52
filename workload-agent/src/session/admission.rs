//! Getting the agent's own SVID when it holds no live one.
//!
//! Invariant: the secret of a token goes only to a server whose root the token pins; the expired
//! SVID is shown only to a server whose root the cached bundle holds.

use std::io;
use std::path::PathBuf;

use crypto::signing::{ForeignKeyError, KeyError, SigningKey};
use identity::join_token::CaAddress;
use identity::x509::ChainError;
use identity::{JoinToken, JoinTokenError, TrustDomain};
use mtls::PinnedRoots;
use runtime::FileError;
use runtime::files::read_private;
use tokio::sync::oneshot;

use super::{Session, Trouble};
use crate::ca::Trust;
use crate::cache::{CacheError, StoredJoining};
use crate::contact::note_clock;
use crate::holdings::OwnProof;
use crate::join::{Admission, NotAdmitted, Proof, attest, reattest};
use crate::keeper::{Admitted, NotTaken};
use crate::view::{ViewError, judge_bundle};

const NEW_TOKEN: &str = "make a token with `countersign join-token create` and write it to the \
                         agent's token file (0600); it is tried within a minute";

/// Why the agent has no identity yet, or no longer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdmissionError {
    #[error("there is no token file to join with")]
    NoTokenFile,
    #[error("the join token cannot be read")]
    TokenFile(#[source] FileError),
    #[error("the join token is malformed")]
    Token(#[source] JoinTokenError),
    #[error("the join token is for trust domain {token}, and this agent is of {own}")]
    OtherTrustDomain {
        own: TrustDomain,
        token: TrustDomain,
    },
    #[error("the key to join with cannot be kept")]
    Keep(#[source] CacheError),
    #[error("the kept key to join with is unusable")]
    Key(#[source] KeyError),
    #[error("the cached bundle is unusable")]
    Bundle(#[source] ViewError),
    #[error("the host's certificate {path} cannot be read")]
    HostFile { path: PathBuf, source: io::Error },
    #[error("the host's certificate is unusable")]
    HostCertificate(#[source] ChainError),
    #[error("the host's key cannot be read")]
    HostKeyFile(#[source] FileError),
    #[error("the host's key is unusable")]
    HostKey(#[source] ForeignKeyError),
    #[error("the issuer's token {path} cannot be read")]
    IssuersToken { path: PathBuf, source: io::Error },
    #[error("neither a bundle is held, nor does ca.root_sha256 say whom to believe")]
    NoRoots,
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
    #[error("the CA's answer was not taken")]
    NotTaken(#[from] NotTaken),
    #[error("the agent is stopping")]
    Stopping,
}

impl Session {
    /// A fresh proof where the host has one. Else the expired SVID first; a token when there is
    /// none, or when it is refused for good.
    pub(super) async fn be_admitted(&mut self) -> Result<(), Trouble> {
        if let Some(host) = self.join.x509pop.clone() {
            return self.prove_host(&host).await;
        }
        if let Some(token) = self.join.jwt.clone() {
            return self.show_token(&token).await;
        }
        let proof = self.holdings.borrow().own_proof.clone();
        let Some(proof) = proof else {
            return self.join().await;
        };
        match self.return_with(&proof).await {
            Err(Trouble::Admission(refused)) if refused.needs_a_person() => {
                // A new token, left by whoever read the status, is the way back.
                self.join().await.map_err(|_| refused.into())
            }
            outcome => outcome,
        }
    }

    async fn join(&mut self) -> Result<(), Trouble> {
        let token = self.token()?;
        if self.addresses.current().is_none() {
            let known: Vec<CaAddress> = token.addresses().to_vec();
            self.addresses.replace(&known);
        }
        let key = self.joining_key(token.id()).await?;
        let roots = PinnedRoots::new(token.trust_domain().clone(), token.roots().to_vec());
        let connection = self.connect(Trust::Pinned(roots)).await?;
        let admission = attest(&connection, Proof::JoinToken(&token), &key)
            .await
            .map_err(AdmissionError::from)?;
        self.hand_over(admission, key).await?;
        self.cache.forget::<StoredJoining>();
        Ok(())
    }

    async fn return_with(&mut self, proof: &OwnProof) -> Result<(), Trouble> {
        let bundle = self.holdings.borrow().bundle.clone();
        let bundle = bundle
            .ok_or(NotTaken::NoBundle)
            .map_err(AdmissionError::from)?;
        let judged = judge_bundle(&self.trust_domain, &bundle).map_err(AdmissionError::Bundle)?;
        let connection = self
            .connect(Trust::Pinned(PinnedRoots::of_bundle(&judged)))
            .await?;
        let key = SigningKey::generate();
        let admission = reattest(&connection, proof.chain.clone(), &proof.key, &key)
            .await
            .map_err(AdmissionError::from)?;
        self.hand_over(admission, key).await
    }

    pub(super) async fn hand_over(
        &mut self,
        admission: Admission,
        key: SigningKey,
    ) -> Result<(), Trouble> {
        note_clock(&self.contact, admission.ca_time_unix_ms, self.clock.now());
        let recovery_key = admission.recovery_key;
        let (judged, verdict) = oneshot::channel();
        let admitted = Admitted {
            chain: admission.chain,
            key,
            bundle: admission.bundle,
            judged,
        };
        let sent = self.admitted.send(admitted).await;
        sent.map_err(|_| AdmissionError::Stopping)?;
        let verdict = verdict.await.map_err(|_| AdmissionError::Stopping)?;
        verdict.map_err(AdmissionError::from)?;
        let now = self.clock.now();
        self.recovery.told(&recovery_key, "", now).await;
        Ok(())
    }

    fn token(&self) -> Result<JoinToken, AdmissionError> {
        let path = self.join.token_file.as_ref();
        let path = path.ok_or(AdmissionError::NoTokenFile)?;
        let token = read_token(path)?;
        if *token.trust_domain() != self.trust_domain {
            return Err(AdmissionError::OtherTrustDomain {
                own: self.trust_domain.clone(),
                token: token.trust_domain().clone(),
            });
        }
        Ok(token)
    }

    /// On disk before it is used: the CA binds the token to it.
    pub(super) async fn joining_key(&self, token_id: &str) -> Result<SigningKey, AdmissionError> {
        let kept = self.cache.load::<StoredJoining>();
        if let Some(kept) = kept.filter(|kept| kept.token_id == token_id) {
            return SigningKey::from_pkcs8(&kept.key).map_err(AdmissionError::Key);
        }
        let key = SigningKey::generate();
        let joining = StoredJoining {
            token_id: token_id.to_owned(),
            key: key.to_pkcs8().to_vec(),
        };
        self.cache
            .store(joining)
            .await
            .map_err(AdmissionError::Keep)?;
        Ok(key)
    }
}

/// Reads a token file.
pub(crate) fn read_token(path: &std::path::Path) -> Result<JoinToken, AdmissionError> {
    let text = read_private(path).map_err(AdmissionError::TokenFile)?;
    let text = String::from_utf8_lossy(&text);
    text.trim().parse().map_err(AdmissionError::Token)
}

impl AdmissionError {
    pub(super) fn needs_a_person(&self) -> bool {
        match self {
            Self::NotAdmitted(refused) => refused.is_permanent(),
            Self::NotTaken(_) | Self::Stopping | Self::Keep(_) => false,
            _ => true,
        }
    }

    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::NotAdmitted(refused) if refused.is_permanent() => "not-admitted",
            Self::NotAdmitted(_) => "ca-unavailable",
            Self::NotTaken(_) => "answer-not-taken",
            Self::NoTokenFile | Self::TokenFile(_) | Self::Token(_) => "no-join-token",
            Self::HostFile { .. }
            | Self::HostCertificate(_)
            | Self::HostKeyFile(_)
            | Self::HostKey(_) => "host-certificate-unusable",
            Self::IssuersToken { .. } => "issuers-token-unusable",
            Self::NoRoots => "no-roots",
            Self::OtherTrustDomain { .. } => "other-trust-domain",
            Self::Keep(_) | Self::Key(_) | Self::Bundle(_) => "cache-unusable",
            Self::Stopping => "stopping",
        }
    }

    /// `method` is how the agent proves itself, where that is not by a token.
    pub(super) fn next_step(&self, method: Option<&'static str>) -> Option<String> {
        match self {
            Self::NotTaken(_) => Some("compare this host's clock with the CA's".to_owned()),
            Self::Keep(_) => Some("make the state directory writable".to_owned()),
            error if !error.needs_a_person() => None,
            _ => Some(match method {
                None => NEW_TOKEN.to_owned(),
                Some(method) => format!(
                    "compare [join.{method}] of this agent with [attest] of the CA; it is tried \
                     again within a minute"
                ),
            }),
        }
    }
}
