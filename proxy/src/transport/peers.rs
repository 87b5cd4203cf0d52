//! Connections to other proxies, and who may use which.
//!
//! Invariant: a connection is used only by calls with the same own identity, the same own and
//! bundle generation, the same set of expected servers and the same endpoint that it was opened
//! for. Identities never mix.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use http::uri::Authority;
use identity::SpiffeId;
use identity::x509::Denied;
use mtls::{
    ClientTls, Credentials, Current, Expected, Generation, HandshakeError, PeerIdentity, Refusal,
};
use policy::Protocol;
use runtime::Clock;
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::admission::{Admission, Counted};
use super::application::ONE_PROTOCOL;
use super::body::Upload;
use super::dial::dial;
use super::failure::Failure;
use super::hop::{Attempt, Reply, Seen};
use super::http_server::Interims;
use super::http1_client::{self, Line};
use super::http1_connection::Connection;
use super::http1_server::codec_limits;
use super::http2_client::{Http2, Lease};
use super::http2_group::{Found, Group};
use super::http2_head;
use super::io::Io;
use crate::balance::Endpoint;
use crate::config::Limits;
use crate::failure::Reason;
use crate::head::RequestHead;
use crate::live::{Shard, Stream};
use crate::record::Direction;
use crate::sightings::Sightings;
use crate::state::Target;
use crate::telemetry::Journal;
use crate::traffic::connections::OpenPlace;
use crate::trust::Vouched;
use crate::worker::tasks::Tasks;

const ALPN_HTTP2: [&[u8]; 1] = [b"h2"];
const ALPN_HTTP1: [&[u8]; 1] = [b"http/1.1"];

/// A worker's pool. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    groups: Rc<RefCell<HashMap<Endpoint, Keyed>>>,
    credentials: Credentials,
    live: Shard,
    clock: Clock,
    journal: Journal,
    sightings: Sightings,
    limits: Arc<Limits>,
    tasks: Tasks,
}

/// An endpoint's connections, each group for those that its key fits.
type Keyed = Vec<(Key, Rc<Group>)>;

/// Who may use a connection to an endpoint.
#[derive(Clone, Debug)]
struct Key {
    own: SpiffeId,
    /// Of own leaf and bundles together.
    generation: Generation,
    servers: Arc<BTreeSet<SpiffeId>>,
}

impl Peers {
    pub(crate) fn new(
        credentials: Credentials,
        live: Shard,
        clock: Clock,
        journal: Journal,
        sightings: Sightings,
        limits: Arc<Limits>,
        tasks: Tasks,
    ) -> Self {
        Self {
            groups: Rc::default(),
            credentials,
            live,
            clock,
            journal,
            sightings,
            limits,
            tasks,
        }
    }

    /// Sends a request to one endpoint of a target: path and query untouched, for the other proxy
    /// to judge.
    ///
    /// # Errors
    /// An [`Attempt`] that says whether the request may be sent again.
    pub(crate) async fn send(
        &self,
        endpoint: &Endpoint,
        admission: &Admission<'_>,
        head: &RequestHead,
        upload: Upload,
        stream: &Arc<Stream>,
        interims: &Interims,
    ) -> Result<Reply, Attempt> {
        if head.upgrade().is_some() {
            let sent = self.send_upgrade(endpoint, admission, head, upload, stream, interims);
            return Box::pin(sent).await;
        }
        let mut upload = upload;
        loop {
            let found = match self.connection(endpoint, admission).await {
                Ok(found) => found,
                Err(failure) => return Err(Attempt::unsent(failure, upload)),
            };
            let request = match authority(head) {
                Ok(authority) => http2_head::of_head(head, authority),
                Err(failure) => return Err(Attempt::unsent(failure, upload)),
            };
            let sent = found
                .connection
                .send(request, upload, stream, interims, found.lease);
            match sent.await {
                Ok(reply) => return Ok(reply),
                // A kept connection may have ended unseen; a fresh one that did is a failure.
                Err(attempt) if !found.is_fresh && attempt.seen == Seen::Nothing => {
                    upload = attempt.upload;
                }
                Err(attempt) => return Err(attempt),
            }
        }
    }

