//! What a replica does without being asked: it looks after records, log, revocations and bundles,
//! and watches what ends.

use std::time::Duration;

use runtime::Supervisor;

use super::{Foundation, Parts};
use crate::app::jobs;
use crate::clock_check::ClockKeeper;
use crate::grpc::Desks;
use crate::horizon::{HorizonKeeper, Horizons};
use crate::log::{Sequencer, Sightings, Witness};
use crate::revocation::RevocationKeeper;
use crate::watch::{BundleKeeper, EnforcementKeeper};

impl Foundation {
    /// What proxies see is held against what was recorded.
    pub(super) fn sightings(&self, parts: &Parts, supervisor: &mut Supervisor) -> Sightings {
        let (store, clock) = (self.store.clone(), self.clock.clone());
        let spool = self.config.spool.as_ref();
        let spooled_for = spool.map_or(Duration::ZERO, |spool| spool.max_age);
        let of_whom = (spooled_for, self.nesting.is_some());
        let (sightings, witness) = Witness::new(store, clock, parts.metrics.clone(), of_whom);
        supervisor.spawn("witness", witness.run(self.shutdown.clone()));
        sightings
    }

    pub(super) fn spawn_jobs(&self, parts: &Parts, desks: &Desks, supervisor: &mut Supervisor) {
        let enforcement = EnforcementKeeper::new(
            self.config.replica.to_string(),
            parts.presence.clone(),
            self.registry.clone(),
            self.store.clone(),
            self.clock.clone(),
            parts.metrics.clone(),
        );
        supervisor.spawn("enforcement", enforcement.run(self.shutdown.clone()));
        self.spawn_vitals(parts, supervisor);
        let (registry, store) = (self.registry.clone(), self.store.clone());
        let revocation = RevocationKeeper::new(registry, store, self.clock.clone());
        supervisor.spawn("revocation", revocation.run(self.shutdown.clone()));
        let bundles = BundleKeeper::new(
            parts.presence.clone(),
            self.registry.clone(),
            self.store.clone(),
            self.rotation.clone(),
        );
        supervisor.spawn(
            "bundle-acknowledgements",
            bundles.run(self.shutdown.clone()),
        );
        let recovery = self.recovery.clone();
        supervisor.spawn("recovery", recovery.run(self.shutdown.clone()));
        let sequencer = Sequencer::new(
            self.store.clone(),
            self.config.replica.to_string(),
            self.log_signer.clone(),
            self.clock.clone(),
            parts.metrics.clone(),
        );
        supervisor.spawn("log", sequencer.run(self.shutdown.clone()));
        supervisor.spawn(
            "limits",
            jobs::forget_quiet(desks.clone(), self.shutdown.clone()),
        );
        supervisor.spawn(
            "records-pruning",
            jobs::prune_records(
                self.config.replica.to_string(),
                self.store.clone(),
                self.clock.clone(),
                self.shutdown.clone(),
            ),
        );
    }

    pub(super) fn horizons(&self, parts: &Parts) -> Horizons {
        Horizons {
            store: self.store.clone(),
            directory: parts.directory.clone(),
            authority: self.authority.clone(),
            admitted: parts.admitted.clone(),
            presence: parts.presence.clone(),
            lifetimes: self.config.lifetimes,
            clock: self.clock.clone(),
            replica: self.config.replica.to_string(),
        }
    }

    fn spawn_vitals(&self, parts: &Parts, supervisor: &mut Supervisor) {
        let horizon = HorizonKeeper {
            horizons: self.horizons(parts),
            metrics: parts.metrics.clone(),
        };
        supervisor.spawn("horizon", horizon.run(self.shutdown.clone()));
        if self.store.is_shared() {
            let clocks = ClockKeeper {
                check: self.clock_check.clone(),
                store: self.store.clone(),
                clock: self.clock.clone(),
                replica: self.config.replica.to_string(),
                metrics: parts.metrics.clone(),
            };
            supervisor.spawn("clock-check", clocks.run(self.shutdown.clone()));
        }
    }
}
