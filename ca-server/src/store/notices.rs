//! What the replicas of a mesh tell one another through PostgreSQL: that a revision was committed,
//! that an agent was forgotten or banned, that something was announced, and that callers know it.
//!
//! Invariant: a notice is a hint to look, never the news itself. Whenever one may have been lost (the
//! connection was, or some time has passed) the listener is told to look at everything, after
//! it listens again, so that nothing falls between.

use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use identity::SpiffeId;
use sqlx::postgres::{PgListener, PgNotification};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::database::{Database, PostgresDatabase, within};
use super::{Store, StoreError};

const REVISION: &str = "countersign_revision";
const AGENT: &str = "countersign_agent";
pub(super) const ANNOUNCED: &str = "countersign_announced";
pub(super) const TOLD: &str = "countersign_told";
const CRLS: &str = "countersign_crls";
/// Also the longest that a change by another replica stays unseen.
const LOOK_EVERY: Duration = Duration::from_secs(15);
const CONNECT_EVERY: Duration = Duration::from_secs(1);
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// The server knows by then that a replica whose host is gone is gone.
const NAME_WITHIN: Duration = Duration::from_secs(12);
const ASK_EVERY: Duration = Duration::from_millis(250);

/// Why to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A revision with this number was committed, perhaps by this very replica.
    Revision(u64),
    /// An agent was forgotten, or a ban of it came or went, perhaps by this very replica.
    Agent(SpiffeId),
    /// A replica has written what its agents announce, under this stamp.
    Announced { replica: String, stamp: u64 },
    /// The callers at `by` are told of what `of` has written up to this stamp.
    Told { by: String, of: String, stamp: u64 },
    /// A replica has signed a revocation list, or nobody can any more.
    Crls,
    /// Notices may have been lost: the connection was.
    Anything,
    /// Some time has passed, and one never knows.
    Time,
}

/// Why a replica may not take its name.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    #[error(
        "another replica named {0} is running on this store; give each one a name of its own \
         (`replica = \"…\"`)"
    )]
    Taken(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Listens, and holds the replica's name, for as long as it lives.
pub struct Notices {
    store: Store,
    replica: String,
    first: bool,
    stream: Option<BoxStream<'static, PgNotification>>,
    look_at: Instant,
}

impl Store {
    /// What others than this process do to the store. `None` where there are none: in a file.
    /// Takes the replica's name, which no other has until this one ends.
    ///
    /// # Errors
    /// See [`NameError`]. One of the same name that was killed a moment ago is waited for.
    pub async fn notices(&self, replica: &str) -> Result<Option<Notices>, NameError> {
        if self.postgres().is_none() {
            return Ok(None);
        }
        let mut notices = Notices {
            store: self.clone(),
            replica: replica.to_owned(),
            first: true,
            stream: None,
            look_at: Instant::now() + LOOK_EVERY,
        };
        notices.take_name().await?;
        Ok(Some(notices))
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
        if std::mem::take(&mut self.first) {
            return Notice::Anything;
        }
        loop {
            let Some(stream) = &mut self.stream else {
                self.listen().await;
                self.look_at = Instant::now() + LOOK_EVERY;
                return Notice::Anything;
            };
            match timeout_at(self.look_at, stream.next()).await {
                Ok(Some(notification)) => {
                    if let Some(notice) = Notice::of(&notification) {
                        return notice;
                    }
                }
                Ok(None) => self.stream = None,
                Err(_) => {
                    self.look_at = Instant::now() + LOOK_EVERY;
                    return Notice::Time;
                }
            }
        }
    }

    async fn take_name(&mut self) -> Result<(), NameError> {
        let deadline = Instant::now() + NAME_WITHIN;
        loop {
            if let Some(listener) = connect(&self.store, &self.replica).await? {
                self.stream = Some(until_lost(listener));
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(NameError::Taken(self.replica.clone()));
            }
            sleep(ASK_EVERY).await;
        }
    }

    async fn listen(&mut self) {
        let mut complained = false;
        loop {
            let problem = match connect(&self.store, &self.replica).await {
                Ok(Some(listener)) => {
                    self.stream = Some(until_lost(listener));
                    return;
                }
                Ok(None) => runtime::exit::one_line(&NameError::Taken(self.replica.clone())),
                Err(error) => runtime::exit::one_line(&error),
            };
            if !std::mem::replace(&mut complained, true) {
                tracing::warn!(
                    error = problem,
                    "the store cannot tell what other replicas do; trying again"
                );
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
            ANNOUNCED => Self::announced(payload),
            TOLD => Self::told(payload),
            CRLS => Some(Self::Crls),
            _ => None,
        }
    }

    fn announced(payload: &str) -> Option<Self> {
        let (replica, stamp) = payload.split_once(' ')?;
        Some(Self::Announced {
            replica: replica.to_owned(),
            stamp: stamp.parse().ok()?,
        })
    }

    fn told(payload: &str) -> Option<Self> {
        let (by, rest) = payload.split_once(' ')?;
        let (of, stamp) = rest.split_once(' ')?;
        Some(Self::Told {
            by: by.to_owned(),
            of: of.to_owned(),
            stamp: stamp.parse().ok()?,
        })
    }
}

/// `None`: another replica has the name.
async fn connect(store: &Store, replica: &str) -> Result<Option<PgListener>, StoreError> {
    let Some(postgres) = store.postgres() else {
        return std::future::pending().await;
    };
    let connect = postgres.listen(&[REVISION, AGENT, ANNOUNCED, TOLD, CRLS], replica);
    within(CONNECT_WITHIN, connect).await
}

/// The listener would connect again by itself, and hide what it missed.
fn until_lost(listener: PgListener) -> BoxStream<'static, PgNotification> {
    stream::unfold(listener, |mut listener| async move {
        loop {
            match timeout(LOOK_EVERY, listener.try_recv()).await {
                Ok(Ok(Some(notification))) => return Some((notification, listener)),
                Ok(Ok(None) | Err(_)) => return None,
                Err(_) => answers(&mut listener).await?,
            }
        }
    })
    .boxed()
}

/// A connection that is broken half-way says nothing, ever.
async fn answers(listener: &mut PgListener) -> Option<()> {
    let ask = sqlx::query("SELECT 1").execute(listener);
    within(CONNECT_WITHIN, ask).await.ok().map(drop)
}

impl std::fmt::Debug for Notices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notices").finish_non_exhaustive()
    }
}
