//! Bounds on what costs a peer nothing and us work.

/// Streams that were reset before they were answered, by the peer or because it broke a rule on
/// them, less those that were: a caller that gives up now and then stays far below.
const MOST_GIVEN_UP: u32 = 500;

/// Frames that change nothing, between two looks of the connection's task at its clock.
const MOST_IDLE: u32 = 10_000;

/// Of one block of fields.
const MOST_CONTINUATIONS: u32 = 32;

#[derive(Debug, Default)]
pub(crate) struct Flood {
    given_up: u32,
    idle: u32,
}

impl Flood {
    /// A stream was answered.
    pub(crate) fn answered(&mut self) {
        self.given_up = self.given_up.saturating_sub(1);
    }

    /// A stream was reset before it was answered; no if that is too often.
    #[must_use]
    pub(crate) fn gives_up(&mut self) -> bool {
        self.given_up += 1;
        self.given_up <= MOST_GIVEN_UP
    }

    /// A frame that asks for nothing that a caller waits for; no if there are too many.
    #[must_use]
    pub(crate) fn idles(&mut self) -> bool {
        self.idle += 1;
        self.idle <= MOST_IDLE
    }

    pub(crate) fn tick(&mut self) {
        self.idle = 0;
    }

    #[must_use]
    pub(crate) fn is_continued(frames: u32) -> bool {
        frames <= MOST_CONTINUATIONS
    }
}
