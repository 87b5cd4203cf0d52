//! Renews this replica's intermediate at half of its life, and at once when another root becomes
//! active, it or what stands above it is revoked, or others took it for lost, while leaves go on
//! being signed. What was issued before keeps its old chain; new leaves chain to the successor.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crypto::random::{Random, SystemRandom};
use identity::renewal_time;
use runtime::{Backoff, Clock, Shutdown};
use tokio::sync::watch;

use super::{Authority, PublishedRoots, RootError, RootKeeper};
use crate::clock_check::{ClockCheck, ClockOff};
use crate::registry::PublishedDenials;

const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_MOST: Duration = Duration::from_secs(60);

/// The background job.
#[derive(Debug)]
pub(crate) struct IntermediateRenewal {
    keeper: RootKeeper,
    authority: Authority,
    roots: watch::Receiver<Arc<PublishedRoots>>,
    denials: watch::Receiver<Arc<PublishedDenials>>,
    clock: Clock,
    clock_check: ClockCheck,
}

/// Why there is no successor yet.
#[derive(Debug, thiserror::Error)]
enum NotRenewed {
    #[error(transparent)]
    Clock(#[from] ClockOff),
    #[error(transparent)]
    Root(#[from] RootError),
}

impl IntermediateRenewal {
    pub(crate) fn new(
        keeper: RootKeeper,
        authority: Authority,
        denials: watch::Receiver<Arc<PublishedDenials>>,
        (clock, clock_check): (Clock, ClockCheck),
    ) -> Self {
        let mut roots = authority.roots.clone();
        // What became of them before this job began is looked at first.
        roots.mark_changed();
        Self {
            keeper,
            authority,
            roots,
            denials,
            clock,
            clock_check,
        }
    }

    /// Renews until the shutdown begins. A failure is retried: leaves get shorter as the
    /// intermediate nears its end, and signing stops there.
    pub(crate) async fn run(mut self, shutdown: Shutdown) -> Result<(), Infallible> {
        let mut issued_at = self.clock.now();
        let mut sequence = self.authority.roots().sequence();
        loop {
            let validity = self.authority.intermediate().validity();
            let due = renewal_time(&validity, issued_at, &mut SystemRandom);
            let is_due = tokio::select! {
                () = shutdown.draining() => return Ok(()),
                () = self.clock.sleep_until(due) => true,
                () = self.authority.successor_wanted.notified() => true,
                Ok(()) = self.roots.changed() => false,
                Ok(()) = self.denials.changed() => false,
            };
            let revoked = self.is_revoked();
            let roots = Arc::clone(&self.roots.borrow_and_update());
            let active = roots.active().map(|(generation, _)| generation);
            let other_root = active.is_some_and(|it| it != self.authority.intermediate().root());
            if is_due || other_root || revoked {
                if !self.renew_until_done(&shutdown).await {
                    return Ok(());
                }
                issued_at = self.clock.now();
            }
            let now = self.authority.roots().sequence();
            if other_root || revoked || now != sequence {
                sequence = now;
                self.authority.announce_change();
            }
        }
    }

    /// Whether everybody refuses what this replica signs.
    fn is_revoked(&mut self) -> bool {
        let denials = self.denials.borrow_and_update();
        let intermediate = self.authority.intermediate();
        intermediate.is_refused_by(denials.list())
    }

    /// `false`: the shutdown began first.
    async fn renew_until_done(&mut self, shutdown: &Shutdown) -> bool {
        let mut retry =
            Backoff::try_new(RETRY_FIRST, RETRY_MOST, 0.2).expect("the constants are in order");
        while let Err(error) = self.renew().await {
            let pause = retry.next(SystemRandom.unit());
            tracing::error!(
                error = %runtime::exit::one_line(&error),
                ends = %self.authority.intermediate().validity().not_after(),
                "the intermediate was not renewed"
            );
            tokio::select! {
                () = shutdown.draining() => return false,
                // There is something to sign with again.
                () = self.authority.successor_wanted.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        true
    }

    /// Always under the root that is active then.
    async fn renew(&mut self) -> Result<(), NotRenewed> {
        self.clock_check.require()?;
        let roots = Arc::clone(&self.roots.borrow_and_update());
        let successor = self
            .keeper
            .sign_intermediate(&roots, self.clock.now())
            .await?;
        tracing::info!(
            key_id = successor.key_id(),
            root = %successor.root(),
            ends = %successor.validity().not_after(),
            "the intermediate was renewed"
        );
        self.authority.replace_intermediate(successor);
        Ok(())
    }
}
