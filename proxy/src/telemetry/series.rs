//! Counts of calls by who called whom, with a bounded number of series.
//!
//! Each worker counts in a shard of its own, so that no two write the same memory; a scrape adds
//! the shards up. Invariant: there are never more series than the limit (and one for each
//! direction and protocol that takes what is beyond it), and no label holds what a caller sent
//! before it was proven or found in the mesh.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::histogram::{Durations, Histogram};
use super::journal::Outcome;
use crate::config::{Label, Metrics};
use crate::failure::Reason;
use crate::record::{Direction, NetworkProtocol};

const REASONS: usize = Reason::ALL.len();
/// None, 1xx to 5xx, and what is no status at all.
const CLASSES: usize = 6;

static OTHER: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("other"));
static ANY: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from(""));

/// Who called whom, how.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) direction: Direction,
    pub(crate) protocol: NetworkProtocol,
    pub(crate) source: Arc<str>,
    pub(crate) target: Arc<str>,
}

/// Where calls between the same two are counted; kept by a connection, so that a call need not
/// look it up. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Series(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    /// By reason (the last one is success), then by class of status.
    outcomes: [[AtomicU64; CLASSES]; REASONS + 1],
    durations: Histogram,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    retries: AtomicU64,
}

/// What one series held at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) outcomes: BTreeMap<(Option<Reason>, StatusClass), u64>,
    pub(crate) durations: Durations,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) retries: u64,
}

/// The hundreds of an HTTP status; 0 where there was none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StatusClass(u8);

/// All series of a proxy.
#[derive(Debug)]
pub(crate) struct Book {
    limit: usize,
    idle: Duration,
    by_source: bool,
    by_target: bool,
    shards: Mutex<Vec<Arc<Shard>>>,
    /// In how many shards each key is.
    keys: Mutex<HashMap<Key, usize>>,
    overflowed: AtomicU64,
}

/// The series of one worker.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    series: Mutex<HashMap<Key, Entry>>,
}

#[derive(Debug)]
struct Entry {
    series: Series,
    /// How many calls it held at the last look, and when that was first so.
    seen: u64,
    since: Instant,
}

impl Book {
    pub(crate) fn new(config: &Metrics) -> Self {
        Self {
            limit: config.series,
            idle: config.idle.duration(),
            by_source: config.labels.contains(&Label::Source),
            by_target: config.labels.contains(&Label::Target),
            shards: Mutex::default(),
            keys: Mutex::default(),
            overflowed: AtomicU64::new(0),
        }
    }

    /// Another worker's shard.
    pub(crate) fn shard(&self) -> Arc<Shard> {
        let shard = Arc::<Shard>::default();
        lock(&self.shards).push(Arc::clone(&shard));
        shard
    }

    /// Where calls with this key are counted by the shard's worker.
    pub(crate) fn series(&self, shard: &Shard, key: Key) -> Series {
        let key = self.narrowed(key);
        let mut series = lock(&shard.series);
        if let Some(entry) = series.get(&key) {
            return entry.series.clone();
        }
        let key = self.admitted(&series, key);
        let entry = series.entry(key).or_insert_with(|| Entry {
            series: Series(Arc::default()),
            seen: 0,
            since: Instant::now(),
        });
        entry.series.clone()
    }

    /// All shards together.
    pub(crate) fn read(&self) -> BTreeMap<Key, Totals> {
        let mut all: BTreeMap<Key, Totals> = BTreeMap::new();
        for shard in lock(&self.shards).iter() {
            for (key, entry) in lock(&shard.series).iter() {
                entry.series.add_to(all.entry(key.clone()).or_default());
            }
        }
        all
    }

    /// Forgets series that nobody holds and that have not counted for a while.
    pub(crate) fn expire(&self, now: Instant) {
        for shard in lock(&self.shards).iter() {
            lock(&shard.series).retain(|key, entry| {
                let kept = entry.is_kept(now, self.idle);
                if !kept {
                    release(&mut lock(&self.keys), key);
                }
                kept
            });
        }
    }

    /// How many series there are, and how many lookups found no room for another.
    pub(crate) fn size(&self) -> (usize, u64) {
        let overflowed = self.overflowed.load(Ordering::Relaxed);
        (lock(&self.keys).len(), overflowed)
    }

    fn narrowed(&self, mut key: Key) -> Key {
        if !self.by_source {
            key.source = Arc::clone(&ANY);
        }
        if !self.by_target {
            key.target = Arc::clone(&ANY);
        }
        key
    }

    /// The key, or with `other` in place of the source, and of the target too if need be. The
    /// last eighth of the room is for the former, so that a flood of callers hides no target.
    fn admitted(&self, present: &HashMap<Key, Entry>, key: Key) -> Key {
        let mut keys = lock(&self.keys);
        if keys.contains_key(&key) || keys.len() < self.limit - self.limit / 8 {
            *keys.entry(key.clone()).or_default() += 1;
            return key;
        }
        self.overflowed.fetch_add(1, Ordering::Relaxed);
        let mut other = Key {
            source: Arc::clone(&OTHER),
            ..key
        };
        if !keys.contains_key(&other) && keys.len() >= self.limit {
            other.target = Arc::clone(&OTHER);
        }
        if !present.contains_key(&other) {
            *keys.entry(other.clone()).or_default() += 1;
        }
        other
    }
}

