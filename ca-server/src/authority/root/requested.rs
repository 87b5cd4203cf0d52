//! The authority of a mesh whose root is offline: its key is made here and sealed in the store, and
//! somebody carries a request to the root and a certificate back.
//!
//! Refuses a certificate for any other key, and one under which the mesh could not live.

use std::time::Duration;

use crypto::digest::Sha256;
use crypto::signing::SigningKey;
use identity::x509::{UnverifiedIssuingChain, authority_request, validity_of};
use identity::{TrustDomain, Validity};
use time::OffsetDateTime;

use super::{RootError, RootKeeper, opened_by, root_row};
use crate::authority::kek::Kek;
use crate::authority::lifecycle::Generation;
use crate::authority::sealed::{self, Unsealed};
use crate::authority::upstream::{OpenedUpstream, Upstream, UpstreamError};
use crate::pkcs11::off_thread;
use crate::store::{KeyPurpose, SealedKeyRow, StoreError};

/// After its end, for clocks that are behind.
const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// What stands between the replicas and a root that is not here.
#[derive(Debug)]
pub(crate) struct InstalledAuthority {
    /// DER.
    pub(crate) root: Vec<u8>,
    pub(crate) validity: Validity,
}

impl InstalledAuthority {
    fn of(chain: &UnverifiedIssuingChain) -> Result<Self, RootError> {
        let first = chain.certificates().first().ok_or(RootError::Absent)?;
        Ok(Self {
            root: chain.root().to_vec(),
            validity: validity_of(first)?,
        })
    }
}

impl RootKeeper {
    /// A PKCS#10 request, DER, with the key that waits for a certificate; made if none does.
    pub(crate) async fn request(&self, now: OffsetDateTime) -> Result<Vec<u8>, RootError> {
        self.require_requested()?;
        let rows = self.store.sealed_keys().await?;
        let in_force = self.keys_in_force(now).await?;
        let waiting = rows.iter().filter(|row| is_waiting(row));
        let revoked = waiting.filter(|row| in_force.iter().all(|it| it.key_id != row.key_id));
        let revoked: Vec<_> = revoked.map(|row| row.key_id.clone()).collect();
        let keeper = self.clone();
        let made = off_thread(move || keeper.waiting_key(&rows, &in_force, now));
        let (key, made) = made.await?;
        if let Some(made) = made {
            let key_id = made.key_id.clone();
            let kept = self.store.insert_sealed_key_if_absent(made).await?;
            if kept.key_id != key_id {
                return Err(RootError::Moved);
            }
        }
        // Of no use to anybody, whatever is answered to it.
        for key_id in revoked {
            let purpose = KeyPurpose::MeshAuthority;
            self.store.forget_waiting_key(purpose, &key_id).await?;
        }
        Ok(authority_request(self.store.trust_domain(), &key)?)
    }

    /// Takes the certificate that the root made of a request: PEM, the root last.
    pub(crate) async fn install(&self, pem: &[u8], now: OffsetDateTime) -> Result<(), RootError> {
        let chain = UnverifiedIssuingChain::from_pem(pem).map_err(UpstreamError::Certificate)?;
        match self.install_once(chain, now).await? {
            true => Ok(()),
            false => Err(UpstreamError::OtherKey.into()),
        }
    }

    /// The same for a chain that another replica may have brought already. `false`: no key waits
    /// for it.
    pub(crate) async fn install_once(
        &self,
        chain: UnverifiedIssuingChain,
        now: OffsetDateTime,
    ) -> Result<bool, RootError> {
        self.require_requested()?;
        let refused = UpstreamError::Certificate;
        let key_id = Sha256::of(&chain.public_key().map_err(refused)?).to_string();
        let rows = self.store.sealed_keys().await?;
        let mut waiting = rows.iter().filter(|row| is_waiting(row));
        let row = waiting.find(|row| row.key_id == key_id);
        let Some(row) = row.cloned() else {
            return Ok(false);
        };
        if !chain.names(self.store.trust_domain()) {
            return Err(UpstreamError::Unnamed.into());
        }
        let (keeper, unchecked) = (self.clone(), chain.clone());
        let checked = off_thread(move || {
            let kek = opened_by(&keeper.places.kek, std::slice::from_ref(&row))?;
            let trust_domain = keeper.store.trust_domain();
            let key = open_key(&row, trust_domain, &kek)?;
            let checked = unchecked.check(key.into(), trust_domain, now);
            Ok::<_, RootError>(checked.map_err(refused)?)
        });
        checked.await?;
        let certificates = chain.to_concatenated_der();
        let purpose = KeyPurpose::MeshAuthority;
        let installed = self
            .store
            .install_certificate(purpose, &key_id, certificates);
        let is_new = installed.await?;
        for row in ended(&rows, now)? {
            self.store.delete_sealed_key(purpose, row.version).await?;
        }
        Ok(is_new)
    }

    /// The newest authority that was installed and is not revoked, unchecked.
    pub(crate) async fn newest_authority(
        &self,
        now: OffsetDateTime,
    ) -> Result<Option<InstalledAuthority>, RootError> {
        let rows = self.keys_in_force(now).await?;
        let newest = installed(&rows)?.into_iter().next();
        newest
            .map(|(_, chain)| InstalledAuthority::of(&chain))
            .transpose()
    }

