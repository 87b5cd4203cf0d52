//! The way to the application behind this proxy.
//!
//! Invariant: nothing is sent but under a `Permit`: the functions take evidence that only the gate
//! makes for a judged call. Connections are kept and used again, one request at a time for HTTP/1.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::BytesMut;
use http::uri::Authority;
use http::{HeaderMap, Method};
use http2::Outgoing;
use policy::Protocol;
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::body::Upload;
use super::dial::dial;
use super::failure::Failure;
use super::hop::{Attempt, Reply, Seen, is_idempotent};
use super::http_server::Interims;
use super::http1_client::{self, Line};
use super::http1_connection::{Connection, Shared};
use super::http1_server::codec_limits;
use super::http2_client::Http2;
use super::http2_group::{self, Found, Group};
use super::http2_head;
use super::io::Io;
use crate::admit::{CheckPermit, Permit};
use crate::config::Limits;
use crate::failure::Reason;
use crate::live::Stream;
use crate::state::Served;
use crate::worker::tasks::Tasks;

/// An application may close an idle connection at any time; the shorter we keep one, the rarer
/// a request meets that.
const KEEP_IDLE: Duration = Duration::from_secs(5);
const IDLE_PER_ADDRESS: usize = 256;

pub(super) const ONE_PROTOCOL: &str = "the application speaks HTTP/2, which knows no upgrade";

/// A worker's connections to applications of this host. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Applications {
    pool: Rc<Pool>,
    tasks: Tasks,
    limits: Arc<Limits>,
}

/// Connections that are kept, by where they lead.
#[derive(Debug, Default)]
pub(super) struct Pool {
    http1: RefCell<HashMap<Arc<str>, Vec<Idle>>>,
    http2: RefCell<HashMap<Arc<str>, Rc<Group>>>,
}

#[derive(Debug)]
struct Idle {
    connection: Shared,
    since: Instant,
}

/// Where an HTTP/1 connection goes after a response.
#[derive(Debug)]
pub(crate) struct Home {
    pool: Rc<Pool>,
    address: Arc<str>,
    pub(super) persists: bool,
}

/// The head of a request that the gate let through.
#[derive(Debug)]
pub(crate) struct Permitted<'a> {
    line: Line<'a>,
    accepts_trailers: bool,
}

impl<'a> Permitted<'a> {
    pub(crate) fn new(_permit: &Permit, line: Line<'a>, accepts_trailers: bool) -> Self {
        Self {
            line,
            accepts_trailers,
        }
    }

    /// A health check, which has the declared path and nothing of whoever asked.
    pub(crate) fn check(
        permit: &'a CheckPermit,
        method: &'a Method,
        authority: &'a Authority,
        fields: &'a HeaderMap,
    ) -> Self {
        Self {
            line: Line {
                method,
                path: permit.health().path.as_str(),
                query: None,
                authority,
                fields,
                upgrade: None,
            },
            accepts_trailers: true,
        }
    }
}

impl Applications {
    pub(crate) fn new(tasks: Tasks, limits: Arc<Limits>) -> Self {
        Self {
            pool: Rc::default(),
            tasks,
            limits,
        }
    }

    /// A TCP connection of its own for a permitted one.
    ///
    /// # Errors
    /// If the application does not accept it in time.
    pub(crate) async fn connect(
        &self,
        _permit: &Permit,
        address: &str,
    ) -> Result<TcpStream, Failure> {
        self.dial(address).await
    }

    /// Sends one permitted request.
    ///
    /// # Errors
    /// If the application cannot be reached or breaks off before its response's head.
    pub(crate) async fn send(
        &self,
        served: &Served,
        request: &Permitted<'_>,
        upload: Upload,
        stream: &Arc<Stream>,
        interims: &Interims,
    ) -> Result<Reply, Attempt> {
        let address = &served.application;
        match served.protocol {
            Protocol::Http2 | Protocol::Grpc if request.line.upgrade.is_some() => {
                let failure = Failure::new(Reason::UpgradeRefused, ONE_PROTOCOL);
                Err(Attempt::unsent(failure, upload))
            }
            Protocol::Http2 | Protocol::Grpc => {
                self.send_http2(address, request, upload, stream, interims)
                    .await
            }
            Protocol::Http | Protocol::Tcp => {
                self.send_http1(address, request.line, upload, stream, interims)
                    .await
            }
        }
    }

    /// Lets go of connections that were idle for too long, and while draining of each one; what is
    /// in flight on them finishes.
    pub(crate) fn sweep(&self) {
        self.pool.sweep(self.tasks.shutdown().is_draining());
    }

