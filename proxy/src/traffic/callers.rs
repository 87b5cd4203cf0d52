//! What one port of ours lets in: in flight and per second, in total and for each caller.
//!
//! Invariant: a call that any limit refuses counts for none of them. A caller is the identity
//! that mutual TLS proved. The number of callers remembered is bounded; whoever comes when no
//! place is left shares one account with all such, so a crowd of identities can neither exhaust
//! memory nor escape the limit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use identity::SpiffeId;
use tokio::time::Instant;

use super::bucket::{Bucket, Exhausted};
use super::bulkhead::{Bulkhead, Full, Place};
use super::settings::{self, RateLimit};

/// More callers than this have no account of their own.
const MOST_CALLERS: usize = 4096;

/// The limits of one port, for all workers.
#[derive(Debug)]
pub(crate) struct PortLimits {
    start: Instant,
    in_flight: Arc<Bulkhead>,
    bucket: Bucket,
    accounts: Mutex<HashMap<SpiffeId, Arc<Account>>>,
    shared: Arc<Account>,
    most: usize,
}

/// What one caller uses. A connection looks it up once and keeps it.
#[derive(Debug, Default)]
pub(crate) struct Account {
    in_flight: Arc<Bulkhead>,
    bucket: Bucket,
}

/// A call that may go on; it counts as in flight until this is dropped.
#[derive(Debug)]
pub(crate) struct Entry {
    _all: Place,
    _own: Place,
}

/// Which limit a call met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the port has no room: {0}")]
    Full(Full),
    #[error("this caller has no room: {0}")]
    CallerFull(Full),
    #[error("more requests than the port permits")]
    Rate(Exhausted),
    #[error("more requests than the port permits one caller")]
    CallerRate(Exhausted),
}

impl PortLimits {
    pub(crate) fn new(start: Instant) -> Self {
        Self::with_room_for(MOST_CALLERS, start)
    }

    fn with_room_for(most: usize, start: Instant) -> Self {
        Self {
            start,
            in_flight: Arc::default(),
            bucket: Bucket::default(),
            accounts: Mutex::default(),
            shared: Arc::default(),
            most,
        }
    }

    /// The account of a caller.
    pub(crate) fn account(&self, caller: &SpiffeId, now: Instant) -> Arc<Account> {
        let mut accounts = lock(&self.accounts);
        if let Some(account) = accounts.get(caller) {
            return Arc::clone(account);
        }
        if accounts.len() >= self.most {
            let elapsed = self.elapsed(now);
            accounts.retain(|_, account| !account.is_idle(elapsed));
        }
        if accounts.len() >= self.most {
            return Arc::clone(&self.shared);
        }
        Arc::clone(accounts.entry(caller.clone()).or_default())
    }

    /// Lets a call in. The rate is asked last, since a token spent is gone.
    ///
    /// # Errors
    /// The first limit that has no room.
    pub(crate) fn enter(
        &self,
        account: &Account,
        bulkhead: &settings::Bulkhead,
        rate: &RateLimit,
        now: Instant,
    ) -> Result<Entry, Refused> {
        let own = account.in_flight.enter(bulkhead.per_caller_in_flight);
        let own = own.map_err(Refused::CallerFull)?;
        let all = self.in_flight.enter(bulkhead.in_flight);
        let all = all.map_err(Refused::Full)?;
        let elapsed = self.elapsed(now);
        if let Some(rate) = rate.per_caller {
            account
                .bucket
                .take(rate, elapsed)
                .map_err(Refused::CallerRate)?;
        }
        if let Some(Err(exhausted)) = rate.all.map(|rate| self.bucket.take(rate, elapsed)) {
            if let Some(rate) = rate.per_caller {
                account.bucket.give_back(rate);
            }
            return Err(Refused::Rate(exhausted));
        }
        Ok(Entry {
            _all: all,
            _own: own,
        })
    }

    /// How many are let in now.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.inside()
    }

    /// How many of all callers' requests would be let in at once.
    pub(crate) fn tokens(&self, rate: settings::Rate, now: Instant) -> u64 {
        self.bucket.tokens(rate, self.elapsed(now))
    }

    /// Forgets callers that have nothing in flight, hold no connection and owe nothing.
    pub(crate) fn expire(&self, now: Instant) {
        let elapsed = self.elapsed(now);
        lock(&self.accounts).retain(|_, account| !account.is_idle(elapsed));
    }

    fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }
}

impl Account {
    fn is_idle(self: &Arc<Self>, elapsed: Duration) -> bool {
        Arc::strong_count(self) == 1 && self.in_flight.inside() == 0 && self.bucket.is_full(elapsed)
    }
}

impl Refused {
    /// When to come back, where that is known.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Full(_) | Self::CallerFull(_) => None,
            Self::Rate(it) | Self::CallerRate(it) => Some(it.retry_after),
        }
    }
}