    /// Whether there is what signs in the name of a root now. An upstream of another kind than an
    /// instance of Countersign comes with that.
    pub(crate) async fn can_sign(
        &self,
        generation: Generation,
        now: OffsetDateTime,
    ) -> Result<bool, RootError> {
        if self.places.roots_above().is_none() {
            return Ok(true);
        }
        let rows = self.keys_in_force(now).await?;
        let root = root_row(&rows, generation)?;
        for (_, chain) in installed(&rows)? {
            let authority = InstalledAuthority::of(&chain)?;
            if authority.root == root.certificate && authority.validity.contains(now) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The sealed keys but for authorities that are revoked, here or by the instance above: these
    /// sign nothing more.
    pub(super) async fn keys_in_force(
        &self,
        now: OffsetDateTime,
    ) -> Result<Vec<SealedKeyRow>, StoreError> {
        let mut rows = self.store.sealed_keys_in_force(now).await?;
        if let Some(above) = self.places.roots_above() {
            rows.retain(|row| !is_authority(row) || !above.revokes(&row.key_id));
        }
        Ok(rows)
    }

    fn require_requested(&self) -> Result<(), UpstreamError> {
        match self.places.upstream {
            Some(Upstream::Requested | Upstream::Nested(_)) => Ok(()),
            _ => Err(UpstreamError::NotRequested),
        }
    }

    fn waiting_key(
        &self,
        rows: &[SealedKeyRow],
        in_force: &[SealedKeyRow],
        now: OffsetDateTime,
    ) -> Result<(SigningKey, Option<SealedKeyRow>), RootError> {
        let kek = self.kek_for(rows)?;
        let trust_domain = self.store.trust_domain();
        if let Some(waiting) = in_force.iter().find(|row| is_waiting(row)) {
            return Ok((open_key(waiting, trust_domain, &kek)?, None));
        }
        let authorities = rows.iter().filter(|row| is_authority(row));
        let last = authorities.map(|row| row.version).max();
        let key = SigningKey::generate();
        let unsealed = Unsealed {
            purpose: KeyPurpose::MeshAuthority,
            version: last.unwrap_or(0) + 1,
            secret: &key.to_pkcs8(),
            public_key: key.public_key().spki(),
            certificate: Vec::new(),
        };
        let row = unsealed.seal(trust_domain, &kek, now)?;
        Ok((key, Some(row)))
    }
}

/// The newest authority that was installed, under this root if one is meant; `None` without one.
/// Signs; blocks.
pub(super) fn open(
    rows: &[SealedKeyRow],
    root: Option<&[u8]>,
    (trust_domain, kek): (&TrustDomain, &Kek),
    now: OffsetDateTime,
) -> Result<Option<OpenedUpstream>, RootError> {
    for (row, chain) in installed(rows)? {
        if root.is_none_or(|root| chain.root() == root) {
            let key = open_key(row, trust_domain, kek)?;
            let chain = chain.check(key.clone().into(), trust_domain, now);
            return Ok(Some(OpenedUpstream {
                chain: chain.map_err(UpstreamError::Certificate)?,
                key: key.into(),
                in_token: None,
            }));
        }
    }
    Ok(None)
}

/// Authorities below which nothing is valid any more.
fn ended(rows: &[SealedKeyRow], now: OffsetDateTime) -> Result<Vec<&SealedKeyRow>, RootError> {
    let mut ended = Vec::new();
    for (row, chain) in installed(rows)? {
        if InstalledAuthority::of(&chain)?.validity.not_after() + KEPT_FOR < now {
            ended.push(row);
        }
    }
    Ok(ended)
}

/// The root of the newest authority that was installed.
pub(super) fn offered_root(rows: &[SealedKeyRow]) -> Result<Option<Vec<u8>>, RootError> {
    let newest = installed(rows)?.into_iter().next();
    Ok(newest.map(|(_, chain)| chain.root().to_vec()))
}

/// The newest first.
fn installed(
    rows: &[SealedKeyRow],
) -> Result<Vec<(&SealedKeyRow, UnverifiedIssuingChain)>, RootError> {
    let authorities = rows.iter().filter(|row| is_authority(row));
    let mut installed: Vec<_> = authorities
        .filter(|row| !row.certificate.is_empty())
        .collect();
    installed.sort_by_key(|row| std::cmp::Reverse(row.version));
    let read = installed.into_iter().map(|row| {
        let chain = UnverifiedIssuingChain::from_concatenated_der(&row.certificate);
        Ok((row, chain.map_err(UpstreamError::Certificate)?))
    });
    read.collect()
}

fn open_key(
    row: &SealedKeyRow,
    trust_domain: &TrustDomain,
    kek: &Kek,
) -> Result<SigningKey, RootError> {
    let secret = sealed::open(row, trust_domain, kek)?;
    SigningKey::from_pkcs8(&secret).map_err(RootError::Key)
}

fn is_authority(row: &SealedKeyRow) -> bool {
    row.purpose == KeyPurpose::MeshAuthority
}

/// For a certificate.
fn is_waiting(row: &SealedKeyRow) -> bool {
    is_authority(row) && row.certificate.is_empty()
}
