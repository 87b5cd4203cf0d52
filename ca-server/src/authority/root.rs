//! The sealed roots: the first made once for each trust domain, each opened for the moment in which
//! an intermediate is signed, and wiped; one whose key is in a token signs there. A wrong
//! key-encryption key is refused before anything is written.

mod above;
mod downstream;
mod error;
mod issuer;
mod key;
mod lists;
mod requested;
mod seal;

use crypto::random::SystemRandom;
use crypto::signing::SigningKey;
use identity::x509::{self, RootCertificate};
use identity::{SerialNumber, Validity};
use time::OffsetDateTime;

pub use self::error::RootError;
use self::issuer::RootIssuer;
use self::key::RootKey;
pub(crate) use self::seal::{kek_and_bundle, rotate_kek};
use super::kek::{self, Kek, KekSource};
use super::lifecycle::{Generation, Lifecycle};
use super::sealed::{self, Unsealed};
use super::upstream::{OpenedUpstream, RootsAbove, Upstream, UpstreamError};
use super::{Intermediate, PublishedRoots};
use crate::config::{KeysConfig, Lifetimes, RootPlace, TokenKeyName, UpstreamConfig};
use crate::pkcs11::{Token, TokenKeyReference, destroy_keys, off_thread};
use crate::store::{AuthorityCertificate, IntermediateRow, KeyPurpose, SealedKeyRow, Store};

/// Where keys are, as the configuration says. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct KeyPlaces {
    pub(super) kek: KekSource,
    token: Option<Token>,
    root: RootPlace,
    upstream: Option<Upstream>,
}

/// Knows where the sealed roots and their key-encryption key are; holds neither opened.
#[derive(Debug, Clone)]
pub(crate) struct RootKeeper {
    pub(super) store: Store,
    replica: String,
    pub(super) places: KeyPlaces,
    lifetimes: Lifetimes,
}

/// A root that nobody trusts yet, and that is not kept.
#[derive(Debug)]
pub(crate) struct MadeRoot {
    pub(crate) row: SealedKeyRow,
    pub(crate) validity: Validity,
    reference: Option<TokenKeyReference>,
}

impl KeyPlaces {
    pub(crate) fn of(
        keys: &KeysConfig,
        upstream: Option<&UpstreamConfig>,
    ) -> Result<Self, RootError> {
        let directory = kek::credentials_directory();
        let token = keys.pkcs11.clone().map(|it| Token::new(it, directory));
        let upstream = upstream.map(|config| {
            let upstream = Upstream::of(config, token.as_ref());
            upstream.ok_or(RootError::NoToken)
        });
        Ok(Self {
            kek: KekSource::of(keys)?,
            upstream: upstream.transpose()?,
            token,
            root: keys.root,
        })
    }

    /// Where the instance above says which roots there are, if there is one.
    pub(crate) fn roots_above(&self) -> Option<&RootsAbove> {
        match self.upstream.as_ref()? {
            Upstream::Nested(above) => Some(above),
            Upstream::Files(_) | Upstream::Requested => None,
        }
    }
}

impl RootKeeper {
    /// Finds the sealed roots, or makes the first in insert-if-absent transactions.
    pub(crate) async fn open_or_make(
        store: &Store,
        replica: &str,
        places: KeyPlaces,
        lifetimes: Lifetimes,
        now: OffsetDateTime,
    ) -> Result<Self, RootError> {
        let keeper = Self::new(store, replica, places, lifetimes);
        if store.authority_state(KeyPurpose::X509Root).await?.is_none() {
            keeper.begin(now).await?;
        }
        Ok(keeper)
    }

    /// For who needs no root yet.
    pub(crate) fn new(
        store: &Store,
        replica: &str,
        places: KeyPlaces,
        lifetimes: Lifetimes,
    ) -> Self {
        Self {
            store: store.clone(),
            replica: replica.to_owned(),
            places,
            lifetimes,
        }
    }

    /// A store of before there were states has a sealed root already.
    async fn begin(&self, now: OffsetDateTime) -> Result<(), RootError> {
        let rows = self.store.sealed_keys().await?;
        let known = rows.iter().find(|row| row.purpose == KeyPurpose::X509Root);
        let first = match known {
            Some(row) => row.clone(),
            None => self.keep_first(rows, now).await?,
        };
        let certificate = RootCertificate::from_der(first.certificate.into())?;
        let state = Lifecycle::first(*certificate.validity(), now);
        let json = serde_json::to_string(&state).map_err(RootError::State)?;
        self.store
            .insert_authority_state_if_absent(KeyPurpose::X509Root, &json)
            .await?;
        Ok(())
    }

