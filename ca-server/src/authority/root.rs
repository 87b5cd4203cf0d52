//! The sealed root: made once for each trust domain, opened for the moment in which an intermediate
//! is signed, and wiped.
//!
//! Sealing: AES-256-GCM under a data key of its own, which the key-encryption key wraps. Both
//! seals are bound to the trust domain, the purpose, the key id and the version, so a row moved
//! elsewhere does not open. A wrong key-encryption key is refused before anything is written.

use std::path::{Path, PathBuf};

use crypto::digest::constant_time_eq;
use crypto::random::{Random as _, SystemRandom};
use crypto::sealing::{OpenError, SealingKey};
use crypto::signing::{KeyError, SigningKey};
use identity::x509::{self, Bundle, RootCertificate};
use identity::{SerialNumber, TrustDomain, Validity, ValidityError};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::kek::{self, KekError};
use super::{Authority, Intermediate};
use crate::config::Lifetimes;
use crate::store::{KeyPurpose, SealedKeyRow, Store, StoreError};

const VERSION: u32 = 1;

/// Why there is no root to sign with.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    #[error(transparent)]
    Kek(#[from] KekError),
    #[error("the sealed root could not be read from the store")]
    Store(#[from] StoreError),
    #[error("the store holds no root yet; start the CA first")]
    Absent,
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

/// Knows where the sealed root and its key-encryption key are; holds neither opened.
#[derive(Debug)]
pub(crate) struct RootKeeper {
    trust_domain: TrustDomain,
    replica: String,
    kek_file: PathBuf,
    lifetimes: Lifetimes,
    sealed: SealedKeyRow,
    certificate: RootCertificate,
}

impl RootKeeper {
    /// Finds the sealed root, or makes it in one insert-if-absent transaction.
    pub(crate) async fn open_or_make(
        store: &Store,
        replica: &str,
        kek_file: &Path,
        lifetimes: Lifetimes,
        now: OffsetDateTime,
    ) -> Result<Self, RootError> {
        let trust_domain = store.trust_domain().clone();
        let sealed = match sealed_root(store).await? {
            Some(row) => row,
            None => {
                let kek = kek::read_or_make(kek_file)?;
                let made = make(&trust_domain, &kek, lifetimes, now)?;
                store.insert_sealed_key_if_absent(made).await?
            }
        };
        let certificate = RootCertificate::from_der(sealed.certificate.clone().into())?;
        Ok(Self {
            trust_domain,
            replica: replica.to_owned(),
            kek_file: kek_file.to_owned(),
            lifetimes,
            sealed,
            certificate,
        })
    }

    /// This replica's authority, with a first intermediate.
    pub(crate) fn authority(&self, now: OffsetDateTime) -> Result<Authority, RootError> {
        let first = self.sign_intermediate(now)?;
        let bundle = bundle_of(&self.trust_domain, &self.certificate)?;
        Ok(Authority::new(self.certificate.clone(), bundle, first))
    }

    /// Opens the root, signs an intermediate with a new key, and wipes the root.
    pub(super) fn sign_intermediate(&self, now: OffsetDateTime) -> Result<Intermediate, RootError> {
        let root = self.open()?;
        let key = SigningKey::generate();
        let validity = Validity::try_new(
            now - self.lifetimes.back_date,
            now + self.lifetimes.intermediate,
        )?
        .clamp_to(self.certificate.validity(), self.lifetimes.margin)?;
        let serial = SerialNumber::random(&mut SystemRandom);
        let certificate =
            root.sign_intermediate(&self.replica, key.public_key(), validity, serial)?;
        Ok(Intermediate::new(certificate, key)?)
    }

    fn open(&self) -> Result<x509::Authority, RootError> {
        let kek = kek_of(&self.sealed, &self.kek_file)?;
        let row = &self.sealed;
        let label = Label::of(&self.trust_domain, row.purpose, &row.key_id, row.version);
        let data_key = kek
            .open(&label.wrapping(), &row.wrapped_data_key)
            .map_err(RootError::Sealed)?;
        let data_key: Zeroizing<[u8; 32]> = Zeroizing::new(
            data_key
                .as_slice()
                .try_into()
                .map_err(|_| RootError::Sealed(OpenError::Refused))?,
        );
        let pkcs8 = SealingKey::from_bytes(*data_key)
            .open(&label.sealing(), &row.sealed)
            .map_err(RootError::Sealed)?;
        let key = SigningKey::from_pkcs8(&pkcs8).map_err(RootError::Key)?;
        Ok(x509::Authority::load(self.certificate.der().clone(), key)?)
    }
}

/// For the tool that makes a new administrator's credential: whoever runs it holds the key.
pub(crate) async fn kek_and_bundle(
    store: &Store,
    kek_file: &Path,
) -> Result<(SealingKey, Bundle), RootError> {
    let sealed = sealed_root(store).await?.ok_or(RootError::Absent)?;
    let kek = kek_of(&sealed, kek_file)?;
    let certificate = RootCertificate::from_der(sealed.certificate.into())?;
    Ok((kek, bundle_of(store.trust_domain(), &certificate)?))
}

async fn sealed_root(store: &Store) -> Result<Option<SealedKeyRow>, StoreError> {
    let rows = store.sealed_keys().await?;
    Ok(rows
        .into_iter()
        .find(|row| row.purpose == KeyPurpose::X509Root))
}

fn kek_of(sealed: &SealedKeyRow, kek_file: &Path) -> Result<SealingKey, KekError> {
    let kek = kek::read(kek_file)?;
    if constant_time_eq(&kek.check_value(), &sealed.kek_check) {
        Ok(kek)
    } else {
        Err(KekError::Wrong(kek_file.to_owned()))
    }
}

fn bundle_of(
    trust_domain: &TrustDomain,
    certificate: &RootCertificate,
) -> Result<Bundle, x509::BundleError> {
    Bundle::from_roots(trust_domain.clone(), 1, vec![certificate.clone()])
}

fn make(
    trust_domain: &TrustDomain,
    kek: &SealingKey,
    lifetimes: Lifetimes,
    now: OffsetDateTime,
) -> Result<SealedKeyRow, RootError> {
    let key = SigningKey::generate();
    let key_id = key.public_key().fingerprint().to_string();
    let validity = Validity::try_new(now - lifetimes.back_date, now + lifetimes.root)?;
    let serial = SerialNumber::random(&mut SystemRandom);
    let root = x509::Authority::new_root(trust_domain, &key, validity, serial)?;
    let label = Label::of(trust_domain, KeyPurpose::X509Root, &key_id, VERSION);
    let mut data_key_bytes = Zeroizing::new([0_u8; 32]);
    SystemRandom.fill(data_key_bytes.as_mut_slice());
    let data_key = SealingKey::from_bytes(*data_key_bytes);
    Ok(SealedKeyRow {
        purpose: KeyPurpose::X509Root,
        version: VERSION,
        wrapped_data_key: kek.seal(&label.wrapping(), data_key_bytes.as_slice()),
        sealed: data_key.seal(&label.sealing(), &key.to_pkcs8()),
        kek_check: kek.check_value(),
        certificate: root.certificate().to_vec(),
        created_at: now,
        key_id,
    })
}

/// What the seals are bound to. Each part is preceded by its length, so that no two labels meet.
struct Label(Vec<u8>);

impl Label {
    fn of(trust_domain: &TrustDomain, purpose: KeyPurpose, key_id: &str, version: u32) -> Self {
        let version = version.to_be_bytes();
        let parts = [
            trust_domain.as_str().as_bytes(),
            purpose.as_str().as_bytes(),
            key_id.as_bytes(),
            &version,
        ];
        let framed = parts.iter().flat_map(|part| {
            let length = u64::try_from(part.len()).expect("a length fits in 64 bits");
            [&length.to_be_bytes()[..], part].concat()
        });
        Self(framed.collect())
    }

    fn wrapping(&self) -> Vec<u8> {
        [b"countersign data key\0", self.0.as_slice()].concat()
    }

    fn sealing(&self) -> Vec<u8> {
        [b"countersign sealed key\0", self.0.as_slice()].concat()
    }
}

#[cfg(test)]
#[path = "root/tests.rs"]
mod tests;
