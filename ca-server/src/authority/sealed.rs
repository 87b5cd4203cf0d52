//! How a signing key is sealed: AES-256-GCM under a data key of its own, which the key-encryption
//! key wraps. Both seals are bound to the trust domain, the purpose, the key id and the version, so
//! a row moved elsewhere does not open.

use crypto::digest::Sha256;
use crypto::random::{Random as _, SystemRandom};
use crypto::sealing::{OpenError, SealingKey};
use identity::TrustDomain;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::kek::{Kek, UnwrapError};
use super::root::RootError;
use crate::pkcs11::TokenError;
use crate::store::{KeyPurpose, SealedKeyRow};

/// A secret that is to be sealed: a key, or the reference to one.
pub(super) struct Unsealed<'a> {
    pub(super) purpose: KeyPurpose,
    pub(super) version: u32,
    pub(super) secret: &'a [u8],
    /// SubjectPublicKeyInfo, DER; of the log, the Ed25519 key itself.
    pub(super) public_key: &'a [u8],
    pub(super) certificate: Vec<u8>,
}

impl Unsealed<'_> {
    pub(super) fn seal(
        self,
        trust_domain: &TrustDomain,
        kek: &Kek,
        now: OffsetDateTime,
    ) -> Result<SealedKeyRow, TokenError> {
        let key_id = Sha256::of(self.public_key).to_string();
        let label = Label::of(trust_domain, self.purpose, &key_id, self.version);
        let mut data_key_bytes = Zeroizing::new([0_u8; 32]);
        SystemRandom.fill(data_key_bytes.as_mut_slice());
        let data_key = SealingKey::from_bytes(*data_key_bytes);
        Ok(SealedKeyRow {
            purpose: self.purpose,
            version: self.version,
            wrapped_data_key: kek.wrap(&label.wrapping(), data_key_bytes.as_slice())?,
            sealed: data_key.seal(&label.sealing(), self.secret),
            kek_check: kek.check_value(),
            certificate: self.certificate,
            created_at: now,
            key_id,
        })
    }
}

/// The secret of a row.
pub(super) fn open(
    row: &SealedKeyRow,
    trust_domain: &TrustDomain,
    kek: &Kek,
) -> Result<Zeroizing<Vec<u8>>, RootError> {
    let label = Label::of_row(trust_domain, row);
    let data_key = data_key(row, &label, kek)?;
    SealingKey::from_bytes(*data_key)
        .open(&label.sealing(), &row.sealed)
        .map_err(RootError::Sealed)
}

/// The same secret, its data key wrapped by another key-encryption key.
pub(super) fn rewrap(
    row: &SealedKeyRow,
    trust_domain: &TrustDomain,
    (from, to): (&Kek, &Kek),
) -> Result<SealedKeyRow, RootError> {
    let label = Label::of_row(trust_domain, row);
    let data_key = data_key(row, &label, from)?;
    Ok(SealedKeyRow {
        wrapped_data_key: to.wrap(&label.wrapping(), data_key.as_slice())?,
        kek_check: to.check_value(),
        ..row.clone()
    })
}

fn data_key(
    row: &SealedKeyRow,
    label: &Label,
    kek: &Kek,
) -> Result<Zeroizing<[u8; 32]>, RootError> {
    let opened = kek
        .unwrap(&label.wrapping(), &row.wrapped_data_key)
        .map_err(|error| match error {
            UnwrapError::Open(error) => RootError::Sealed(error),
            UnwrapError::Token(error) => RootError::Token(error),
        })?;
    let bytes = opened.as_slice().try_into();
    let bytes = bytes.map_err(|_| RootError::Sealed(OpenError::Refused))?;
    Ok(Zeroizing::new(bytes))
}

/// What the seals are bound to. Each part is preceded by its length, so that no two labels meet.
struct Label(Vec<u8>);

impl Label {
    fn of_row(trust_domain: &TrustDomain, row: &SealedKeyRow) -> Self {
        Self::of(trust_domain, row.purpose, &row.key_id, row.version)
    }

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