    /// Another replica may be faster; what it has made is no reason not to have it as well.
    async fn keep_first(
        &self,
        rows: Vec<SealedKeyRow>,
        now: OffsetDateTime,
    ) -> Result<SealedKeyRow, RootError> {
        let keeper = self.clone();
        let made = off_thread(move || {
            let kek = keeper.kek_for(&rows)?;
            keeper.make_with(&kek, &rows, Generation::FIRST, now)
        });
        let made = made.await?;
        let kept = self.store.insert_sealed_key_if_absent(made.row.clone());
        let kept = kept.await?;
        if kept.key_id != made.row.key_id {
            self.unmake(made).await?;
        }
        Ok(kept)
    }

    /// A new root.
    pub(crate) async fn make(
        &self,
        generation: Generation,
        now: OffsetDateTime,
    ) -> Result<MadeRoot, RootError> {
        let rows = self.store.sealed_keys().await?;
        let keeper = self.clone();
        off_thread(move || {
            let kek = opened_by(&keeper.places.kek, &rows)?;
            let made = keeper.make_with(&kek, &rows, generation, now)?;
            match is_known(&rows, &made.row.certificate) {
                true => Err(RootError::SameRoot),
                false => Ok(made),
            }
        })
        .await
    }

    /// Destroys what a token holds of a root that is not kept.
    pub(crate) async fn unmake(&self, made: MadeRoot) -> Result<(), RootError> {
        match made.reference {
            None => Ok(()),
            Some(reference) => self.destroy(vec![reference.name()]).await,
        }
    }

    /// Destroys what a token holds of roots that were removed.
    pub(crate) async fn destroy_removed(&self, removed: &[Generation]) -> Result<(), RootError> {
        let trust_domain = self.store.trust_domain();
        let labels = removed.iter().map(|it| key::label(trust_domain, *it));
        self.destroy(labels.map(TokenKeyName::Label).collect())
            .await
    }

    async fn destroy(&self, names: Vec<TokenKeyName>) -> Result<(), RootError> {
        let Some(token) = self.places.token.clone() else {
            return Ok(());
        };
        off_thread(move || {
            for name in names {
                if destroy_keys(&token, &name)? > 0 {
                    tracing::info!(key = %name, "the token has destroyed a root's key");
                }
            }
            Ok(())
        })
        .await
    }

    fn make_with(
        &self,
        kek: &Kek,
        rows: &[SealedKeyRow],
        generation: Generation,
        now: OffsetDateTime,
    ) -> Result<MadeRoot, RootError> {
        match &self.places.upstream {
            None => self.make_own(kek, generation, now),
            Some(upstream) => {
                let root = match upstream {
                    Upstream::Nested(above) => above::root_to_take_up(above, rows)?,
                    upstream => {
                        let opened = self.open_upstream(upstream, (rows, kek), None, now)?;
                        opened.chain.root().clone()
                    }
                };
                let unsealed = Unsealed {
                    purpose: KeyPurpose::X509Root,
                    version: generation.number(),
                    secret: issuer::OF_UPSTREAM,
                    public_key: root.public_key(),
                    certificate: root.der().to_vec(),
                };
                Ok(MadeRoot {
                    row: unsealed.seal(self.store.trust_domain(), kek, now)?,
                    validity: *root.validity(),
                    reference: None,
                })
            }
        }
    }

    fn open_upstream(
        &self,
        upstream: &Upstream,
        (rows, kek): (&[SealedKeyRow], &Kek),
        root: Option<&[u8]>,
        now: OffsetDateTime,
    ) -> Result<OpenedUpstream, RootError> {
        let trust_domain = self.store.trust_domain();
        match upstream {
            Upstream::Files(files) => {
                let is_wanted = |offered: &[u8]| match root {
                    Some(root) => offered == root,
                    None => !is_known(rows, offered),
                };
                Ok(files.open(is_wanted, trust_domain, now)?)
            }
            Upstream::Requested => {
                let opened = requested::open(rows, root, (trust_domain, kek), now)?;
                Ok(opened.ok_or(UpstreamError::NotInstalled)?)
            }
            Upstream::Nested(_) => {
                let opened = requested::open(rows, root, (trust_domain, kek), now)?;
                Ok(opened.ok_or(UpstreamError::NotSigned)?)
            }
        }
    }

    /// The one of these rows; a new one where there are none yet.
    fn kek_for(&self, rows: &[SealedKeyRow]) -> Result<Kek, RootError> {
        match rows.is_empty() {
            true => Ok(self.places.kek.open_or_make()?),
            false => opened_by(&self.places.kek, rows),
        }
    }

    fn make_own(
        &self,
        kek: &Kek,
        generation: Generation,
        now: OffsetDateTime,
    ) -> Result<MadeRoot, RootError> {
        let trust_domain = self.store.trust_domain();
        let key = self.make_key(generation)?;
        let (back_date, life) = (self.lifetimes.back_date, self.lifetimes.root);
        let validity = Validity::try_new(now - back_date, now + life)?;
        let serial = SerialNumber::random(&mut SystemRandom);
        let signer = key.signer();
        let root = x509::Authority::new_root(trust_domain, signer.clone(), validity, serial)
            .map_err(|error| key.explain(error))?;
        let unsealed = Unsealed {
            purpose: KeyPurpose::X509Root,
            version: generation.number(),
            secret: &key.secret(),
            public_key: signer.spki(),
            certificate: root.certificate().to_vec(),
        };
        Ok(MadeRoot {
            row: unsealed.seal(trust_domain, kek, now)?,
            validity: *root.validity(),
            reference: key.reference(),
        })
    }

