//! The roots, whoever's they are: opened before anything is served, and looked after from then on.

use std::time::Duration;

use runtime::{Clock, Supervisor};

use super::start::StartError;
use crate::authority::{Authority, IntermediateRenewal, KeyPlaces, RootKeeper};
use crate::clock_check::ClockCheck;
use crate::config::{Config, UpstreamConfig};
use crate::nesting::{Nesting, NestingKeeper};
use crate::registry::Registry;
use crate::rotation::{Rotation, RotationKeeper, Times};
use crate::store::Store;

/// Opens the roots, or makes the first; has what signs in their name from the instance above, if
/// there is one and nothing is there yet.
pub(super) async fn open(
    config: &Config,
    store: &Store,
    places: KeyPlaces,
    clock: &Clock,
) -> Result<(RootKeeper, Option<Nesting>), StartError> {
    let nesting = nesting(config, store, &places, clock);
    if let Some(nesting) = &nesting {
        nesting.ask_for_first_root(store).await?;
    }
    let (replica, lifetimes) = (config.replica.as_str(), config.lifetimes);
    let keeper = RootKeeper::open_or_make(store, replica, places, lifetimes, clock.now()).await?;
    if let Some(nesting) = &nesting {
        nesting.ask_for_first_authority(store, clock.now()).await?;
    }
    Ok((keeper, nesting))
}

/// Renews the intermediate, drives the life of the roots, and follows the instance above.
pub(super) fn look_after(
    (config, store): (&Config, &Store),
    (registry, authority): (&Registry, &Authority),
    (keeper, nesting): (RootKeeper, Option<Nesting>),
    clocks: (Clock, ClockCheck),
    supervisor: &mut Supervisor,
) -> Rotation {
    let shutdown = supervisor.shutdown();
    let (clock, clock_check) = clocks.clone();
    let (signing, denials) = (authority.clone(), registry.denials());
    let renewal = IntermediateRenewal::new(keeper.clone(), signing, denials, clocks.clone());
    supervisor.spawn("intermediate", renewal.run(shutdown.clone()));
    let spool = config.spool.as_ref();
    let times = Times {
        lifetimes: config.lifetimes,
        refresh_hint: config.bundle.refresh_hint,
        spooled_for: spool.map_or(Duration::ZERO, |spool| spool.max_age),
    };
    let rotation = Rotation::new(registry.clone(), store.clone(), keeper, times, clock);
    let rotating = RotationKeeper::new(rotation.clone(), clock_check);
    supervisor.spawn("rotation", rotating.run(shutdown.clone()));
    if let Some(nesting) = nesting {
        let driven = (rotation.clone(), registry.clone(), authority.clone());
        let nested = NestingKeeper::new(nesting, driven, clocks, config.bundle.refresh_hint);
        supervisor.spawn("nesting", nested.run(shutdown));
    }
    rotation
}

/// The way to the instance above, if the configuration names one.
fn nesting(config: &Config, store: &Store, places: &KeyPlaces, clock: &Clock) -> Option<Nesting> {
    let Some(UpstreamConfig::Countersign(above)) = &config.upstream else {
        return None;
    };
    let offered = places.roots_above()?.clone();
    let replica = config.replica.as_str();
    let keeper = RootKeeper::new(store, replica, places.clone(), config.lifetimes);
    let trust_domain = config.trust_domain.clone();
    let nesting = Nesting::new(above, (offered, keeper), trust_domain, clock.clone());
    Some(nesting)
}
