//! The REST interface of people and pipelines.
//!
//! Invariant: every operation but the public ones runs behind the credential check, and every
//! operation served is in `/openapi.json`, since both are made from one registration. Errors are
//! `application/problem+json` (RFC 9457) and hold no secret.

mod about;
mod agents;
mod auth;
mod authorities;
mod body;
mod bundle;
mod changesets;
mod collections;
mod documented;
mod downstreams;
mod elsewhere;
mod explain;
mod guard;
mod health;
mod horizon;
mod join_tokens;
mod log;
mod nesting;
mod objects;
mod openapi;
mod preconditions;
mod problem;
mod query;
mod revisions;
mod revocations;
mod roots;
mod schema;
mod store;
mod svids;
#[cfg(test)]
mod tests;

mod timestamp;

use std::time::Duration;

use axum::Router;
use identity::join_token::CaAddress;
use runtime::Clock;
use tlog::VerifierKey;

use crate::admin::HeldCredentials;
use crate::authority::RootKeeper;
use crate::horizon::Vitals;
use crate::nesting::NestingStanding;
use crate::recovery::Recovery;
use crate::registry::Registry;
use crate::revocation::RevocationSpool;
use crate::rotation::Rotation;
use crate::spool::StoreStanding;
use crate::store::Store;
use crate::watch::Presence;
use auth::{Administrators, InstancesBelow};
use documented::Documented;
use elsewhere::Elsewhere;

/// What the interface is made of; only this module sees all of it.
#[derive(Clone, Debug)]
pub(crate) struct ApiParts {
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) presence: Presence,
    pub(crate) rotation: Rotation,
    /// Signs for instances below this one.
    pub(crate) keeper: RootKeeper,
    /// How it goes with the instance above, if there is one.
    pub(crate) nesting: Option<NestingStanding>,
    pub(crate) recovery: Recovery,
    pub(crate) vitals: Vitals,
    /// What checkpoints of the transparency log are verified by.
    pub(crate) log_key: VerifierKey,
    pub(crate) clock: Clock,
    /// How often those who use the bundle should look again.
    pub(crate) refresh_hint: Duration,
    /// Where agents reach the CA; written into join tokens.
    pub(crate) addresses: Vec<CaAddress>,
    /// Name of this replica.
    pub(crate) replica: String,
    /// `None` where nothing is done while the store is away.
    pub(crate) without_store: Option<WithoutStore>,
}

/// What revoking needs while the store is away.
#[derive(Clone, Debug)]
pub(crate) struct WithoutStore {
    pub(crate) credentials: HeldCredentials,
    pub(crate) revocations: RevocationSpool,
    pub(crate) standing: StoreStanding,
}

impl ApiParts {
    fn elsewhere(&self) -> Elsewhere {
        Elsewhere {
            store: self.store.clone(),
            replica: self.replica.clone(),
            clock: self.clock.clone(),
        }
    }
}

/// The whole interface.
pub(crate) fn router(parts: &ApiParts) -> Router {
    let (public, guarded) = operations(parts);
    let below = nesting::operations(nests(parts));
    let document = openapi::document(&[&public, &guarded, &below]);
    let administrators = Administrators {
        store: parts.store.clone(),
        clock: parts.clock.clone(),
        without_store: parts.without_store.clone(),
    };
    let guarded = roots::tell(guarded.into_router(), parts.registry.clone());
    let instances = InstancesBelow {
        store: parts.store.clone(),
        clock: parts.clock.clone(),
    };
    let router = auth::require_administrator(guarded, administrators)
        .merge(auth::require_downstream(below.into_router(), instances))
        .merge(public.into_router())
        .merge(document.into_router())
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::method_not_allowed);
    guard::protect(router)
}

fn operations(parts: &ApiParts) -> (Documented, Documented) {
    let ApiParts {
        store,
        registry,
        presence,
        clock,
        addresses,
        replica,
        ..
    } = parts;
    let elsewhere = parts.elsewhere();
    let writable = objects::Objects::new(registry.clone(), presence.clone(), elsewhere.clone());
    let public = public_operations(parts);
    let guarded = Documented::new()
        .merge(collections::operations(&writable))
        .merge(changesets::operations(writable.clone()))
        .merge(revisions::operations(revisions::Revisions {
            store: store.clone(),
            presence: presence.clone(),
            elsewhere,
        }))
        .merge(join_tokens::operations(join_tokens::JoinTokens {
            objects: writable,
            store: store.clone(),
            clock: clock.clone(),
            addresses: addresses.clone(),
        }))
        .merge(agents_and_revocations(parts))
        .merge(signed(parts))
        .merge(store::operations(store::Stores {
            store: store.clone(),
            registry: registry.clone(),
            clock: clock.clone(),
        }))
        .merge(explain::operations(registry.clone()))
        .merge(about::operations(about::Mesh {
            store: store.clone(),
            registry: registry.clone(),
            replica: replica.clone(),
        }));
    (public, guarded)
}

/// What instances below this one ask for.
fn nests(parts: &ApiParts) -> nesting::Nests {
    nesting::Nests {
        keeper: parts.keeper.clone(),
        rotation: parts.rotation.clone(),
        registry: parts.registry.clone(),
        store: parts.store.clone(),
        clock: parts.clock.clone(),
        clock_check: parts.vitals.clock_check.clone(),
    }
}

/// What signs, what it has signed, and when that ends.
fn signed(parts: &ApiParts) -> Documented {
    Documented::new()
        .merge(authorities::operations(authorities::Authorities {
            rotation: parts.rotation.clone(),
            recovery: parts.recovery.clone(),
            nesting: parts.nesting.clone(),
            registry: parts.registry.clone(),
            store: parts.store.clone(),
            clock: parts.clock.clone(),
        }))
        .merge(downstreams::operations(downstreams::Downstreams {
            store: parts.store.clone(),
            registry: parts.registry.clone(),
            rotation: parts.rotation.clone(),
            clock: parts.clock.clone(),
        }))
        .merge(horizon::operations(parts.vitals.clone()))
        .merge(svids::operations(parts.store.clone()))
        .merge(log::operations(log::Logs {
            store: parts.store.clone(),
            key: parts.log_key.clone(),
        }))
}

fn public_operations(parts: &ApiParts) -> Documented {
    Documented::new()
        .merge(health::operations(health::Checks {
            store: parts.store.clone(),
            vitals: parts.vitals.clone(),
            clock: parts.clock.clone(),
        }))
        .merge(bundle::operations(bundle::Bundles {
            registry: parts.registry.clone(),
            refresh_hint: parts.refresh_hint,
        }))
}

/// A ban is a revocation.
fn agents_and_revocations(parts: &ApiParts) -> Documented {
    let revocations = revocations::Revocations {
        store: parts.store.clone(),
        registry: parts.registry.clone(),
        presence: parts.presence.clone(),
        elsewhere: parts.elsewhere(),
        clock: parts.clock.clone(),
        without_store: parts.without_store.clone(),
    };
    Documented::new()
        .merge(agents::operations(agents::Agents {
            store: parts.store.clone(),
            directory: parts.vitals.horizons.directory.clone(),
            presence: parts.presence.clone(),
            clock: parts.clock.clone(),
            revocations: revocations.clone(),
        }))
        .merge(revocations::operations(revocations))
}
