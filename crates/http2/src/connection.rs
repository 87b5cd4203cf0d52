//! A connection as its task drives it: what came in, what goes out, and when it ends.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::Context;

use http::request;

use crate::core::{Core, Leaving};
use crate::handles::{Reader, Requests, Shared, Writer};
use crate::{Config, Error};

/// One side of a connection.
///
/// Its task calls [`Self::begin_turn`] first and [`Self::end_turn`] last whenever it is polled,
/// and between them writes what waits, reads what came, and takes up requests.
#[derive(Debug)]
pub struct Connection {
    core: Shared,
}

/// A request that came.
#[derive(Debug)]
pub struct Accepted {
    pub head: Box<request::Parts>,
    /// Its body, if it has one.
    pub body: Option<Reader>,
    pub respond: Writer,
}

impl Connection {
    /// The side that sends requests.
    #[must_use]
    pub fn client(config: Config) -> (Self, Requests) {
        let core = Rc::new(RefCell::new(Core::new(config, true)));
        let requests = Requests::new(Rc::clone(&core));
        (Self { core }, requests)
    }

    /// The side that answers them.
    #[must_use]
    pub fn server(config: Config) -> Self {
        let core = Rc::new(RefCell::new(Core::new(config, false)));
        Self { core }
    }

    /// Until [`Self::end_turn`], nobody wakes the task for output that it is about to see.
    pub fn begin_turn(&self, context: &Context<'_>) {
        let mut core = self.core.borrow_mut();
        core.is_driven = true;
        match &mut core.driver {
            Some(driver) => driver.clone_from(context.waker()),
            driver => *driver = Some(context.waker().clone()),
        }
    }

    /// Has the task polled again after those that are ready now, if there is output: theirs and
    /// this leave in one write. Not if it is `blocked`: then it is woken when it can write.
    pub fn end_turn(&self, blocked: bool) {
        let mut core = self.core.borrow_mut();
        core.is_driven = false;
        if !blocked && !core.output.is_empty() {
            core.wake_driver();
        }
    }

    /// Takes what came from the peer.
    ///
    /// # Errors
    /// Why the connection has to end; the peer is told by what is still to be written.
    pub fn receive(&self, bytes: &[u8]) -> Result<(), Error> {
        self.core.borrow_mut().receive(bytes)
    }

    /// The next request that came, and was not given up meanwhile.
    #[must_use]
    pub fn accept(&self) -> Option<Accepted> {
        let (key, head) = self.core.borrow_mut().accept()?;
        let has_body = self.core.borrow().streams.get(key).handles == 2;
        Some(Accepted {
            head,
            body: has_body.then(|| Reader::new(&self.core, key)),
            respond: Writer::new(&self.core, key),
        })
    }

    /// Whether anything waits to be written.
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.core.borrow().output.is_empty()
    }

    /// Whether so much waits to be written that nothing more should be read. Bodies alone never
    /// come to that: two sides that send them to one another both go on reading.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.core.borrow().output.is_full()
    }

    /// Gives what waits to `write`, which says how much it took.
    pub fn write<T>(&self, write: impl FnOnce(&[u8]) -> (usize, T)) -> T {
        let mut core = self.core.borrow_mut();
        let (count, value) = write(core.output.waiting());
        core.output.wrote(count);
        core.give_turns();
        value
    }

    /// How many streams there are that have not ended, or that somebody has a handle on.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.core.borrow().streams.len()
    }

    /// The peer's preface and settings have come.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.core.borrow().is_established
    }

    /// Leaves in good order: what is in flight finishes.
    pub fn leave(&self) {
        self.core.borrow_mut().leave();
    }

    /// Whether nothing is left to do but to write what waits.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let core = self.core.borrow();
        if core.error.is_some() {
            return true;
        }
        let unused = core.is_client && core.senders == 0;
        let left = core.leaving == Leaving::Closed || unused || core.peer_left.is_some();
        left && core.streams.len() == 0
    }

    /// The connection broke, or the peer closed it: ends every stream.
    pub fn close(&self) {
        self.core.borrow_mut().fail(Error::Closed);
    }

    /// Asks the peer for a sign of life.
    pub fn ping(&self) {
        self.core.borrow_mut().ping();
    }

    /// Whether it gave one since the last time this was asked.
    #[must_use]
    pub fn was_answered(&self) -> bool {
        std::mem::take(&mut self.core.borrow_mut().pong)
    }

    /// To be called every half a minute or so: what a peer may ask for without need is counted
    /// anew.
    pub fn tick(&self) {
        self.core.borrow_mut().tick();
    }
}
