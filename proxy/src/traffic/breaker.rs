//! When an endpoint is left alone, and how it comes back.
//!
//! Invariant: an ejected endpoint gets no request before its time is over, then exactly one; the
//! outcome of that one decides. Whether an ejection may happen at all, the set of endpoints
//! says, and no other: the breaker asks, and is told.

use std::time::Duration;

use tokio::time::Instant;

use self::window::Window;
use super::settings::Breaker as Settings;

mod window;

/// An ejection lasts at most this long, unless the first is meant to last longer.
const LONGEST: Duration = Duration::from_secs(300);

/// An endpoint that is back gets at least this share of what the others get.
const SLOWEST_START: f64 = 0.1;

/// One endpoint's failures, and what followed from them.
#[derive(Clone, Debug)]
pub(crate) struct Breaker {
    state: State,
    consecutive: u32,
    window: Window,
    /// Ejections in a row; how long the next lasts follows from it.
    ejections: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In use; since when, if it came back from an ejection.
    Closed(Option<Instant>),
    /// Left alone until then.
    Ejected(Instant),
    /// One request is on its way, and decides.
    Probing,
}

/// What the endpoint may get now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Access {
    /// Requests, at this share of what the others get, above 0 and at most 1.
    Open(f64),
    /// One request, which decides.
    Probe,
    Nothing,
}

/// What an outcome asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keep,
    /// Too many failures: call [`Breaker::eject`] if it may be missing.
    Eject,
}

impl Breaker {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Closed(None),
            consecutive: 0,
            window: Window::default(),
            ejections: 0,
        }
    }

    pub(crate) fn access(&self, settings: &Settings, now: Instant) -> Access {
        match self.state {
            State::Closed(None) => Access::Open(1.0),
            State::Closed(Some(since)) => Access::Open(slow_start(settings, since, now)),
            State::Ejected(until) if now >= until => Access::Probe,
            State::Ejected(_) | State::Probing => Access::Nothing,
        }
    }

    /// Whether it counts as missing, be it on probation.
    pub(crate) fn is_ejected(&self) -> bool {
        !matches!(self.state, State::Closed(_))
    }

    /// When [`Breaker::access`] changes by itself, if it does.
    pub(crate) fn probe_at(&self) -> Option<Instant> {
        match self.state {
            State::Ejected(until) => Some(until),
            _ => None,
        }
    }

    /// The one request is on its way. Returns false if it is not due.
    pub(crate) fn begin_probe(&mut self, now: Instant) -> bool {
        let due = matches!(self.state, State::Ejected(until) if now >= until);
        if due {
            self.state = State::Probing;
        }
        due
    }

    /// The endpoint comes back from elsewhere than an ejection, and starts as slowly as after one.
    pub(crate) fn begin_slowly(&mut self, now: Instant) {
        if !self.is_ejected() {
            self.state = State::Closed(Some(now));
            self.consecutive = 0;
            self.window = Window::default();
        }
    }

    /// How the probe ended; `None` if nothing was learnt from it, so that the next request is
    /// the probe.
    pub(crate) fn end_probe(&mut self, success: Option<bool>, settings: &Settings, now: Instant) {
        if self.state != State::Probing {
            return;
        }
        match success {
            None => self.state = State::Ejected(now),
            Some(false) => self.eject(settings, now),
            Some(true) => {
                self.state = State::Closed(Some(now));
                self.consecutive = 0;
                self.window = Window::default();
            }
        }
    }

    /// A request that was no probe ended.
    pub(crate) fn record(&mut self, success: bool, settings: &Settings, now: Instant) -> Verdict {
        if self.is_ejected() {
            return Verdict::Keep;
        }
        if success {
            self.consecutive = 0;
            self.forgive(settings, now);
        } else {
            self.consecutive = self.consecutive.saturating_add(1);
        }
        let row = settings
            .consecutive_failures
            .is_some_and(|limit| self.consecutive >= limit.max(1));
        let rate = settings.success_rate.is_some_and(|rate| {
            self.window.record(success, rate.over, now);
            self.window.is_below(&rate)
        });
        if !success && (row || rate) {
            Verdict::Eject
        } else {
            Verdict::Keep
        }
    }

    /// Leaves the endpoint alone, twice as long as the last time if that was not long ago.
    pub(crate) fn eject(&mut self, settings: &Settings, now: Instant) {
        let factor = 1u32.checked_shl(self.ejections).unwrap_or(u32::MAX);
        let longest = LONGEST.max(settings.eject_for);
        let time = settings.eject_for.saturating_mul(factor).min(longest);
        self.ejections = self.ejections.saturating_add(1);
        self.state = State::Ejected(now + time);
    }

    /// An endpoint that did well for as long as its last ejection begins anew.
    fn forgive(&mut self, settings: &Settings, now: Instant) {
        let State::Closed(Some(since)) = self.state else {
            return;
        };
        let factor = 1u32
            .checked_shl(self.ejections.saturating_sub(1))
            .unwrap_or(u32::MAX);
        let last = settings.eject_for.saturating_mul(factor).min(LONGEST);
        if now.saturating_duration_since(since) >= last.max(settings.eject_for) {
            self.state = State::Closed(None);
            self.ejections = 0;
        }
    }
}

/// An endpoint that is back gets its full share after as long as a first ejection lasts.
fn slow_start(settings: &Settings, since: Instant, now: Instant) -> f64 {
    let elapsed = now.saturating_duration_since(since).as_secs_f64();
    let whole = settings.eject_for.as_secs_f64();
    if elapsed >= whole {
        1.0
    } else {
        (elapsed / whole).max(SLOWEST_START)
    }
}

#[cfg(test)]
mod tests;
