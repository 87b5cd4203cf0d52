//! This replica's own SVID, with which both listeners answer: issued and recorded like any other,
//! renewed at half of its life and when the
//! authorities change, with a new key, verified before it is published.

use std::convert::Infallible;
use std::time::Duration;

use crypto::random::{Random, SystemRandom};
use crypto::signing::SigningKey;
use identity::renewal_time;
use identity::x509::{ChainError, KeyMismatch, SvidError, UnverifiedChain, X509Svid};
use identity::{SpiffeId, Validity};
use mtls::{PublishError, Publisher};
use runtime::{Backoff, Clock, Shutdown};

use super::authorize::Authorized;
use super::refusal::IssueError;
use super::sign::Issuer;
use crate::authority::Authority;

const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MOST: Duration = Duration::from_secs(30);

/// Keeps the replica's SVID alive.
#[derive(Debug)]
pub(crate) struct ServingRenewal {
    id: SpiffeId,
    issuer: Issuer,
    authority: Authority,
    publisher: Publisher,
    clock: Clock,
}

/// Why the replica has no SVID to serve with.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    #[error("the CA's own certificate was not issued")]
    Issue(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the CA's own certificate cannot be used")]
    Chain(#[from] ChainError),
    #[error("the CA's own certificate does not verify")]
    Svid(#[from] SvidError),
    #[error("the CA's own certificate is of another key")]
    Key(#[from] KeyMismatch),
    #[error("the CA's own certificate was not published")]
    Publish(#[from] PublishError),
}

impl From<IssueError> for ServingError {
    fn from(error: IssueError) -> Self {
        Self::Issue(error.into())
    }
}

impl ServingRenewal {
    pub(crate) fn new(
        id: SpiffeId,
        issuer: Issuer,
        authority: Authority,
        publisher: Publisher,
        clock: Clock,
    ) -> Self {
        Self {
            id,
            issuer,
            authority,
            publisher,
            clock,
        }
    }

    /// Issues, verifies and publishes one SVID.
    pub(crate) async fn renew(&self) -> Result<Validity, ServingError> {
        let key = SigningKey::generate();
        let authorized = Authorized::own_of_replica(self.id.clone(), *key.public_key());
        let chain = self.issuer.issue_one(authorized).await?.into_chain();
        let roots = self.authority.roots();
        let verified =
            UnverifiedChain::from_der(chain)?.verify(roots.bundles(), self.clock.now())?;
        let validity = *verified.validity();
        let svid = X509Svid::try_new(verified, key)?;
        self.publisher.publish(svid, roots.bundles().clone())?;
        Ok(validity)
    }

    /// Renews until the shutdown begins, beginning with the SVID of this validity.
    pub(crate) async fn run(
        self,
        mut validity: Validity,
        shutdown: Shutdown,
    ) -> Result<(), Infallible> {
        let mut retry =
            Backoff::try_new(RETRY_FIRST, RETRY_MOST, 0.2).expect("the constants are in order");
        let mut due = renewal_time(&validity, self.clock.now(), &mut SystemRandom);
        let mut changes = self.authority.changes();
        loop {
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                () = self.clock.sleep_until(due) => {}
                Ok(()) = changes.changed() => {}
            }
            match self.renew().await {
                Ok(renewed) => {
                    validity = renewed;
                    retry.reset();
                    due = renewal_time(&validity, self.clock.now(), &mut SystemRandom);
                }
                Err(error) => {
                    tracing::error!(
                        error = %runtime::exit::one_line(&error),
                        ends = %validity.not_after(),
                        "the CA's own certificate was not renewed"
                    );
                    due = self.clock.now() + retry.next(SystemRandom.unit());
                }
            }
        }
    }
}