    /// Sends a request that asks for another protocol, over a connection of its own: one that
    /// others share cannot go on with it.
    async fn send_upgrade(
        &self,
        endpoint: &Endpoint,
        admission: &Admission<'_>,
        head: &RequestHead,
        upload: Upload,
        stream: &Stream,
        interims: &Interims,
    ) -> Result<Reply, Attempt> {
        let target = admission.target();
        let opened = match target.protocol {
            Protocol::Http => self
                .alone(&target.servers, endpoint, admission, &ALPN_HTTP1)
                .await
                .and_then(|opened| self.rest_on(stream, opened.0.peer()).map(|()| opened)),
            _ => Err(Failure::new(Reason::UpgradeRefused, ONE_PROTOCOL)),
        };
        let line = opened.and_then(|(tls, counted)| Ok((tls, counted, line(head)?)));
        let (tls, counted, line) = match line {
            Ok(all) => all,
            Err(failure) => return Err(Attempt::unsent(failure, upload)),
        };
        if tls.alpn() != Some(b"http/1.1") {
            let detail = format!("{endpoint} does not speak HTTP/1.1 between proxies");
            let failure = Failure::new(Reason::TlsHandshake, detail);
            return Err(Attempt::unsent(failure, upload));
        }
        let io = Io::Opened(Box::new(tls));
        let connection = Connection::new(io, BytesMut::new(), codec_limits(&self.limits));
        let sent =
            http1_client::send(connection, None, false, line, upload, stream, interims).await;
        sent.map(|reply| Reply {
            lease: Some(Lease::Alone(counted)),
            ..reply
        })
    }

    /// A connection of its own for a TCP call.
    ///
    /// # Errors
    /// If nobody there is a workload of the target's Service, or no connection may be opened.
    pub(crate) async fn connect_tcp(
        &self,
        endpoint: &Endpoint,
        admission: &Admission<'_>,
    ) -> Result<(ClientTls<TcpStream>, Lease), Failure> {
        let servers = &admission.target().servers;
        let opened = self.alone(servers, endpoint, admission, &[]).await;
        opened.map(|(tls, counted)| (tls, Lease::Alone(counted)))
    }

    /// The stream has a connection of its own to this server, and ends with the trust in it.
    ///
    /// # Errors
    /// If it is revoked already.
    pub(crate) fn rest_on(&self, stream: &Stream, server: &PeerIdentity) -> Result<(), Failure> {
        stream.rest_on(Vouched::of(server));
        self.require_trust(server)
    }

    /// Once more after the connection is known to whoever ends it.
    fn require_trust(&self, server: &PeerIdentity) -> Result<(), Failure> {
        match server.denied_by(&self.credentials.denied()) {
            None => Ok(()),
            Some(by) => Err(revoked(server.spiffe_id(), &by)),
        }
    }

    /// Lets go of connections that no new call may use, which while draining is each one; what is
    /// in flight on them finishes.
    pub(crate) fn sweep(&self) {
        let mut groups = self.groups.borrow_mut();
        if self.tasks.shutdown().is_draining() {
            groups.clear();
            return;
        }
        let generation = self
            .credentials
            .current()
            .map(|current| current.generation());
        let now = self.clock.now();
        groups.retain(|_, kept| {
            kept.retain(|(key, group)| {
                let in_use = group.sweep(now) || Rc::strong_count(group) > 1;
                Some(key.generation) == generation && in_use
            });
            !kept.is_empty()
        });
    }

    /// A connection that no other call uses. It waits for no place.
    async fn alone(
        &self,
        servers: &Arc<BTreeSet<SpiffeId>>,
        endpoint: &Endpoint,
        admission: &Admission<'_>,
        alpn: &[&[u8]],
    ) -> Result<(ClientTls<TcpStream>, Counted), Failure> {
        let place = admission.open().map_err(|full| admission.refusal(full))?;
        let tls = self.tls(servers, endpoint, alpn).await?;
        let open = self.journal.connection(Direction::Outbound);
        Ok((tls, Counted::new(open, Some(place))))
    }

    async fn connection(
        &self,
        endpoint: &Endpoint,
        admission: &Admission<'_>,
    ) -> Result<Found, Failure> {
        let target = admission.target();
        let current = self.credentials.current().ok_or_else(not_ready)?;
        let group = self.group(&current, target, endpoint, admission);
        let now = self.clock.now();
        if let Some(found) = group.free(now) {
            return Ok(found);
        }
        let dial = async |place| self.dial(&current, target, endpoint, place).await;
        // On the heap, so that a call that finds a connection has no room for it.
        Box::pin(group.find(now, Some(admission), dial)).await
    }

