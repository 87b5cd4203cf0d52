//! Connections to other proxies, and who may use which.
//!
//! Invariant: a connection is used only by calls with the same own identity, the same own and
//! bundle generation, the same set of expected servers and the same endpoint that it was opened
//! for. Identities never mix.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use identity::SpiffeId;
use mtls::{ClientTls, Credentials, Current, Expected, Generation, HandshakeError, Refusal};
use runtime::Clock;
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::body::Upload;
use super::failure::{Failure, is_unprocessed};
use super::tasks::Tasks;
use crate::balance::Endpoint;
use crate::config::Limits;
use crate::failure::Reason;
use crate::record::Direction;
use crate::state::Target;
use crate::telemetry::Journal;

const ALPN_HTTP2: [&[u8]; 1] = [b"h2"];
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;
const SEND_BUFFER: usize = 256 * 1024;

/// Another connection is opened when this many streams are open on each: half of what our own
/// proxies permit.
const STREAMS_PER_CONNECTION: usize = 128;

/// The pool. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    groups: Arc<Mutex<HashMap<Key, Arc<Group>>>>,
    credentials: Credentials,
    clock: Clock,
    journal: Journal,
    limits: Arc<Limits>,
    tasks: Tasks,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    own: SpiffeId,
    /// Of own leaf and bundles together.
    generation: Generation,
    servers: Arc<BTreeSet<SpiffeId>>,
    endpoint: Endpoint,
}

#[derive(Debug, Default)]
struct Group {
    connections: Mutex<Vec<Connection>>,
    /// Held while dialing, so that a burst of calls opens one connection and not one each.
    dialing: tokio::sync::Mutex<Option<(Instant, Failure)>>,
}

#[derive(Clone, Debug)]
struct Connection {
    sender: SendRequest<Upload>,
    /// Each lease holds a count.
    streams: Arc<()>,
    retire_at: OffsetDateTime,
}

/// Keeps a stream counted on its connection.
#[derive(Debug)]
pub(crate) struct Lease {
    _stream: Arc<()>,
}

/// An attempt that did not yield a response.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// No byte of the request was sent: it can go anywhere.
    Unsent(Box<Request<Upload>>, Failure),
    /// Sent, but the server promises that it did nothing for it.
    Unprocessed(Failure),
    Broken(Failure),
}

impl Peers {
    pub(crate) fn new(
        credentials: Credentials,
        clock: Clock,
        journal: Journal,
        limits: Arc<Limits>,
        tasks: Tasks,
    ) -> Self {
        Self {
            groups: Arc::default(),
            credentials,
            clock,
            journal,
            limits,
            tasks,
        }
    }

    /// Sends a request to one endpoint of a target.
    ///
    /// # Errors
    /// An [`Attempt`] that says whether the request may be sent again.
    pub(crate) async fn send(
        &self,
        target: &Target,
        endpoint: &Endpoint,
        request: Request<Upload>,
    ) -> Result<(Response<Incoming>, Lease), Attempt> {
        let mut request = request;
        loop {
            let (mut connection, fresh) = match self.connection(target, endpoint).await {
                Ok(found) => found,
                Err(failure) => return Err(Attempt::Unsent(Box::new(request), failure)),
            };
            let lease = Lease {
                _stream: Arc::clone(&connection.streams),
            };
            match connection.sender.try_send_request(request).await {
                Ok(response) => return Ok((response, lease)),
                Err(mut error) => match error.take_message() {
                    // A kept connection may have ended unseen; a fresh one that did is a failure.
                    Some(unsent) if !fresh => request = unsent,
                    Some(unsent) => {
                        let failure = Failure::stream(&error.into_error());
                        return Err(Attempt::Unsent(Box::new(unsent), failure));
                    }
                    None => return Err(Attempt::of(&error.into_error())),
                },
            }
        }
    }

    /// A connection of its own for a TCP call.
    ///
    /// # Errors
    /// If nobody there is a workload of the target's Service.
    pub(crate) async fn connect_tcp(
        &self,
        target: &Target,
        endpoint: &Endpoint,
    ) -> Result<ClientTls<TcpStream>, Failure> {
        self.tls(&target.servers, endpoint, &[]).await
    }

    /// Lets go of connections that no new call may use, which while draining is each one; what is
    /// in flight on them finishes.
    pub(crate) fn sweep(&self) {
        if self.tasks.shutdown().is_draining() {
            lock(&self.groups).clear();
            return;
        }
        let generation = self
            .credentials
            .current()
            .map(|current| current.generation());
        let now = self.clock.now();
        let mut groups = lock(&self.groups);
        groups.retain(|key, group| {
            let mut connections = lock(&group.connections);
            connections.retain(|it| it.is_usable(now));
            Some(key.generation) == generation
                && (!connections.is_empty() || Arc::strong_count(group) > 1)
        });
    }