    /// A kept connection may have been closed by the application just before the request reached
    /// it. What may be repeated is sent once more, over a fresh one.
    async fn send_http1(
        &self,
        address: &Arc<str>,
        line: Line<'_>,
        upload: Upload,
        stream: &Stream,
        interims: &Interims,
    ) -> Result<Reply, Attempt> {
        let mut upload = upload;
        // What may switch gets a connection of its own, and leaves none behind.
        let lasts = line.upgrade.is_none();
        if lasts && let Some(kept) = self.take_idle(address) {
            let home = Some(self.home(address));
            let sent = http1_client::send(kept, home, true, line, upload, stream, interims).await;
            let attempt = match sent {
                Ok(reply) => return Ok(reply),
                Err(attempt) => attempt,
            };
            let unseen = attempt.seen == Seen::Unknown && is_idempotent(line.method);
            if !unseen || !attempt.upload.can_begin() {
                return Err(attempt);
            }
            upload = attempt.upload;
            upload = upload.rewind();
        }
        let fresh = match Box::pin(self.dial(address)).await {
            Ok(stream) => {
                Connection::new(Io::Tcp(stream), BytesMut::new(), codec_limits(&self.limits))
            }
            Err(failure) => return Err(Attempt::unsent(failure, upload)),
        };
        let home = lasts.then(|| self.home(address));
        http1_client::send(fresh, home, false, line, upload, stream, interims).await
    }

    async fn send_http2(
        &self,
        address: &Arc<str>,
        request: &Permitted<'_>,
        upload: Upload,
        stream: &Arc<Stream>,
        interims: &Interims,
    ) -> Result<Reply, Attempt> {
        let group = self.pool.group(address);
        let find = async || self.http2(&group, address).await;
        http2_group::send(find, request.http2(), upload, stream, interims).await
    }

    async fn http2(&self, group: &Group, address: &str) -> Result<Found, Failure> {
        // Connections to an application never retire by time.
        let now = OffsetDateTime::UNIX_EPOCH;
        match group.free(now) {
            Some(found) => Ok(found),
            // On the heap, so that a call that finds a connection has no room for it.
            None => Box::pin(group.find(now, None, async |_| self.open_http2(address).await)).await,
        }
    }

    async fn open_http2(&self, address: &str) -> Result<(Http2, Option<OffsetDateTime>), Failure> {
        let io = Io::Tcp(self.dial(address).await?);
        let opened = Http2::open(io, self.limits.header_bytes, &self.tasks, None);
        Ok((opened, None))
    }

    fn home(&self, address: &Arc<str>) -> Home {
        self.pool.home(address)
    }

    fn take_idle(&self, address: &str) -> Option<Shared> {
        self.pool.take_idle(address)
    }

    async fn dial(&self, address: &str) -> Result<TcpStream, Failure> {
        dial(address, self.limits.connect.duration()).await
    }
}

impl Pool {
    /// Where an HTTP/1 connection to `address` goes after a response.
    pub(super) fn home(self: &Rc<Self>, address: &Arc<str>) -> Home {
        Home {
            pool: Rc::clone(self),
            address: Arc::clone(address),
            persists: false,
        }
    }

    /// Keeps a connection that carried nothing yet.
    pub(super) fn keep(self: &Rc<Self>, address: &Arc<str>, connection: &Shared) {
        let mut home = self.home(address);
        home.persists = true;
        home.take_back(connection);
    }

    pub(super) fn take_idle(&self, address: &str) -> Option<Shared> {
        let mut pool = self.http1.borrow_mut();
        let idle = pool.get_mut(address)?;
        std::iter::from_fn(|| idle.pop())
            .find(Idle::is_usable)
            .map(|idle| idle.connection)
    }

    pub(super) fn has_idle(&self, address: &str) -> bool {
        self.http1.borrow().contains_key(address)
    }

    pub(super) fn group(&self, address: &Arc<str>) -> Rc<Group> {
        let mut groups = self.http2.borrow_mut();
        Rc::clone(groups.entry(Arc::clone(address)).or_default())
    }

    /// Lets go of connections that were idle for too long, and while draining of each one.
    pub(super) fn sweep(&self, is_draining: bool) {
        let (mut http1, mut http2) = (self.http1.borrow_mut(), self.http2.borrow_mut());
        if is_draining {
            http1.clear();
            http2.clear();
            return;
        }
        http1.retain(|_, idle| {
            idle.retain(Idle::is_usable);
            !idle.is_empty()
        });
        http2.retain(|_, group| {
            group.sweep(OffsetDateTime::UNIX_EPOCH) || Rc::strong_count(group) > 1
        });
    }
}

impl Idle {
    fn is_usable(&self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let mut connection = self.connection.borrow_mut();
        // An application that says something unasked is not understood.
        self.since.elapsed() < KEEP_IDLE
            && connection.poll_gone(&mut context).is_pending()
            && connection.is_untouched()
    }
}

impl Home {
    /// Keeps the connection if nothing of the last exchange is left on it.
    pub(super) fn take_back(self, connection: &Shared) {
        let is_clean = {
            let connection = connection.borrow();
            connection.is_whole()
                && connection.has_received_all()
                && connection.has_sent_all()
                && connection.is_untouched()
        };
        if !self.persists || !is_clean {
            return;
        }
        let mut pool = self.pool.http1.borrow_mut();
        let idle = pool.entry(self.address).or_default();
        if idle.len() < IDLE_PER_ADDRESS {
            idle.push(Idle {
                connection: Rc::clone(connection),
                since: Instant::now(),
            });
        }
    }
}

impl Permitted<'_> {
    fn http2(&self) -> Outgoing<'_> {
        http2_head::of_line(&self.line, self.accepts_trailers)
    }
}
