//! The administrator's credential: a file made once for each mesh, by the replica that made the
//! root, and made again only by who holds both the store and the key-encryption key.
//!
//! The store keeps a digest of the secret; the file (0600) is the only place where the secret is.

mod held;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crypto::digest::constant_time_eq;
use crypto::random::{Random, SystemRandom};
use data_encoding::HEXLOWER;
use identity::TrustDomain;
use identity::x509::Bundle;
use runtime::files::{FileError, write_private};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use crate::authority::Kek;
use crate::bearer::{Administration, BearerSecret};
use crate::store::{AdminCredentialRow, Store, StoreError};

pub(crate) use held::HeldCredentials;

const LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What administrators show.
pub type AdminSecret = BearerSecret<Administration>;

/// What the file says besides the secret.
#[derive(Clone, Debug)]
pub struct AdminAccess {
    /// `https://host:8443` of each replica.
    pub urls: Vec<String>,
    pub bundle: Bundle,
}

#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("cannot record the admin credential")]
    Store(#[from] StoreError),
    #[error("cannot write the admin credential")]
    File(#[from] FileError),
    #[error("cannot read {} to see whether it may be replaced", .path.display())]
    Existing {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is not an admin credential of {trust_domain}; move it away", .path.display())]
    Foreign {
        path: PathBuf,
        trust_domain: TrustDomain,
    },
    #[error("the key-encryption key is not the one that sealed this store")]
    WrongKek,
    #[error("the store holds no sealed key yet: start the CA first")]
    NoRoot,
}

/// Makes the first credential, unless this mesh ever had one. Answers whether it was made.
///
/// # Errors
/// See [`AdminError`].
pub async fn make_first(
    store: &Store,
    access: &AdminAccess,
    path: &Path,
    now: OffsetDateTime,
) -> Result<bool, AdminError> {
    if !store.admin_credentials().await?.is_empty() {
        return Ok(false);
    }
    require_replaceable(path, store.trust_domain())?;
    // The file first: a crash in between leaves a credential that does not work and is made again,
    // never one that nobody has.
    let row = write_credential(store, access, path, now)?;
    Ok(store.put_first_admin_credential(row).await?)
}

/// Revokes every credential and makes a new one, for who holds the store and its key.
///
/// # Errors
/// See [`AdminError`].
pub(crate) async fn reset(
    store: &Store,
    kek: &Kek,
    access: &AdminAccess,
    path: &Path,
    now: OffsetDateTime,
) -> Result<(), AdminError> {
    let keys = store.sealed_keys().await?;
    if keys.is_empty() {
        return Err(AdminError::NoRoot);
    }
    if !keys
        .iter()
        .all(|key| constant_time_eq(&key.kek_check, &kek.check_value()))
    {
        return Err(AdminError::WrongKek);
    }
    require_replaceable(path, store.trust_domain())?;
    let row = write_credential(store, access, path, now)?;
    Ok(store.replace_admin_credentials(row).await?)
}

#[derive(Serialize)]
struct AdminFile<'a> {
    trust_domain: &'a TrustDomain,
    urls: &'a [String],
    root_sha256: Vec<String>,
    secret: &'a str,
    expires: String,
}

fn write_credential(
    store: &Store,
    access: &AdminAccess,
    path: &Path,
    now: OffsetDateTime,
) -> Result<AdminCredentialRow, AdminError> {
    let mut random = SystemRandom;
    let secret = AdminSecret::generate(&mut random);
    let expires_at = now + LIFE;
    let text = secret.text();
    let roots = access.bundle.authorities().iter();
    let file = AdminFile {
        trust_domain: store.trust_domain(),
        urls: &access.urls,
        root_sha256: roots.map(|root| root.digest().to_string()).collect(),
        secret: &text,
        expires: expires_at
            .format(&Rfc3339)
            .expect("a time of this millennium has RFC 3339 form"),
    };
    let content = toml::to_string(&file).expect("text and lists of text have a TOML form");
    write_private(path, Zeroizing::new(content).as_bytes())?;
    Ok(AdminCredentialRow {
        id: HEXLOWER.encode(&random.bytes::<4>()),
        secret_sha256: secret.digest(),
        created_at: now,
        expires_at,
        revoked_at: None,
    })
}

/// A file of another mesh, or no credential at all, is somebody's, and stays.
fn require_replaceable(path: &Path, ours: &TrustDomain) -> Result<(), AdminError> {
    #[derive(Deserialize)]
    struct Existing {
        trust_domain: TrustDomain,
    }
    let text = match std::fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(AdminError::Existing {
                path: path.to_owned(),
                source,
            });
        }
    };
    match toml::from_str::<Existing>(&text) {
        Ok(existing) if existing.trust_domain == *ours => Ok(()),
        _ => Err(AdminError::Foreign {
            path: path.to_owned(),
            trust_domain: ours.clone(),
        }),
    }
}

#[cfg(test)]
mod tests;
