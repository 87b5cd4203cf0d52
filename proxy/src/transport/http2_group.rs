//! The HTTP/2 connections to one place: one, until its streams run out.
//!
//! Invariant: a call waits only while a stream or a connection may yet become free for it, and is
//! woken when one does.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use http2::Outgoing;
use time::OffsetDateTime;
use tokio::time::{Instant, timeout_at};

use super::admission::Admission;
use super::body::Upload;
use super::failure::Failure;
use super::hop::{Attempt, Reply};
use super::http_server::Interims;
use super::http2_client::{Freed, Http2, Lease};
use crate::live::Stream;
use crate::traffic::bulkhead::Full;
use crate::traffic::connections::OpenPlace;
use crate::traffic::shared::Callee;

#[derive(Debug, Default)]
pub(crate) struct Group {
    connections: RefCell<Vec<Kept>>,
    /// Held while dialing, so that a burst of calls opens one connection and not one each.
    dialing: tokio::sync::Mutex<Option<(Instant, Failure)>>,
    freed: Rc<Freed>,
    /// The port that they lead to, where its connections are limited.
    callee: Option<Arc<Callee>>,
}

#[derive(Debug)]
struct Kept {
    connection: Http2,
    retire_at: Option<OffsetDateTime>,
}

/// A connection with a place on it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) connection: Http2,
    pub(crate) lease: Lease,
    /// Whether it was opened for this call.
    pub(crate) is_fresh: bool,
}

/// How many streams a connection may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// As many as are carried before another connection is opened.
    Usual,
    /// As many as its peer takes.
    All,
}

/// Sends a request over a connection that `find` gives.
///
/// # Errors
/// An [`Attempt`] that says how far the last one got.
pub(super) async fn send(
    find: impl AsyncFn() -> Result<Found, Failure>,
    head: Outgoing<'_>,
    mut upload: Upload,
    stream: &Arc<Stream>,
    interims: &Interims,
) -> Result<Reply, Attempt> {
    loop {
        let found = match find().await {
            Ok(found) => found,
            Err(failure) => return Err(Attempt::unsent(failure, upload)),
        };
        let (connection, lease) = (found.connection, found.lease);
        match connection.send(head, upload, stream, interims, lease).await {
            Ok(reply) => return Ok(reply),
            // A kept connection may have ended unseen; a fresh one that did is a failure.
            Err(attempt) if !found.is_fresh && attempt.may_repeat() => {
                upload = attempt.upload.rewind();
            }
            Err(attempt) => return Err(attempt),
        }
    }
}

impl Group {
    /// To a port of a Service.
    pub(crate) fn to(callee: &Arc<Callee>) -> Self {
        Self {
            callee: Some(Arc::clone(callee)),
            ..Self::default()
        }
    }

    /// A connection with room for a stream; `dial` opens one, to be used until the time it says.
    ///
    /// # Errors
    /// Why none could be opened, be it for this call or for another that began earlier; or that
    /// none may be.
    pub(crate) async fn find(
        &self,
        now: OffsetDateTime,
        admission: Option<&Admission<'_>>,
        dial: impl AsyncFnOnce(Option<OpenPlace>) -> Result<(Http2, Option<OffsetDateTime>), Failure>,
    ) -> Result<Found, Failure> {
        if let Some(found) = self.free(now) {
            return Ok(found);
        }
        if admission.is_some_and(Admission::is_full)
            && let Some(found) = self.with(now, Room::All)
        {
            return Ok(found);
        }
        let _queued = admission.map(Admission::queue).transpose()?;
        let began = Instant::now();
        loop {
            let mut last_failure = self.dialing.lock().await;
            if let Some(found) = self.free(now) {
                return Ok(found);
            }
            if let Some((at, failure)) = &*last_failure
                && *at >= began
            {
                return Err(failure.clone());
            }
            let place = match admission.map(Admission::open).transpose() {
                Ok(place) => place,
                Err(full) => {
                    drop(last_failure);
                    match self.room(now, admission, full, began).await? {
                        Some(found) => return Ok(found),
                        None => continue,
                    }
                }
            };
            return match dial(place).await {
                Ok((connection, retire_at)) => Ok(self.keep(connection, retire_at)),
                Err(failure) => {
                    *last_failure = Some((Instant::now(), failure.clone()));
                    Err(failure)
                }
            };
        }
    }

    /// Lets go of connections that no new call may use, and of one that is idle while others wait
    /// for its place. Whether any is left.
    pub(crate) fn sweep(&self, now: OffsetDateTime) -> bool {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|it| it.is_usable(now));
        let wanted = |it: &Arc<Callee>| it.connections.are_wanted();
        if self.callee.as_ref().is_some_and(wanted) {
            let idle = connections.iter().position(|it| it.connection.is_idle());
            idle.map(|at| connections.swap_remove(at));
        }
        !connections.is_empty()
    }

    /// As many connections are open as may be: a stream that is free now, or nothing once one or
    /// a place may have become free.
    async fn room(
        &self,
        now: OffsetDateTime,
        admission: Option<&Admission<'_>>,
        full: Full,
        began: Instant,
    ) -> Result<Option<Found>, Failure> {
        let Some(admission) = admission else {
            return Ok(None);
        };
        // Elsewhere there may be a stream now.
        if self.connections.borrow().is_empty() && !admission.is_patient() {
            return Err(admission.refusal(full));
        }
        let (waiting, wanting) = (self.freed.wait(), admission.wait());
        if let Some(found) = self.with(now, Room::All) {
            return Ok(Some(found));
        }
        let free = async {
            tokio::select! {
                () = waiting.freed() => {}
                () = wanting.closed() => {}
            }
        };
        let waited = timeout_at(began + admission.most_wait(), free).await;
        waited.map(|()| None).map_err(|_| admission.refusal(full))
    }

    fn keep(&self, connection: Http2, retire_at: Option<OffsetDateTime>) -> Found {
        connection.frees(&self.freed);
        let lease = connection.lease();
        self.connections.borrow_mut().push(Kept {
            connection: connection.clone(),
            retire_at,
        });
        Found {
            connection,
            lease,
            is_fresh: true,
        }
    }

    /// A connection that is open, with room for a stream.
    pub(crate) fn free(&self, now: OffsetDateTime) -> Option<Found> {
        self.with(now, Room::Usual)
    }

    fn with(&self, now: OffsetDateTime, room: Room) -> Option<Found> {
        let mut connections = self.connections.borrow_mut();
        let mut ended = false;
        let mut free = connections.iter().filter(|it| {
            let usable = it.is_usable(now);
            ended |= !usable;
            let has_room = match room {
                Room::Usual => it.connection.is_free(),
                Room::All => it.connection.takes_more(),
            };
            usable && has_room
        });
        let found = free.next().map(|it| Found {
            connection: it.connection.clone(),
            lease: it.connection.lease(),
            is_fresh: false,
        });
        if ended {
            connections.retain(|it| it.is_usable(now));
        }
        found
    }
}

impl Kept {
    fn is_usable(&self, now: OffsetDateTime) -> bool {
        self.retire_at.is_none_or(|at| now < at) && self.connection.is_usable()
    }
}