    fn group(
        &self,
        current: &Current,
        target: &Target,
        endpoint: &Endpoint,
        admission: &Admission<'_>,
    ) -> Rc<Group> {
        let mut groups = self.groups.borrow_mut();
        let own = current.svid().spiffe_id();
        let known = groups.get(endpoint).and_then(|kept| {
            let fits = |(key, _): &&(Key, Rc<Group>)| key.is(own, current.generation(), target);
            kept.iter().find(fits)
        });
        if let Some((_, group)) = known {
            return Rc::clone(group);
        }
        let key = Key {
            own: own.clone(),
            generation: current.generation(),
            servers: Arc::clone(&target.servers),
        };
        let group = Rc::new(Group::to(admission.callee()));
        let kept = groups.entry(endpoint.clone()).or_default();
        kept.push((key, Rc::clone(&group)));
        group
    }

    async fn dial(
        &self,
        current: &Current,
        target: &Target,
        endpoint: &Endpoint,
        place: Option<OpenPlace>,
    ) -> Result<(Http2, Option<OffsetDateTime>), Failure> {
        let tls = self.tls(&target.servers, endpoint, &ALPN_HTTP2).await?;
        if tls.alpn() != Some(b"h2") {
            let detail = format!("{endpoint} does not speak HTTP/2 between proxies");
            return Err(Failure::new(Reason::TlsHandshake, detail));
        }
        let bond = self.live.bind(Vouched::of(tls.peer()));
        self.require_trust(tls.peer())?;
        let retire_at = retire_at(current, tls.peer().not_after(), self.clock.now());
        let open = self.journal.connection(Direction::Outbound);
        let counted = Some(Counted::new(open, place));
        let io = Io::Opened(Box::new(tls));
        let opened = Http2::bound(io, self.limits.header_bytes, &self.tasks, counted, bond);
        Ok((opened, Some(retire_at)))
    }

    async fn tls(
        &self,
        servers: &Arc<BTreeSet<SpiffeId>>,
        endpoint: &Endpoint,
        alpn: &[&[u8]],
    ) -> Result<ClientTls<TcpStream>, Failure> {
        self.require_own_trust()?;
        let address = endpoint.to_string();
        let expected = Expected::AnyOf(Arc::clone(servers));
        let config = self
            .credentials
            .client_config(expected, alpn)
            .map_err(|_| not_ready())?;
        let stream = dial(&*address, self.limits.connect.duration()).await?;
        let limit = self.limits.handshake.duration();
        let began = Instant::now();
        let outcome = match timeout(limit, mtls::connect(stream, config)).await {
            Ok(Ok(tls)) => {
                self.sightings.note(tls.peer());
                Ok(tls)
            }
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

impl Peers {
    /// Whoever is called would only say that it refuses our certificate.
    fn require_own_trust(&self) -> Result<(), Failure> {
        let current = self.credentials.current().ok_or_else(not_ready)?;
        let own = current.svid().svid();
        match self.credentials.denied().refuses(own) {
            None => Ok(()),
            Some(by) => Err(revoked(own.spiffe_id(), &by)),
        }
    }
}

impl Key {
    fn is(&self, own: &SpiffeId, generation: Generation, target: &Target) -> bool {
        let servers = Arc::ptr_eq(&self.servers, &target.servers) || self.servers == target.servers;
        servers && self.generation == generation && self.own == *own
    }
}

fn line(head: &RequestHead) -> Result<Line<'_>, Failure> {
    Ok(Line {
        method: head.method(),
        path: head.target().path(),
        query: head.target().query(),
        authority: authority(head)?,
        fields: head.fields(),
        upgrade: head.upgrade(),
    })
}

fn authority(head: &RequestHead) -> Result<&Authority, Failure> {
    let no_host = || Failure::new(Reason::BadRequest, "the request names no host");
    head.authority().ok_or_else(no_host)
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
        HandshakeError::Refused(Refusal::Revoked { .. }) => Reason::Revoked,
        _ => Reason::TlsHandshake,
    };
    let error = runtime::exit::one_line(error);
    Failure::new(reason, format!("handshake with {address}: {error}"))
}

fn revoked(id: &SpiffeId, by: &Denied) -> Failure {
    Failure::new(Reason::Revoked, format!("{id} is revoked, by {by}"))
}

fn not_ready() -> Failure {
    Failure::new(Reason::NotReady, "no credentials have arrived yet")
}