    async fn connection(
        &self,
        target: &Target,
        endpoint: &Endpoint,
    ) -> Result<(Connection, bool), Failure> {
        let current = self.credentials.current().ok_or_else(not_ready)?;
        let group = self.group(&current, target, endpoint);
        if let Some(kept) = group.free(self.clock.now()) {
            return Ok((kept, false));
        }
        let began = Instant::now();
        let mut last_failure = group.dialing.lock().await;
        if let Some(kept) = group.free(self.clock.now()) {
            return Ok((kept, false));
        }
        if let Some((at, failure)) = &*last_failure
            && *at >= began
        {
            return Err(failure.clone());
        }
        match self.dial(&current, target, endpoint).await {
            Ok(connection) => {
                lock(&group.connections).push(connection.clone());
                Ok((connection, true))
            }
            Err(failure) => {
                *last_failure = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }

    fn group(&self, current: &Current, target: &Target, endpoint: &Endpoint) -> Arc<Group> {
        let key = Key {
            own: current.svid().spiffe_id().clone(),
            generation: current.generation(),
            servers: Arc::clone(&target.servers),
            endpoint: endpoint.clone(),
        };
        Arc::clone(lock(&self.groups).entry(key).or_default())
    }

    async fn dial(
        &self,
        current: &Current,
        target: &Target,
        endpoint: &Endpoint,
    ) -> Result<Connection, Failure> {
        let tls = self.tls(&target.servers, endpoint, &ALPN_HTTP2).await?;
        if tls.alpn() != Some(b"h2") {
            let detail = format!("{endpoint} does not speak HTTP/2 between proxies");
            return Err(Failure::new(Reason::TlsHandshake, detail));
        }
        let retire_at = retire_at(current, tls.peer().not_after(), self.clock.now());
        let (sender, connection) = http2::Builder::new(self.tasks.clone())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(self.limits.header_bytes)
            .handshake(TokioIo::new(tls))
            .await
            .map_err(|error| Failure::stream(&error))?;
        let open = self.journal.connection(Direction::Outbound);
        self.tasks.spawn(async move {
            let _open = open;
            if let Err(error) = connection.await {
                let error = runtime::exit::one_line(&error);
                tracing::debug!(error, "connection to another proxy ended");
            }
        });
        Ok(Connection {
            sender,
            streams: Arc::default(),
            retire_at,
        })
    }

    async fn tls(
        &self,
        servers: &Arc<BTreeSet<SpiffeId>>,
        endpoint: &Endpoint,
        alpn: &[&[u8]],
    ) -> Result<ClientTls<TcpStream>, Failure> {
        let address = endpoint.to_string();
        let expected = Expected::AnyOf(Arc::clone(servers));
        let config = self
            .credentials
            .client_config(expected, alpn)
            .map_err(|_| not_ready())?;
        let limit = self.limits.connect.duration();
        let stream = match timeout(limit, TcpStream::connect(&address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(Failure::connect(&address, &error)),
            Err(_) => {
                let detail = format!("connect to {address}: too slow");
                return Err(Failure::new(Reason::ConnectTimeout, detail));
            }
        };
        // Latency only: without it small writes wait for acknowledgements.
        drop(stream.set_nodelay(true));
        let limit = self.limits.handshake.duration();
        let began = Instant::now();
        let outcome = match timeout(limit, mtls::connect(stream, config)).await {
            Ok(Ok(tls)) => Ok(tls),
            Ok(Err(error)) => Err(handshake_failure(&address, &error)),
            Err(_) => Err(Failure::new(
                Reason::ConnectTimeout,
                format!("handshake with {address}: too slow"),
            )),
        };
        let reason = outcome.as_ref().err().map(|failure| failure.reason);
        self.journal
            .handshake(Direction::Outbound, reason, began.elapsed());
        outcome
    }
}

impl Group {
    fn free(&self, now: OffsetDateTime) -> Option<Connection> {
        let mut connections = lock(&self.connections);
        connections.retain(|it| it.is_usable(now));
        connections
            .iter()
            .find(|it| Arc::strong_count(&it.streams) <= STREAMS_PER_CONNECTION)
            .cloned()
    }
}

impl Connection {
    fn is_usable(&self, now: OffsetDateTime) -> bool {
        now < self.retire_at && self.sender.is_ready()
    }
}

impl Attempt {
    fn of(error: &hyper::Error) -> Self {
        let failure = Failure::stream(error);
        if is_unprocessed(error) {
            Self::Unprocessed(failure)
        } else {
            Self::Broken(failure)
        }
    }
}

/// After three quarters of the time that both leaves have left: earlier than the server would.
fn retire_at(
    current: &Current,
    peer_not_after: OffsetDateTime,
    now: OffsetDateTime,
) -> OffsetDateTime {
    let end = current.svid().svid().validity().not_after();
    now + (end.min(peer_not_after) - now) * 0.75
}

fn handshake_failure(address: &str, error: &HandshakeError) -> Failure {
    let reason = match error {
        HandshakeError::Refused(Refusal::IdentityMismatch { .. }) => Reason::TlsIdentityMismatch,
        _ => Reason::TlsHandshake,
    };
    let error = runtime::exit::one_line(error);
    Failure::new(reason, format!("handshake with {address}: {error}"))
}

fn not_ready() -> Failure {
    Failure::new(Reason::NotReady, "no credentials have arrived yet")
}

/// Every change under these locks is complete before anything can panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
