//! The key of the transparency log: one for the mesh, made by whoever is first, sealed like the
//! roots. It signs checkpoints and nothing else, and the process keeps it: the log moves every few
//! seconds.

use crypto::ed25519::Ed25519Key;
use identity::TrustDomain;
use time::OffsetDateTime;
use tlog::NoteSigner;

use super::kek::Kek;
use super::root::{KeyPlaces, RootError, RootKeeper, opened_by};
use super::sealed::{self, Unsealed};
use crate::pkcs11::off_thread;
use crate::store::{KeyPurpose, SealedKeyRow};

const VERSION: u32 = 1;

impl RootKeeper {
    /// Opens the log's key, making it first where there is none.
    pub(crate) async fn log_signer(&self, now: OffsetDateTime) -> Result<NoteSigner, RootError> {
        let rows = self.store.sealed_keys().await?;
        let places = self.places.clone();
        let trust_domain = self.store.trust_domain().clone();
        let row = match rows.iter().find(|row| row.purpose == KeyPurpose::Log) {
            Some(row) => row.clone(),
            None => {
                let (places, trust_domain) = (places.clone(), trust_domain.clone());
                let made = off_thread(move || {
                    let kek = places.kek_of(&rows)?;
                    make(&trust_domain, &kek, now)
                });
                self.store.insert_sealed_key_if_absent(made.await?).await?
            }
        };
        off_thread(move || {
            let kek = places.kek.open_expecting(&row.kek_check)?;
            let seed = sealed::open(&row, &trust_domain, &kek)?;
            let seed = seed.as_slice().try_into().map_err(|_| RootError::Log)?;
            signer(&trust_domain, Ed25519Key::from_seed(seed))
        })
        .await
    }
}

impl KeyPlaces {
    fn kek_of(&self, rows: &[SealedKeyRow]) -> Result<Kek, RootError> {
        match rows.is_empty() {
            true => Ok(self.kek.open_or_make()?),
            false => opened_by(&self.kek, rows),
        }
    }
}

fn make(
    trust_domain: &TrustDomain,
    kek: &Kek,
    now: OffsetDateTime,
) -> Result<SealedKeyRow, RootError> {
    let key = Ed25519Key::generate();
    let (seed, public_key) = (key.seed(), key.public_key());
    let unsealed = Unsealed {
        purpose: KeyPurpose::Log,
        version: VERSION,
        secret: seed.as_slice(),
        public_key: public_key.as_bytes(),
        certificate: signer(trust_domain, key)?
            .verifier()
            .to_string()
            .into_bytes(),
    };
    Ok(unsealed.seal(trust_domain, kek, now)?)
}

/// The log's origin is the name of its key.
fn signer(trust_domain: &TrustDomain, key: Ed25519Key) -> Result<NoteSigner, RootError> {
    let origin = format!("{trust_domain}/countersign-log");
    NoteSigner::try_new(&origin, key).map_err(|_| RootError::Log)
}