impl Series {
    pub(crate) fn count(&self, outcome: &Outcome) {
        let counts = &self.0;
        let reason = outcome.reason.map_or(REASONS, |reason| reason as usize);
        let class = usize::from(StatusClass::of(outcome.status).0);
        counts.outcomes[reason][class].fetch_add(1, Ordering::Relaxed);
        counts.durations.observe(outcome.duration);
        counts
            .bytes_in
            .fetch_add(outcome.bytes_in, Ordering::Relaxed);
        counts
            .bytes_out
            .fetch_add(outcome.bytes_out, Ordering::Relaxed);
        if outcome.retries > 0 {
            let retries = u64::from(outcome.retries);
            counts.retries.fetch_add(retries, Ordering::Relaxed);
        }
    }

    fn calls(&self) -> u64 {
        let counts = self.0.outcomes.iter().flatten();
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    fn add_to(&self, totals: &mut Totals) {
        for (at, classes) in self.0.outcomes.iter().enumerate() {
            let reason = Reason::ALL.get(at).copied();
            for (class, count) in (0..).zip(classes) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let outcome = (reason, StatusClass(class));
                    *totals.outcomes.entry(outcome).or_default() += count;
                }
            }
        }
        totals.durations.add(&self.0.durations.read());
        totals.bytes_in += self.0.bytes_in.load(Ordering::Relaxed);
        totals.bytes_out += self.0.bytes_out.load(Ordering::Relaxed);
        totals.retries += self.0.retries.load(Ordering::Relaxed);
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            outcomes: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
            durations: Histogram::default(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            retries: AtomicU64::new(0),
        }
    }
}

impl Entry {
    fn is_kept(&mut self, now: Instant, idle: Duration) -> bool {
        let calls = self.series.calls();
        let is_held = Arc::strong_count(&self.series.0) > 1;
        if is_held || calls != self.seen {
            self.seen = calls;
            self.since = now;
        }
        now.saturating_duration_since(self.since) < idle
    }
}

impl StatusClass {
    fn of(status: Option<u16>) -> Self {
        let hundreds = status.map_or(0, |status| status / 100);
        Self(u8::try_from(hundreds).map_or(0, |it| if it < 6 { it } else { 0 }))
    }

    /// As `2xx`; empty where there was no status.
    pub(crate) fn as_str(self) -> &'static str {
        ["", "1xx", "2xx", "3xx", "4xx", "5xx"][usize::from(self.0)]
    }
}

fn release(keys: &mut HashMap<Key, usize>, key: &Key) {
    if let Some(shards) = keys.get_mut(key) {
        *shards -= 1;
        if *shards == 0 {
            keys.remove(key);
        }
    }
}

/// Every change under these locks is complete before anything can panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn book(series: usize) -> Book {
        Book::new(&Metrics {
            series,
            ..Metrics::default()
        })
    }

    fn key(source: &str, target: &str) -> Key {
        Key {
            direction: Direction::Inbound,
            protocol: NetworkProtocol::Http1,
            source: source.into(),
            target: target.into(),
        }
    }

    fn outcome(status: u16) -> Outcome {
        Outcome {
            reason: None,
            status: Some(status),
            duration: Duration::from_millis(1),
            bytes_in: 0,
            bytes_out: 0,
            retries: 0,
        }
    }

    fn calls(totals: &Totals) -> u64 {
        totals.outcomes.values().sum()
    }

    #[test]
    fn a_flood_of_callers_takes_no_more_series_than_the_limit_and_loses_no_count() {
        let book = book(16);
        let shard = book.shard();
        for caller in 0..1000 {
            let key = key(&format!("spiffe://td/{caller}"), "shop/orders:http");
            book.series(&shard, key).count(&outcome(200));
        }
        let read = book.read();
        assert_eq!((read.len(), book.size()), (15, (15, 986)));
        assert_eq!(calls(&read[&key("other", "shop/orders:http")]), 986);
        assert_eq!(read.values().map(calls).sum::<u64>(), 1000);
    }

    #[test]
    fn a_flood_of_targets_ends_as_other() {
        let book = book(8);
        let shard = book.shard();
        for target in 0..100 {
            let key = key("spiffe://td/a", &format!("shop/s{target}:http"));
            book.series(&shard, key).count(&outcome(200));
        }
        let read = book.read();
        assert_eq!(read.len(), 9);
        assert_eq!(calls(&read[&key("other", "other")]), 92);
    }

    #[test]
    fn a_label_that_is_not_listed_takes_no_series() {
        let book = Book::new(&Metrics {
            labels: BTreeSet::from([Label::Target]),
            ..Metrics::default()
        });
        let shard = book.shard();
        for caller in 0..3 {
            let key = key(&format!("spiffe://td/{caller}"), "shop/orders:http");
            book.series(&shard, key).count(&outcome(200));
        }
        assert_eq!(calls(&book.read()[&key("", "shop/orders:http")]), 3);
    }

    #[test]
    fn an_idle_series_is_forgotten_and_one_that_is_held_is_not() {
        let book = book(10);
        let shard = book.shard();
        book.series(&shard, key("spiffe://td/idle", "a"))
            .count(&outcome(200));
        let held = book.series(&shard, key("spiffe://td/held", "a"));
        let begin = Instant::now();
        book.expire(begin);
        book.expire(begin + Duration::from_secs(24 * 3600));
        assert_eq!(
            book.read().into_keys().collect::<Vec<_>>(),
            [key("spiffe://td/held", "a")]
        );
        drop(held);
        book.expire(begin + Duration::from_secs(48 * 3600));
        assert_eq!((book.read().len(), book.size().0), (0, 0));
    }

    #[test]
    fn a_status_out_of_range_has_no_class() {
        let classes = [None, Some(99), Some(204), Some(503), Some(999)];
        let names = classes.map(|status| StatusClass::of(status).as_str());
        assert_eq!(names, ["", "", "2xx", "5xx", ""]);
    }
}