    fn make_key(&self, generation: Generation) -> Result<RootKey, RootError> {
        match self.places.root {
            RootPlace::Sealed => Ok(RootKey::make_held()),
            RootPlace::Pkcs11 => {
                let token = self.places.token.as_ref().ok_or(RootError::NoToken)?;
                RootKey::make_in(token, &key::label(self.store.trust_domain(), generation))
            }
        }
    }

    /// Opens the active root, signs an intermediate with a new key, and wipes the root. The
    /// intermediate is recorded when this returns.
    pub(crate) async fn sign_intermediate(
        &self,
        roots: &PublishedRoots,
        now: OffsetDateTime,
    ) -> Result<Intermediate, RootError> {
        let (generation, _) = roots.active().ok_or(RootError::Absent)?;
        let rows = self.keys_in_force(now).await?;
        let keeper = self.clone();
        let serial = SerialNumber::random(&mut SystemRandom);
        let signing = off_thread(move || keeper.sign_with(&rows, generation, (serial, now)));
        let (intermediate, issuer) = signing.await?;
        let validity = intermediate.validity();
        let record = IntermediateRow {
            key_id: intermediate.key_id().to_owned(),
            generation: generation.number(),
            replica: self.replica.clone(),
            not_before: validity.not_before(),
            not_after: validity.not_after(),
            serial: Some(serial),
            is_superseded: false,
        };
        let certificate = AuthorityCertificate {
            der: intermediate.certificate(),
            issuer: &issuer,
            recorded_at: now,
        };
        self.store.record_intermediate(&record, certificate).await?;
        Ok(intermediate)
    }

    fn sign_with(
        &self,
        rows: &[SealedKeyRow],
        generation: Generation,
        (serial, now): (SerialNumber, OffsetDateTime),
    ) -> Result<(Intermediate, String), RootError> {
        let issuer = self.issuer(root_row(rows, generation)?, rows, now)?;
        let validity = Validity::try_new(
            now - self.lifetimes.back_date,
            now + self.lifetimes.intermediate,
        )?
        .clamp_to(&issuer.validity, self.lifetimes.margin)?;
        let key = SigningKey::generate();
        let der = issuer.sign(&self.replica, key.public_key(), validity, serial)?;
        let signed = Intermediate::new(der, key, generation, issuer.above)?;
        Ok((signed, issuer.key_id))
    }

    /// What signs in the name of this root now.
    fn issuer(
        &self,
        row: &SealedKeyRow,
        rows: &[SealedKeyRow],
        now: OffsetDateTime,
    ) -> Result<RootIssuer, RootError> {
        let kek = self.places.kek.open_expecting(&row.kek_check)?;
        let secret = sealed::open(row, self.store.trust_domain(), &kek)?;
        if is_of_upstream(&secret) {
            let upstream = self.places.upstream.as_ref().ok_or(RootError::NoUpstream)?;
            let root = Some(row.certificate.as_slice());
            let opened = self.open_upstream(upstream, (rows, &kek), root, now)?;
            return match is_root(row, opened.chain.root().der()) {
                true => RootIssuer::of_upstream(opened),
                false => Err(RootError::OtherRoot),
            };
        }
        let certificate = RootCertificate::from_der(row.certificate.clone().into())?;
        let token = self.places.token.as_ref();
        let key = RootKey::read(&secret, certificate.public_key(), token)?;
        RootIssuer::own(&certificate, key)
    }
}

fn is_of_upstream(secret: &[u8]) -> bool {
    secret == issuer::OF_UPSTREAM
}

fn root_row(rows: &[SealedKeyRow], generation: Generation) -> Result<&SealedKeyRow, RootError> {
    let is_it = |row: &&SealedKeyRow| {
        row.purpose == KeyPurpose::X509Root && row.version == generation.number()
    };
    rows.iter().find(is_it).ok_or(RootError::Absent)
}

fn is_known(rows: &[SealedKeyRow], root: &[u8]) -> bool {
    rows.iter().any(|row| is_root(row, root))
}

fn is_root(row: &SealedKeyRow, certificate: &[u8]) -> bool {
    row.purpose == KeyPurpose::X509Root && row.certificate == certificate
}

/// The key that wraps all of these: the store keeps none under another.
pub(super) fn opened_by(kek: &KekSource, sealed: &[SealedKeyRow]) -> Result<Kek, RootError> {
    let first = sealed.first().ok_or(RootError::Absent)?;
    Ok(kek.open_expecting(&first.kek_check)?)
}

#[cfg(test)]
#[path = "root/tests.rs"]
mod tests;
