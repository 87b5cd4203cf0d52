//! Keeps one stream of the Workload API open and publishes what it says.
//!
//! Invariant: the published value is the last good message, whole. It goes away when the server
//! says that the caller has no identity, and when the source has stopped for good; it stays while
//! the server is away or sends nonsense, since the certificates in it judge their own time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crypto::random::{Random, SystemRandom};
use runtime::{Backoff, Clock};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::{Response, Streaming};

use crate::client::{Client, client};
use crate::endpoint::Endpoint;
use crate::error::{ResponseError, SourceError};

/// Short enough to be "at once" after a lost stream (requirement 127), long enough that a server
/// which ends each stream at once is not hammered.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A live view of what the Workload API says. Dropping it ends its stream.
pub struct Source<V> {
    status: watch::Receiver<Status<V>>,
    _task: JoinSet<()>,
}

/// What a source knows at one moment.
#[derive(Debug)]
pub struct Status<V> {
    /// The last good message; none before the first, after a redaction, and at the end.
    pub current: Option<Arc<V>>,
    /// What went wrong since that message.
    pub last_error: Option<SourceError>,
    /// True once the source has stopped for good; `last_error` says why.
    pub ended: bool,
}

impl<V> Clone for Status<V> {
    fn clone(&self) -> Self {
        Self {
            current: self.current.clone(),
            last_error: self.last_error.clone(),
            ended: self.ended,
        }
    }
}

/// One kind of stream: how it is opened, and how its messages become values.
pub(crate) trait Subscription: 'static {
    type Message: Send;
    type Value: Send + Sync;

    fn open(
        client: &mut Client,
    ) -> impl Future<Output = Result<Response<Streaming<Self::Message>>, tonic::Status>> + Send;

    fn read(message: Self::Message, now: OffsetDateTime) -> Result<Self::Value, ResponseError>;
}

impl<V: Send + Sync + 'static> Source<V> {
    pub fn current(&self) -> Option<Arc<V>> {
        self.status.borrow().current.clone()
    }

    /// All changes, as whole values; the latest replaces those not yet seen.
    pub fn subscribe(&self) -> watch::Receiver<Status<V>> {
        self.status.clone()
    }

    /// The current value, as soon as there is one; an error if there will be none.
    pub async fn wait_ready(&self) -> Result<Arc<V>, SourceError> {
        let mut status = self.status.clone();
        let ready = status
            .wait_for(|status| status.current.is_some() || status.ended)
            .await
            .map_err(|_| SourceError::Stopped)?;
        match &ready.current {
            Some(value) => Ok(Arc::clone(value)),
            None => Err(ready.last_error.clone().unwrap_or(SourceError::Stopped)),
        }
    }

    pub(crate) fn run<S: Subscription<Value = V>>(endpoint: Endpoint, clock: Clock) -> Self {
        let (publisher, status) = watch::channel(Status {
            current: None,
            last_error: None,
            ended: false,
        });
        let mut task = JoinSet::new();
        task.spawn(keep_open::<S>(endpoint, clock, publisher));
        Self {
            status,
            _task: task,
        }
    }
}

impl<V> fmt::Debug for Source<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.borrow();
        f.debug_struct("Source")
            .field("ready", &status.current.is_some())
            .field("last_error", &status.last_error)
            .field("ended", &status.ended)
            .finish_non_exhaustive()
    }
}

async fn keep_open<S: Subscription>(
    endpoint: Endpoint,
    clock: Clock,
    publisher: watch::Sender<Status<S::Value>>,
) {
    let mut backoff = Backoff::try_new(FIRST_PAUSE, LONGEST_PAUSE, 0.5)
        .expect("the pauses are ordered and the jitter is a share");
    let mut client = client(&endpoint);
    loop {
        let error = follow::<S>(&mut client, &clock, &publisher, &mut backoff).await;
        report(&endpoint, &error);
        let ended = error.is_final();
        publisher.send_modify(|status| {
            if ended || error.is_redaction() {
                status.current = None;
            }
            status.last_error = Some(error);
            status.ended = ended;
        });
        if ended {
            return;
        }
        tokio::time::sleep(backoff.next(SystemRandom.unit())).await;
    }
}

/// Publishes the messages of one stream until it ends.
async fn follow<S: Subscription>(
    client: &mut Client,
    clock: &Clock,
    publisher: &watch::Sender<Status<S::Value>>,
    backoff: &mut Backoff,
) -> SourceError {
    let mut stream = match S::open(client).await {
        Ok(response) => response.into_inner(),
        Err(status) => return status.into(),
    };
    loop {
        let message = match stream.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return SourceError::StreamEnded,
            Err(status) => return status.into(),
        };
        match S::read(message, clock.now()) {
            Ok(value) => {
                backoff.reset();
                publisher.send_replace(Status {
                    current: Some(Arc::new(value)),
                    last_error: None,
                    ended: false,
                });
            }
            // Requirement 135: report it and drop the message; what was good stays.
            Err(reason) => {
                tracing::warn!(%reason, "refused a message of the Workload API");
                publisher.send_modify(|status| status.last_error = Some(reason.into()));
            }
        }
    }
}

fn report(endpoint: &Endpoint, error: &SourceError) {
    if error.is_final() {
        tracing::error!(%endpoint, %error, "the Workload API cannot be used");
    } else {
        tracing::info!(%endpoint, %error, "lost the stream of the Workload API");
    }
}