/// Every change under this lock is complete before anything can panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::traffic::settings::{Bulkhead as Room, Rate};

    fn caller(number: usize) -> SpiffeId {
        format!("spiffe://mesh.test/caller/{number}")
            .parse()
            .unwrap()
    }

    fn room(all: u32, own: u32) -> Room {
        Room {
            in_flight: Some(all),
            per_caller_in_flight: Some(own),
            ..Room::default()
        }
    }

    fn rates(all: u32, own: u32) -> RateLimit {
        let rate = |burst| Rate {
            requests_per_second: 1,
            burst,
        };
        RateLimit {
            all: Some(rate(all)),
            per_caller: Some(rate(own)),
        }
    }

    #[test]
    fn a_caller_at_its_limit_leaves_room_for_others() {
        let now = Instant::now();
        let limits = PortLimits::new(now);
        let (one, other) = (
            limits.account(&caller(1), now),
            limits.account(&caller(2), now),
        );
        let enter = |account| limits.enter(account, &room(2, 1), &RateLimit::default(), now);
        let _held = enter(&one).unwrap();
        assert_eq!(
            enter(&one).unwrap_err(),
            Refused::CallerFull(Full { limit: 1 })
        );
        assert!(enter(&other).is_ok());
    }

    #[test]
    fn a_full_port_refuses_a_caller_that_has_room() {
        let now = Instant::now();
        let limits = PortLimits::new(now);
        let (one, other) = (
            limits.account(&caller(1), now),
            limits.account(&caller(2), now),
        );
        let enter = |account| limits.enter(account, &room(1, 1), &RateLimit::default(), now);
        let _held = enter(&one).unwrap();
        assert_eq!(enter(&other).unwrap_err(), Refused::Full(Full { limit: 1 }));
        assert_eq!(other.in_flight.inside(), 0);
    }

    #[test]
    fn what_the_port_refuses_costs_the_caller_no_token() {
        let now = Instant::now();
        let limits = PortLimits::new(now);
        let (one, other) = (
            limits.account(&caller(1), now),
            limits.account(&caller(2), now),
        );
        let enter = |account, rates| limits.enter(account, &Room::default(), rates, now);
        let both = rates(1, 1);
        enter(&one, &both).unwrap();
        assert!(matches!(enter(&other, &both), Err(Refused::Rate(_))));
        let own_alone = RateLimit {
            all: None,
            ..rates(1, 1)
        };
        assert!(enter(&other, &own_alone).is_ok());
        assert!(matches!(
            enter(&other, &own_alone),
            Err(Refused::CallerRate(_))
        ));
    }

    #[test]
    fn one_connection_more_is_no_other_caller() {
        let now = Instant::now();
        let limits = PortLimits::new(now);
        let (first, second) = (
            limits.account(&caller(1), now),
            limits.account(&caller(1), now),
        );
        assert!(Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn callers_beyond_the_bound_share_one_account() {
        let now = Instant::now();
        let limits = PortLimits::with_room_for(1, now);
        let _first = limits.account(&caller(1), now);
        let (second, third) = (
            limits.account(&caller(2), now),
            limits.account(&caller(3), now),
        );
        assert!(Arc::ptr_eq(&second, &third));
    }

    #[test]
    fn an_idle_caller_makes_room_and_one_that_owes_does_not() {
        let now = Instant::now();
        let limits = PortLimits::with_room_for(1, now);
        let first = limits.account(&caller(1), now);
        limits
            .enter(&first, &Room::default(), &rates(9, 1), now)
            .unwrap();
        drop(first);
        limits.expire(now);
        assert!(Arc::ptr_eq(
            &limits.account(&caller(2), now),
            &limits.shared
        ));
        let later = now + Duration::from_secs(1);
        assert!(!Arc::ptr_eq(
            &limits.account(&caller(2), later),
            &limits.shared
        ));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn no_limit_is_exceeded_and_nothing_leaks(
            steps in proptest::collection::vec((0usize..4, any::<bool>()), 0..80),
        ) {
            let now = Instant::now();
            let limits = PortLimits::new(now);
            let mut inside: Vec<(usize, Entry)> = Vec::new();
            for (number, enters) in steps {
                if enters {
                    let account = limits.account(&caller(number), now);
                    let entry = limits.enter(&account, &room(5, 2), &RateLimit::default(), now);
                    inside.extend(entry.ok().map(|entry| (number, entry)));
                } else if !inside.is_empty() {
                    inside.remove(number % inside.len());
                }
                prop_assert!(inside.len() <= 5);
                prop_assert!((0..4).all(|it| inside.iter().filter(|(who, _)| *who == it).count() <= 2));
                prop_assert_eq!(limits.in_flight.inside() as usize, inside.len());
            }
        }
    }
}
