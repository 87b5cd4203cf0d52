//! One instance of Countersign below another, in one trust domain: the roots are those of the
//! instance above, and what signs the intermediates here is an authority that it has signed.
//!
//! Invariant: nothing here needs the instance above but for a successor of that authority, for a root
//! that comes or goes, or for an authority that is revoked; without it everything goes on as it was,
//! until the authority ends.

mod client;
mod credential;
mod followed;
mod keeper;
mod revoked;
pub(crate) mod wire;

use std::sync::Arc;

use arc_swap::ArcSwap;
use data_encoding::BASE64;
use identity::TrustDomain;
use identity::x509::{IssuingChainError, UnverifiedIssuingChain};
use runtime::Clock;
use time::OffsetDateTime;

use self::client::InstanceAbove;
use self::wire::AuthorityRequest;
use crate::authority::{PublishedRoots, RootError, RootKeeper, RootsAbove};
use crate::config::UpstreamCountersign;
use crate::registry::RevokeError;
use crate::rotation::RotationError;
use crate::store::{KeyPurpose, Store, StoreError};

pub use self::client::AboveError;
pub use self::credential::CredentialError;
pub use self::followed::BundleAboveError;
pub(crate) use self::keeper::NestingKeeper;

/// The way to the instance above. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Nesting {
    above: InstanceAbove,
    /// Where the authority finds what the instance above offers.
    offered: RootsAbove,
    keeper: RootKeeper,
    standing: NestingStanding,
}

/// How it goes with the instance above. Cheap to clone; all clones tell the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct NestingStanding(Arc<ArcSwap<Heard>>);

#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    /// When it answered last; not since this process started, if absent.
    pub(crate) at: Option<OffsetDateTime>,
    /// Why it has not answered since, or why its answer was of no use.
    pub(crate) failure: Option<String>,
}

/// Why this instance does not stand below another.
#[derive(Debug, thiserror::Error)]
pub enum NestingError {
    #[error(transparent)]
    Above(#[from] AboveError),
    #[error("the bundle of the instance above is not followed")]
    Bundle(#[from] BundleAboveError),
    #[error("certificate {0} of the authority that the instance above has signed is not base64")]
    Encoding(usize),
    #[error("the authority that the instance above has signed is refused")]
    Chain(#[source] IssuingChainError),
    #[error(transparent)]
    Root(#[from] RootError),
    #[error("the roots are not looked after")]
    Rotation(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("what the instance above has revoked is not refused here")]
    Revoke(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Nesting {
    pub(crate) fn new(
        config: &UpstreamCountersign,
        (offered, keeper): (RootsAbove, RootKeeper),
        trust_domain: TrustDomain,
        clock: Clock,
    ) -> Self {
        Self {
            above: InstanceAbove {
                credential_file: config.credential_file.clone(),
                trust_domain,
                clock,
            },
            offered,
            keeper,
            standing: NestingStanding::default(),
        }
    }

    pub(crate) fn standing(&self) -> &NestingStanding {
        &self.standing
    }

    /// Before the first root is there: asks which one to have.
    pub(crate) async fn ask_for_first_root(&self, store: &Store) -> Result<(), NestingError> {
        if store.authority_state(KeyPurpose::X509Root).await?.is_none() {
            let bundle = self
                .above
                .bundle(&PublishedRoots::none(store.trust_domain()))
                .await?;
            let roots = bundle.check(&self.above.trust_domain)?;
            self.offered.tell(roots.as_told());
        }
        Ok(())
    }

    /// Before the first intermediate: has an authority signed, unless there is one that is of use.
    pub(crate) async fn ask_for_first_authority(
        &self,
        store: &Store,
        now: OffsetDateTime,
    ) -> Result<(), NestingError> {
        let roots = PublishedRoots::read(store).await?;
        match roots.active() {
            Some((generation, _)) if !self.keeper.can_sign(generation, now).await? => {
                self.ask_for_authority(&roots, now).await
            }
            _ => Ok(()),
        }
    }

    /// Has an authority signed for a new key, or for one that still waits. Of replicas that ask at
    /// once all get the same.
    async fn ask_for_authority(
        &self,
        roots: &PublishedRoots,
        now: OffsetDateTime,
    ) -> Result<(), NestingError> {
        let request = match self.keeper.request(now).await {
            // Another replica has made a key at once, which waits now.
            Err(RootError::Moved) => self.keeper.request(now).await,
            request => request,
        };
        let csr = BASE64.encode(&request?);
        let signed = self
            .above
            .authority(&AuthorityRequest { csr }, roots)
            .await?;
        let decoded = signed.certificates.iter().enumerate().map(|(index, text)| {
            let der = BASE64.decode(text.as_bytes());
            der.map_err(|_| NestingError::Encoding(index))
        });
        let der: Vec<Vec<u8>> = decoded.collect::<Result<_, _>>()?;
        let chain = UnverifiedIssuingChain::from_concatenated_der(&der.concat());
        let chain = chain.map_err(NestingError::Chain)?;
        if self.keeper.install_once(chain, now).await? {
            tracing::info!("the instance above has signed an authority for this one");
        }
        Ok(())
    }
}

impl NestingStanding {
    pub(crate) fn heard(&self) -> Arc<Heard> {
        self.0.load_full()
    }

    fn note_answer(&self, at: OffsetDateTime) {
        self.0.store(Arc::new(Heard {
            at: Some(at),
            failure: None,
        }));
    }

    fn note_failure(&self, failure: String) {
        let at = self.heard().at;
        self.0.store(Arc::new(Heard {
            at,
            failure: Some(failure),
        }));
    }
}

impl From<RevokeError> for NestingError {
    fn from(error: RevokeError) -> Self {
        Self::Revoke(error.into())
    }
}

impl From<RotationError> for NestingError {
    fn from(error: RotationError) -> Self {
        Self::Rotation(error.into())
    }
}
