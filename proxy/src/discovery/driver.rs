//! Asks for the names that are followed, each when it is due.
//!
//! Invariant: at most [`MOST_AT_ONCE`] questions are on their way; a name that nobody follows any
//! more is asked for no longer than [`LINGER`].

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use crypto::random::SystemRandom;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::lookup::Family;
use super::slot::{Bounds, Heard, Slot, together};
use super::{Discovery, HostName, Resolvers};

const MOST_AT_ONCE: usize = 16;
/// Who asked once may ask again soon.
const LINGER: Duration = Duration::from_secs(60);

/// The task behind a [`Discovery`].
#[derive(Debug)]
pub(crate) struct Driver {
    discovery: Discovery,
    resolvers: Resolvers,
    bounds: Bounds,
    names: HashMap<HostName, Name>,
}

#[derive(Debug)]
struct Name {
    slots: [Slot; 2],
    asking: [bool; 2],
    /// Since when nobody follows it.
    unused: Option<Instant>,
}

impl Driver {
    pub(crate) fn new(discovery: Discovery, resolvers: Resolvers, bounds: Bounds) -> Self {
        Self {
            discovery,
            resolvers,
            bounds,
            names: HashMap::new(),
        }
    }

    /// Runs until `stop`.
    ///
    /// # Errors
    /// Never.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), Infallible> {
        tokio::select! {
            () = stop => Ok(()),
            never = self.follow() => match never {},
        }
    }

    async fn follow(&mut self) -> Infallible {
        let discovery = self.discovery.clone();
        let mut asking = JoinSet::new();
        loop {
            let now = Instant::now();
            self.take_up(now);
            self.ask(&mut asking, now);
            let next = self.next_due();
            let room = asking.len() < MOST_AT_ONCE;
            tokio::select! {
                () = discovery.inner.news.notified() => {}
                Some(answered) = asking.join_next() => {
                    // A lookup that panicked is asked for again when its name is taken up anew.
                    if let Ok((name, index, heard)) = answered {
                        self.hear(&name, index, heard);
                    }
                }
                () = sleep_until(next.unwrap_or(now)), if room && next.is_some() => {}
            }
        }
    }

    /// Follows what is new, and lets go of what nobody follows.
    fn take_up(&mut self, now: Instant) {
        for (name, is_followed) in self.discovery.names() {
            let known = self.names.entry(name.clone()).or_insert_with(|| Name {
                slots: [Slot::new(now), Slot::new(now)],
                asking: [false; 2],
                unused: None,
            });
            known.unused = match is_followed {
                true => None,
                false => Some(known.unused.unwrap_or(now)),
            };
            let lingers = known.unused.is_none_or(|since| now < since + LINGER);
            if !lingers && self.discovery.forget(&name) {
                self.names.remove(&name);
            }
        }
    }

    fn ask(&mut self, asking: &mut JoinSet<(HostName, usize, Heard)>, now: Instant) {
        for (name, known) in &mut self.names {
            for (index, family) in Family::ALL.into_iter().enumerate() {
                let due = !known.asking[index] && known.slots[index].due() <= now;
                if !due || asking.len() >= MOST_AT_ONCE {
                    continue;
                }
                known.asking[index] = true;
                let (name, resolvers) = (name.clone(), self.resolvers.clone());
                asking.spawn(async move {
                    let heard = resolvers.look_up(&name, family).await;
                    (name, index, heard)
                });
            }
        }
    }

    fn hear(&mut self, name: &HostName, index: usize, heard: Heard) {
        let Some(known) = self.names.get_mut(name) else {
            return;
        };
        known.asking[index] = false;
        let now = Instant::now();
        known.slots[index].hear(heard, &self.bounds, now, &mut SystemRandom);
        self.discovery.publish(name, together(&known.slots));
    }

    fn next_due(&self) -> Option<Instant> {
        let waiting = self.names.values().flat_map(|known| {
            let slots = known.slots.iter().zip(known.asking);
            let waiting = slots.filter(|(_, asking)| !asking);
            waiting.map(|(slot, _)| slot.due())
        });
        waiting.min()
    }
}
