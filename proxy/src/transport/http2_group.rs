//! The HTTP/2 connections to one place: one, until its streams run out.

use std::cell::RefCell;

use time::OffsetDateTime;
use tokio::time::Instant;

use super::failure::Failure;
use super::http2_client::{Http2, Lease};

#[derive(Debug, Default)]
pub(crate) struct Group {
    connections: RefCell<Vec<Kept>>,
    /// Held while dialing, so that a burst of calls opens one connection and not one each.
    dialing: tokio::sync::Mutex<Option<(Instant, Failure)>>,
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

impl Group {
    /// A connection with room for a stream; `dial` opens one, to be used until the time it says.
    ///
    /// # Errors
    /// Why none could be opened, be it for this call or for another that began earlier.
    pub(crate) async fn find(
        &self,
        now: OffsetDateTime,
        dial: impl AsyncFnOnce() -> Result<(Http2, Option<OffsetDateTime>), Failure>,
    ) -> Result<Found, Failure> {
        if let Some(found) = self.free(now) {
            return Ok(found);
        }
        let began = Instant::now();
        let mut last_failure = self.dialing.lock().await;
        if let Some(found) = self.free(now) {
            return Ok(found);
        }
        if let Some((at, failure)) = &*last_failure
            && *at >= began
        {
            return Err(failure.clone());
        }
        match dial().await {
            Ok((connection, retire_at)) => {
                let lease = connection.lease();
                self.connections.borrow_mut().push(Kept {
                    connection: connection.clone(),
                    retire_at,
                });
                Ok(Found {
                    connection,
                    lease,
                    is_fresh: true,
                })
            }
            Err(failure) => {
                *last_failure = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }

    /// Lets go of connections that no new call may use. Whether any is left.
    pub(crate) fn sweep(&self, now: OffsetDateTime) -> bool {
        let mut connections = self.connections.borrow_mut();
        connections.retain_mut(|it| it.is_usable(now));
        !connections.is_empty()
    }

    /// A connection that is open, with room for a stream.
    pub(crate) fn free(&self, now: OffsetDateTime) -> Option<Found> {
        let mut connections = self.connections.borrow_mut();
        let mut ended = false;
        let mut free = connections.iter_mut().filter_map(|it| {
            let usable = it.is_usable(now);
            ended |= !usable;
            (usable && it.connection.is_free()).then_some(it)
        });
        let found = free.next().map(|it| Found {
            connection: it.connection.clone(),
            lease: it.connection.lease(),
            is_fresh: false,
        });
        if ended {
            connections.retain_mut(|it| it.is_usable(now));
        }
        found
    }
}

impl Kept {
    fn is_usable(&mut self, now: OffsetDateTime) -> bool {
        self.retire_at.is_none_or(|at| now < at) && self.connection.is_usable()
    }
}
