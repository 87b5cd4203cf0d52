//! Follows what other replicas do to the shared store: revisions that they commit, agents that
//! they forget or hear more of, and what is announced to them.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;

use identity::SpiffeId;
use runtime::{Clock, Shutdown, Supervisor};
use tokio::sync::Notify;

use crate::issue::AdmittedAgents;
use crate::registry::Registry;
use crate::store::{Notice, Notices, Store, StoreError};
use crate::watch::{AnnouncementSharing, EndpointBoard, Hint, Hints, Presence};

/// The background job; only where the store is shared.
#[derive(Debug)]
pub(super) struct Following {
    notices: Notices,
    known: Known,
    /// This one.
    replica: String,
    announcements: Hints,
    sharing: AnnouncementSharing,
}

/// What this replica holds in memory, and where it is read anew.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) store: Store,
    pub(super) registry: Registry,
    pub(super) presence: Presence,
    pub(super) admitted: AdmittedAgents,
    pub(super) lists: Arc<Notify>,
}

impl Following {
    pub(super) fn new(
        notices: Notices,
        known: Known,
        replica: String,
        board: EndpointBoard,
        clock: Clock,
    ) -> Self {
        let store = known.store.clone();
        let (announcements, sharing) =
            AnnouncementSharing::new(replica.clone(), store, clock, board);
        Self {
            notices,
            known,
            replica,
            announcements,
            sharing,
        }
    }

    pub(super) fn spawn(self, supervisor: &mut Supervisor) {
        let Self {
            notices,
            known,
            replica,
            announcements,
            sharing,
        } = self;
        let shutdown = supervisor.shutdown();
        supervisor.spawn("announcements", sharing.run(shutdown.clone()));
        let following = known.follow(notices, replica, announcements, shutdown);
        supervisor.spawn("following", following);
    }
}

impl Known {
    async fn follow(
        self,
        mut notices: Notices,
        own: String,
        announcements: Hints,
        shutdown: Shutdown,
    ) -> Result<(), Infallible> {
        loop {
            let notice = tokio::select! {
                () = shutdown.draining() => return Ok(()),
                notice = notices.next() => notice,
            };
            let reviewed = match notice {
                Notice::Revision(number) => {
                    self.follow_to(number);
                    Ok(())
                }
                Notice::Agent(agent) => self.review(&agent).await,
                Notice::Announced { replica, stamp } => {
                    if replica != own {
                        announcements.give(Hint::Announced { replica, stamp });
                    }
                    Ok(())
                }
                Notice::Told { by, of, stamp } => {
                    if of == own {
                        announcements.give(Hint::Told { by, stamp });
                    }
                    Ok(())
                }
                Notice::Crls => {
                    self.lists.notify_one();
                    Ok(())
                }
                Notice::Anything => {
                    announcements.give(Hint::Anything);
                    self.lists.notify_one();
                    self.review_all().await
                }
                Notice::Time => self.review_all().await,
            };
            if let Err(error) = reviewed {
                tracing::warn!(
                    error = %runtime::exit::one_line(&error),
                    "what other replicas know of agents cannot be read"
                );
            }
        }
    }

    fn follow_to(&self, number: u64) {
        let behind = self.registry.behind().is_some();
        if behind || number > self.registry.snapshot().revision().number {
            self.registry.follow();
        }
    }

    async fn review(&self, agent: &SpiffeId) -> Result<(), StoreError> {
        let as_of = self.admitted.as_of();
        let row = self.store.agent(agent).await?;
        self.admitted.learn(agent, row.as_ref(), &as_of);
        if row.is_none() && self.admitted.contains(agent) {
            self.presence.disconnect(agent);
        }
        Ok(())
    }

    /// What is known here is read first: a replica writes to the store before it remembers. An
    /// agent whose row is being written comes back at its next connection.
    async fn review_all(&self) -> Result<(), StoreError> {
        self.registry.follow();
        let admitted = self.admitted.attested();
        let as_of = self.admitted.as_of();
        let rows = self.store.agents().await?;
        self.admitted.learn_all(&rows, &as_of);
        let agents: HashSet<_> = rows.into_iter().map(|row| row.spiffe_id).collect();
        for agent in admitted.difference(&agents) {
            self.presence.disconnect(agent);
        }
        Ok(())
    }
}
