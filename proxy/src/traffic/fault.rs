//! Failures that a Route asks for, to learn how callers bear them.

use std::time::Duration;

use crypto::random::Random;
use http::StatusCode;

use super::settings::Fault;

/// What happens to one call: first the delay, then the abort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Injected {
    pub delay: Option<Duration>,
    pub abort: Option<StatusCode>,
}

impl Fault {
    /// Delay and abort are drawn independently.
    pub(crate) fn draw(&self, random: &mut dyn Random) -> Injected {
        let delay = self.delay.filter(|(share, _)| share.strikes(random));
        let abort = self.abort.filter(|(share, _)| share.strikes(random));
        Injected {
            delay: delay.map(|(_, by)| by),
            abort: abort.map(|(_, status)| status),
        }
    }
}

#[cfg(test)]
mod tests {
    use crypto::random::SeededRandom;

    use super::*;
    use crate::traffic::chance::Percent;

    fn percent(share: f64) -> Percent {
        Percent::new(share).unwrap()
    }

    #[test]
    fn without_a_fault_nothing_is_injected() {
        let injected = Fault::default().draw(&mut SeededRandom::new(1));
        assert_eq!(injected, Injected::default());
    }

    #[test]
    fn delay_and_abort_strike_independently() {
        let fault = Fault {
            delay: Some((percent(50.0), Duration::from_secs(1))),
            abort: Some((percent(50.0), StatusCode::IM_A_TEAPOT)),
        };
        let mut random = SeededRandom::new(4);
        let drawn: Vec<Injected> = (0..1000).map(|_| fault.draw(&mut random)).collect();
        for (delayed, aborted) in [(false, false), (false, true), (true, false), (true, true)] {
            let alike =
                |it: &&Injected| (it.delay.is_some(), it.abort.is_some()) == (delayed, aborted);
            let count = drawn.iter().filter(alike).count();
            assert!((180..320).contains(&count), "{delayed} {aborted}: {count}");
        }
    }
}
