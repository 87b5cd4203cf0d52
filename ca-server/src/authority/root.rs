//! The sealed roots: the first made once for each trust domain, each opened for the moment in which
//! an intermediate is signed, and wiped. A wrong key-encryption key is refused before anything is
//! written.

use crypto::digest::constant_time_eq;
use crypto::random::SystemRandom;
use crypto::sealing::OpenError;
use crypto::signing::{KeyError, SigningKey};
use identity::x509::{self, Bundle};
use identity::{SerialNumber, Validity, ValidityError};
use time::OffsetDateTime;

use super::kek::{Kek, KekError, KekSource};
use super::lifecycle::{Generation, Lifecycle};
use super::sealed::{self, Unsealed};
use super::{Intermediate, PublishedRoots};
use crate::config::Lifetimes;
use crate::store::{IntermediateRow, KeyPurpose, SealedKeyRow, Store, StoreError};

/// Why there is no root to sign with.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    #[error(transparent)]
    Kek(#[from] KekError),
    #[error("the sealed root could not be read from the store")]
    Store(#[from] StoreError),
    #[error("the state of the roots in the store is not one that this version knows")]
    State(#[source] serde_json::Error),
    #[error("the store holds no root yet; start the CA first")]
    Absent,
    #[error("the sealed keys changed meanwhile, and nothing was done; try again")]
    Moved,
    #[error("the sealed root did not open: the store was changed by hand, or is damaged")]
    Sealed(#[source] OpenError),
    #[error("the sealed root holds no usable key")]
    Key(#[source] KeyError),
    #[error("the root's certificate cannot be used")]
    Certificate(#[from] x509::CertificateError),
    #[error("the root cannot be used")]
    Authority(#[from] x509::AuthorityError),
    #[error("the root makes no bundle")]
    Bundle(#[from] x509::BundleError),
    #[error("the intermediate was not signed")]
    Issue(#[from] x509::IssueError),
    #[error("the root ends too soon to sign an intermediate")]
    Validity(#[from] ValidityError),
}

/// Knows where the sealed roots and their key-encryption key are; holds neither opened.
#[derive(Debug, Clone)]
pub(crate) struct RootKeeper {
    store: Store,
    replica: String,
    kek: KekSource,
    lifetimes: Lifetimes,
}

impl RootKeeper {
    /// Finds the sealed roots, or makes the first in insert-if-absent transactions.
    pub(crate) async fn open_or_make(
        store: &Store,
        replica: &str,
        kek: KekSource,
        lifetimes: Lifetimes,
        now: OffsetDateTime,
    ) -> Result<Self, RootError> {
        let keeper = Self {
            store: store.clone(),
            replica: replica.to_owned(),
            kek,
            lifetimes,
        };
        if store.authority_state(KeyPurpose::X509Root).await?.is_none() {
            keeper.begin(now).await?;
        }
        Ok(keeper)
    }

    /// A store of before there were states has a sealed root already.
    async fn begin(&self, now: OffsetDateTime) -> Result<(), RootError> {
        let rows = self.store.sealed_keys().await?;
        let known = rows
            .into_iter()
            .find(|row| row.purpose == KeyPurpose::X509Root);
        let first = match known {
            Some(row) => row,
            None => {
                let kek = self.kek.open_or_make()?;
                let made = self.make_with(&kek, Generation::FIRST, now)?;
                self.store.insert_sealed_key_if_absent(made).await?
            }
        };
        let certificate = x509::RootCertificate::from_der(first.certificate.into())?;
        let state = Lifecycle::first(*certificate.validity(), now);
        let json = serde_json::to_string(&state).map_err(RootError::State)?;
        self.store
            .insert_authority_state_if_absent(KeyPurpose::X509Root, &json)
            .await?;
        Ok(())
    }

    /// A new root, sealed; nobody trusts it yet, and it is not kept.
    pub(crate) async fn make(
        &self,
        generation: Generation,
        now: OffsetDateTime,
    ) -> Result<(SealedKeyRow, Validity), RootError> {
        let rows = self.store.sealed_keys().await?;
        let kek = opened_by(&self.kek, &rows)?;
        let row = self.make_with(&kek, generation, now)?;
        let certificate = x509::RootCertificate::from_der(row.certificate.clone().into())?;
        Ok((row, *certificate.validity()))
    }

    fn make_with(
        &self,
        kek: &Kek,
        generation: Generation,
        now: OffsetDateTime,
    ) -> Result<SealedKeyRow, RootError> {
        let trust_domain = self.store.trust_domain();
        let key = SigningKey::generate();
        let (back_date, life) = (self.lifetimes.back_date, self.lifetimes.root);
        let validity = Validity::try_new(now - back_date, now + life)?;
        let serial = SerialNumber::random(&mut SystemRandom);
        let root = x509::Authority::new_root(trust_domain, &key, validity, serial)?;
        let unsealed = Unsealed {
            purpose: KeyPurpose::X509Root,
            version: generation.number(),
            key: &key,
            certificate: root.certificate().to_vec(),
        };
        Ok(unsealed.seal(trust_domain, kek, now))
    }

    /// Opens the active root, signs an intermediate with a new key, and wipes the root. The
    /// intermediate is recorded when this returns.
    pub(crate) async fn sign_intermediate(
        &self,
        roots: &PublishedRoots,
        now: OffsetDateTime,
    ) -> Result<Intermediate, RootError> {
        let (generation, certificate) = roots.active().ok_or(RootError::Absent)?;
        let row = self.sealed(generation).await?;
        let root = self.open(&row)?;
        let key = SigningKey::generate();
        let validity = Validity::try_new(
            now - self.lifetimes.back_date,
            now + self.lifetimes.intermediate,
        )?
        .clamp_to(certificate.validity(), self.lifetimes.margin)?;
        let serial = SerialNumber::random(&mut SystemRandom);
        let der = root.sign_intermediate(&self.replica, key.public_key(), validity, serial)?;
        drop(root);
        let intermediate = Intermediate::new(der, key, generation)?;
        let record = IntermediateRow {
            key_id: intermediate.key_id().to_owned(),
            generation: generation.number(),
            replica: self.replica.clone(),
            not_before: validity.not_before(),
            not_after: validity.not_after(),
        };
        self.store.record_intermediate(&record).await?;
        Ok(intermediate)
    }

    async fn sealed(&self, generation: Generation) -> Result<SealedKeyRow, RootError> {
        let rows = self.store.sealed_keys().await?;
        let is_it = |row: &SealedKeyRow| {
            row.purpose == KeyPurpose::X509Root && row.version == generation.number()
        };
        rows.into_iter().find(is_it).ok_or(RootError::Absent)
    }

    fn open(&self, row: &SealedKeyRow) -> Result<x509::Authority, RootError> {
        let kek = self.kek.open_expecting(&row.kek_check)?;
        let key = sealed::open(row, self.store.trust_domain(), &kek)?;
        Ok(x509::Authority::load(row.certificate.clone().into(), key)?)
    }
}

/// For the tool that makes a new administrator's credential: whoever runs it holds the key.
pub(crate) async fn kek_and_bundle(
    store: &Store,
    kek: &KekSource,
) -> Result<(Kek, Bundle), RootError> {
    let kek = opened_by(kek, &store.sealed_keys().await?)?;
    let roots = PublishedRoots::read(store).await?;
    Ok((kek, roots.bundle().clone()))
}

/// Wraps every sealed key by the key-encryption key of `to`, which is made if it does not exist;
/// the one of `from` opens nothing afterwards. Answers how many keys there are.
pub(crate) async fn rotate_kek(
    store: &Store,
    from: &KekSource,
    to: &KekSource,
) -> Result<usize, RootError> {
    let rows = store.sealed_keys().await?;
    let old = opened_by(from, &rows)?;
    let new = to.open_or_make()?;
    if constant_time_eq(&old.check_value(), &new.check_value()) {
        return Err(KekError::Same(to.place().clone()).into());
    }
    let trust_domain = store.trust_domain();
    let rewrapped = rows
        .iter()
        .map(|row| sealed::rewrap(row, trust_domain, (&old, &new)))
        .collect::<Result<Vec<_>, _>>()?;
    match store
        .rewrap_sealed_keys(old.check_value(), &rewrapped)
        .await?
    {
        true => Ok(rewrapped.len()),
        false => Err(RootError::Moved),
    }
}

/// The key that wraps all of these: the store keeps none under another.
fn opened_by(kek: &KekSource, sealed: &[SealedKeyRow]) -> Result<Kek, RootError> {
    let first = sealed.first().ok_or(RootError::Absent)?;
    Ok(kek.open_expecting(&first.kek_check)?)
}

#[cfg(test)]
#[path = "root/tests.rs"]
mod tests;
