//! Wires what goes on while PostgreSQL is away, where the replica has a spool: renewals, and
//! revocations.

use runtime::Supervisor;

use super::foundation::{Foundation, Parts};
use super::start::StartError;
use crate::admin::HeldCredentials;
use crate::api::WithoutStore;
use crate::issue::Recorder;
use crate::metrics::Metrics;
use crate::revocation::{Obeying, RevocationSpool};
use crate::spool::{self, Spool, StoreStanding};

impl Foundation {
    /// With what an earlier process has left in the spool shipped.
    pub(super) async fn recorder(
        &self,
        metrics: Metrics,
        supervisor: &mut Supervisor,
    ) -> Result<(Recorder, StoreStanding, Metrics), StartError> {
        let standing = StoreStanding::default();
        let spool = match &self.config.spool {
            Some(config) => {
                let file = spool::open(config, &self.store).await?;
                let (standing, metrics) = (standing.clone(), metrics.clone());
                let clock = self.clock.clone();
                Some(Spool::new(file, config.max_age, standing, metrics, clock))
            }
            None => None,
        };
        let room = self.config.limits.record_queue;
        let spooling = (spool, standing.clone());
        let (recorder, writer) = Recorder::new(self.store.clone(), room, metrics.clone(), spooling);
        supervisor.spawn("records", writer.run(self.shutdown.clone()));
        Ok((recorder, standing, metrics))
    }

    /// With what an earlier process has left obeyed again.
    pub(super) async fn without_store(
        &self,
        parts: &Parts,
        supervisor: &mut Supervisor,
    ) -> Result<Option<WithoutStore>, StartError> {
        let Some(config) = &self.config.spool else {
            return Ok(None);
        };
        let obeying = Obeying {
            directory: parts.directory.clone(),
            presence: parts.presence.clone(),
            store: self.store.clone(),
            replica: self.config.replica.to_string(),
            clock: self.clock.clone(),
            metrics: parts.metrics.clone(),
        };
        let (revocations, shipping) = RevocationSpool::open(config, obeying).await?;
        supervisor.spawn("spooled-revocations", shipping.run(self.shutdown.clone()));
        let credentials = HeldCredentials::read(&self.store, config.max_age).await?;
        let reading = credentials.clone();
        let reading = reading.run(self.store.clone(), self.shutdown.clone());
        supervisor.spawn("held-credentials", reading);
        Ok(Some(WithoutStore {
            credentials,
            revocations,
            standing: parts.standing.clone(),
        }))
    }
}
