//! Which announcements wait for their confirmation: until the callers of this replica are told, and
//! those of every other replica that lives, or until that has taken too long.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use identity::SpiffeId;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::store::AnnouncedChange;

/// Nobody waits longer for replicas that cannot be told; they are told when they can.
const WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Confirmations {
    /// Whether there may be other replicas.
    shared: bool,
    waiting: Vec<Waiting>,
    /// Up to which stamp of ours each other replica has told its callers.
    told: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct Waiting {
    agent: SpiffeId,
    since: Instant,
    published: bool,
    written: Written,
    done: oneshot::Sender<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Not,
    Soon,
    As(u64),
}

impl Confirmations {
    pub(super) fn new(shared: bool) -> Self {
        Self {
            shared,
            waiting: Vec::new(),
            told: BTreeMap::new(),
        }
    }

    pub(super) fn wait(&mut self, agent: SpiffeId, done: oneshot::Sender<()>, since: Instant) {
        self.waiting.push(Waiting {
            agent,
            since,
            published: false,
            written: Written::Not,
            done,
        });
    }

    /// The callers of this replica are told of everything.
    pub(super) fn published(&mut self) {
        for waiting in &mut self.waiting {
            waiting.published = true;
        }
    }

    pub(super) fn being_written(&mut self, changes: &[AnnouncedChange]) {
        self.advance(changes, Written::Not, Written::Soon);
    }

    pub(super) fn written(&mut self, changes: &[AnnouncedChange], stamp: Option<u64>) {
        let next = stamp.map_or(Written::Not, Written::As);
        self.advance(changes, Written::Soon, next);
    }

    pub(super) fn told(&mut self, by: String, stamp: u64) {
        let told = self.told.entry(by).or_default();
        *told = stamp.max(*told);
    }

    /// Lets go who has waited for what has happened.
    pub(super) fn settle<'a>(&mut self, others: impl Iterator<Item = &'a str>, now: Instant) {
        let everywhere = others
            .map(|other| self.told.get(other).copied().unwrap_or_default())
            .min()
            .unwrap_or(u64::MAX);
        let shared = self.shared;
        let over = |waiting: &mut Waiting| match (waiting.published, waiting.written) {
            (false, _) => false,
            (true, Written::As(stamp)) if stamp <= everywhere => true,
            (true, _) => !shared || now >= waiting.since + WITHIN,
        };
        for waiting in self.waiting.extract_if(.., over) {
            // A stream that has ended waits no more.
            let _nobody = waiting.done.send(());
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let published = self.waiting.iter().filter(|it| it.published);
        published.map(|it| it.since + WITHIN).min()
    }

    fn advance(&mut self, changes: &[AnnouncedChange], from: Written, to: Written) {
        let changed: BTreeSet<_> = changes.iter().map(|it| &it.agent).collect();
        for waiting in &mut self.waiting {
            if waiting.written == from && changed.contains(&waiting.agent) {
                waiting.written = to;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> SpiffeId {
        "spiffe://td/countersign/agent/join-token/a"
            .parse()
            .unwrap()
    }

    fn written(confirmations: &mut Confirmations, stamp: Option<u64>) {
        let change = AnnouncedChange {
            agent: agent(),
            connected: true,
            list: None,
        };
        confirmations.being_written(std::slice::from_ref(&change));
        confirmations.published();
        confirmations.written(&[change], stamp);
    }

    fn waiting(shared: bool) -> (Confirmations, oneshot::Receiver<()>, Instant) {
        let (mut confirmations, now) = (Confirmations::new(shared), Instant::now());
        let (done, waiting) = oneshot::channel();
        confirmations.wait(agent(), done, now);
        (confirmations, waiting, now)
    }

    #[test]
    fn a_lone_replica_confirms_what_it_has_published() {
        let (mut confirmations, mut waiting, now) = waiting(false);
        confirmations.settle(std::iter::empty(), now);
        assert!(waiting.try_recv().is_err());
        confirmations.published();
        confirmations.settle(std::iter::empty(), now);
        assert!(waiting.try_recv().is_ok());
    }

    #[test]
    fn one_of_several_waits_until_each_other_has_told_its_callers() {
        let (mut confirmations, mut waiting, now) = waiting(true);
        written(&mut confirmations, Some(7));
        confirmations.told("ca-2".to_owned(), 7);
        confirmations.told("ca-3".to_owned(), 6);
        confirmations.settle(["ca-2", "ca-3"].into_iter(), now);
        assert!(waiting.try_recv().is_err());
        confirmations.told("ca-3".to_owned(), 8);
        confirmations.settle(["ca-2", "ca-3"].into_iter(), now);
        assert!(waiting.try_recv().is_ok());
    }

    #[test]
    fn what_cannot_be_written_holds_nobody_up_for_good() {
        let (mut confirmations, mut waiting, now) = waiting(true);
        written(&mut confirmations, None);
        confirmations.settle(std::iter::empty(), now);
        assert!(waiting.try_recv().is_err());
        assert_eq!(confirmations.next_deadline(), Some(now + WITHIN));
        confirmations.settle(std::iter::empty(), now + WITHIN);
        assert!(waiting.try_recv().is_ok());
    }
}
