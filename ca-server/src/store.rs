//! What the CA remembers: keys (sealed), configuration and its history, join tokens, agents,
//! issuance records, admin credentials.
//!
//! Invariant: a method that returns `Ok` after a write has made it durable. The store refuses to
//! open for another mesh, for a schema that this build cannot read, and twice at once.

mod admin;
mod agents;
mod announcements;
mod authorities;
mod bans;
mod bundle_updates;
mod cidr;
mod configuration;
mod crls;
mod database;
mod downstreams;
mod epoch;
mod error;
mod horizon;
mod in_force;
mod issuance;
mod issuers_tokens;
mod join_tokens;
mod keys;
mod log;
mod mesh;
mod notices;
mod places;
mod replicas;
mod retention;
mod revocations;
mod staged;
#[cfg(test)]
pub(crate) mod tests;
mod unlogged;
mod write;

use std::sync::Arc;

use crypto::digest::HashKey;
use database::Database;
use identity::{IdTemplate, TrustDomain};
use mesh::Mesh;
use time::OffsetDateTime;

pub use crate::config::StorePlace;
pub use admin::{AdminCredential, AdminCredentialRow};
pub use agents::AgentRow;
pub use announcements::{AnnouncedChange, AnnouncedRow};
pub use authorities::{
    AuthorityState, AuthorityStep, AuthorityStepError, IntermediateRow, LiveAgent,
};
pub use bans::{AgentBan, LiveSvids};
pub use bundle_updates::BundleUpdateRow;
pub use cidr::{Cidr, CidrError};
pub use configuration::{Authorship, CommitError, RevisionRow};
pub use crls::{CrlRow, RevokedRow};
pub use downstreams::{Downstream, DownstreamAuthorityRow, DownstreamRow};
pub use error::{OpenError, StoreError};
pub use horizon::{LatestSvid, ReplicaEnd};
pub use in_force::{InForce, InForceError};
pub use issuance::{IssuedFilter, IssuedRow};
pub use issuers_tokens::ShownToken;
pub use join_tokens::{JoinTokenRow, JoinTokenState, NewJoinToken, RedeemError, Redeemed};
pub use keys::{KeyPurpose, SealedKeyRow};
pub use log::{
    AuthorityCertificate, LogBundle, LogRun, LogState, LogStep, LogStepError, LoggedAuthority,
    PendingAuthority, PendingLeaves, PendingRecord, Settling,
};
pub use notices::{NameError, Notice, Notices};
pub use places::Place;
pub use replicas::{Duty, Lease, OtherReplica};
pub use revocations::{
    NewRevocation, Revocation, RevocationChange, RevocationChanged, RevocationError,
    RevocationSubject, SubjectError,
};
pub use staged::{Changes, Expected, Precondition, StageError, Staged};
pub use unlogged::{SeenLeaf, UnloggedLeaf};

/// Where the store is, and the mesh it must be of.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    pub place: StorePlace,
    pub trust_domain: TrustDomain,
    pub id_template: IdTemplate,
}

/// A cheap handle on the one store of a mesh.
#[derive(Clone, Debug)]
pub struct Store {
    database: Arc<Database>,
    mesh: Arc<Mesh>,
}

impl Store {
    /// Opens the store, making it when there is none.
    ///
    /// # Errors
    /// Another CA has its file open, it is of another mesh, its schema needs a newer build, or the
    /// database cannot be used; nothing in it has changed then.
    pub async fn open(config: &StoreConfig, now: OffsetDateTime) -> Result<Self, OpenError> {
        let database = Database::open(&config.place).await?;
        let unreadable = |source| OpenError::mesh(&config.place, source);
        let mesh = Mesh::read_or_insert(&database, config, now)
            .await
            .map_err(unreadable)?;
        mesh.require_same(config)?;
        places::give_missing(&database).await.map_err(unreadable)?;
        Ok(Self {
            database: Arc::new(database),
            mesh: Arc::new(mesh),
        })
    }

    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.mesh.trust_domain
    }

    #[must_use]
    pub fn id_template(&self) -> &IdTemplate {
        &self.mesh.id_template
    }

    /// Keys the hash that decision ids are made of; the same in the whole mesh.
    #[must_use]
    pub fn decision_key(&self) -> &HashKey {
        &self.mesh.decision_key
    }

    /// What `/v1/about` calls it.
    #[must_use]
    pub fn backend_name(&self) -> &'static str {
        self.database.name()
    }

    /// Waits for running statements and lets go of the lock.
    pub async fn close(&self) {
        self.database.close().await;
    }
}
