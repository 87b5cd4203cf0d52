//! Renews this replica's intermediate at half of its life, while leaves go on being signed. What
//! was issued before keeps its old chain; new leaves chain to the successor.

use std::convert::Infallible;
use std::time::Duration;

use crypto::random::{Random, SystemRandom};
use identity::renewal_time;
use runtime::{Backoff, Clock, Shutdown};

use super::{Authority, RootKeeper};

const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(60);

/// The background job.
#[derive(Debug)]
pub(crate) struct IntermediateRenewal {
    keeper: RootKeeper,
    authority: Authority,
    clock: Clock,
}

impl IntermediateRenewal {
    pub(crate) fn new(keeper: RootKeeper, authority: Authority, clock: Clock) -> Self {
        Self {
            keeper,
            authority,
            clock,
        }
    }

    /// Renews until the shutdown begins. A failure is retried: leaves get shorter as the
    /// intermediate nears its end, and signing stops there.
    pub(crate) async fn run(self, shutdown: Shutdown) -> Result<(), Infallible> {
        let mut retry =
            Backoff::try_new(RETRY_FIRST, RETRY_MOST, 0.2).expect("the constants are in order");
        let mut issued_at = self.clock.now();
        loop {
            let validity = self.authority.intermediate().validity();
            let due = renewal_time(&validity, issued_at, &mut SystemRandom);
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                () = self.clock.sleep_until(due) => {}
            }
            while let Err(error) = self.renew() {
                let pause = retry.next(SystemRandom.unit());
                tracing::error!(
                    error = %runtime::exit::one_line(&error),
                    ends = %validity.not_after(),
                    "the intermediate was not renewed"
                );
                tokio::select! {
                    () = shutdown.draining() => return Ok(()),
                    () = tokio::time::sleep(pause) => {}
                }
            }
            retry.reset();
            issued_at = self.clock.now();
        }
    }

    fn renew(&self) -> Result<(), super::RootError> {
        let successor = self.keeper.sign_intermediate(self.clock.now())?;
        tracing::info!(
            key_id = successor.key_id(),
            ends = %successor.validity().not_after(),
            "the intermediate was renewed"
        );
        self.authority.replace_intermediate(successor);
        Ok(())
    }
}
