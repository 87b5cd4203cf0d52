//! What the replicas of a mesh tell one another through PostgreSQL: that a revision was committed,
//! and that an agent was forgotten or banned.
//!
//! Invariant: a notice is a hint to look, never the news itself. Whenever one may have been lost (the
//! connection was, or nothing came for a while) the listener is told to look at everything, after
//! it listens again, so that nothing falls between.

use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use identity::SpiffeId;
use sqlx::postgres::{PgListener, PgNotification};
use tokio::time::{sleep, timeout};

use super::Store;
use super::database::{Database, PostgresDatabase};

const REVISION: &str = "countersign_revision";
const AGENT: &str = "countersign_agent";
/// Also the longest that a change by another replica stays unseen.
const LOOK_EVERY: Duration = Duration::from_secs(15);
const CONNECT_EVERY: Duration = Duration::from_secs(1);

/// Why to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A revision with this number was committed, perhaps by this very replica.
    Revision(u64),
    /// An agent was forgotten, or a ban of it came or went, perhaps by this very replica.
    Agent(SpiffeId),
    /// Notices may have been lost.
    Anything,
}

/// Listens for as long as it lives.
pub struct Notices {
    store: Store,
    stream: Option<BoxStream<'static, PgNotification>>,
}

impl Store {
    /// What others than this process do to the store. `None` where there are none: in a file.
    #[must_use]
    pub fn notices(&self) -> Option<Notices> {
        self.postgres()?;
        Some(Notices {
            store: self.clone(),
            stream: None,
        })
    }

    fn postgres(&self) -> Option<&PostgresDatabase> {
        match &*self.database {
            Database::Sqlite(_) => None,
            Database::Postgres(postgres) => Some(postgres),
        }
    }
}

impl Notices {
    /// The next one; the first says that anything may have happened. Ends never: without a server
    /// it tries again.
    pub async fn next(&mut self) -> Notice {
        loop {
            let Some(stream) = &mut self.stream else {
                self.listen().await;
                return Notice::Anything;
            };
            match timeout(LOOK_EVERY, stream.next()).await {
                Ok(Some(notification)) => {
                    if let Some(notice) = Notice::of(&notification) {
                        return notice;
                    }
                }
                Ok(None) => self.stream = None,
                Err(_) => return Notice::Anything,
            }
        }
    }

    async fn listen(&mut self) {
        let Some(postgres) = self.store.postgres() else {
            return std::future::pending().await;
        };
        let mut complained = false;
        loop {
            match postgres.listen(&[REVISION, AGENT]).await {
                Ok(listener) => {
                    self.stream = Some(until_lost(listener));
                    return;
                }
                Err(error) if !complained => {
                    complained = true;
                    tracing::warn!(
                        error = %runtime::exit::one_line(&error),
                        "the store cannot tell what other replicas do; trying again"
                    );
                }
                Err(_) => {}
            }
            sleep(CONNECT_EVERY).await;
        }
    }
}

impl Notice {
    /// `None` for what only a newer build understands.
    fn of(notification: &PgNotification) -> Option<Self> {
        let payload = notification.payload();
        match notification.channel() {
            REVISION => payload.parse().ok().map(Self::Revision),
            AGENT => payload.parse().ok().map(Self::Agent),
            _ => None,
        }
    }
}

/// The listener would connect again by itself, and hide what it missed.
fn until_lost(listener: PgListener) -> BoxStream<'static, PgNotification> {
    stream::unfold(listener, |mut listener| async move {
        match listener.try_recv().await {
            Ok(Some(notification)) => Some((notification, listener)),
            Ok(None) | Err(_) => None,
        }
    })
    .boxed()
}

impl std::fmt::Debug for Notices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notices").finish_non_exhaustive()
    }
}
