//! What is going on right now, so that it can be ended.
//!
//! Invariant: a stream that was judged is in the table before it is let through, under the
//! version of the configuration that judged it. A newer version judges every entry again before
//! it counts as applied, so no stream outlives the policy that permitted it. Connections between
//! proxies are known too (`bonds`), and what rests on one is ended with the trust in its peer.

mod bonds;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::admit::{Inputs, JudgedRequest};
use crate::external::WayOut;
use crate::failure::Reason;
use crate::trust::Vouched;
use bonds::Bonds;

pub(crate) use bonds::Bond;

/// The table of live streams, in one shard for each worker. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    shards: Arc<[Shard]>,
}

/// What one worker carries. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shard {
    table: Arc<Mutex<Table>>,
    bonds: Bonds,
}

#[derive(Debug, Default)]
struct Table {
    version: u64,
    streams: Vec<Option<Arc<Stream>>>,
    free: Vec<usize>,
}

/// One request or connection: how much it moved, when it last did, and whether it was ended.
#[derive(Debug)]
pub(crate) struct Stream {
    started: Instant,
    touched_ms: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// The task that carries it; it has one.
    carrier: AtomicWaker,
    reason: OnceLock<Reason>,
    own: OnceLock<Own>,
    judged: Option<Judged>,
    /// Of a stream that leaves the mesh: what leads it.
    way_out: Option<WayOut>,
    /// The server of a call that has a connection of its own.
    server: Mutex<Option<Vouched>>,
}

/// Limits of one stream alone, in place of everybody's.
#[derive(Debug)]
struct Own {
    total: Option<Duration>,
    idle: Option<Duration>,
}

/// What a stream was permitted by, for the next judgement.
#[derive(Debug)]
pub(crate) struct Judged {
    pub inputs: Inputs,
    /// The end of the peer's certificate.
    pub not_after: OffsetDateTime,
}

/// Keeps a stream in the table while it lives.
#[derive(Debug)]
pub(crate) struct Ticket {
    shard: Shard,
    key: usize,
    stream: Arc<Stream>,
}

/// The configuration changed between the judgement and the entry: judge again.
#[derive(Debug)]
pub(crate) struct Stale(pub Box<Inputs>);

/// What time does to streams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sweep {
    pub now: OffsetDateTime,
    /// How long ago the CA was last heard; none if never.
    pub feed_age: Option<Duration>,
    /// The life of a leaf of ours: how long an unheard CA is believed to have said nothing.
    pub leaf_life: Duration,
    pub idle: Duration,
    pub total: Duration,
}

impl Live {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            shards: (0..workers.max(1)).map(|_| Shard::default()).collect(),
        }
    }

    /// The share of a worker; workers beyond the last share with others.
    pub(crate) fn shard(&self, worker: usize) -> Shard {
        self.shards[worker % self.shards.len()].clone()
    }

    /// Puts a version in force and ends what it does not permit, with the reason that it gives. When
    /// this returns, nothing lives by an older version, and nothing goes on with a peer that `holds`
    /// no more. Returns how many streams and connections it ended.
    pub(crate) fn judge_again(
        &self,
        version: u64,
        permits: impl Fn(&Inputs) -> Result<(), Reason>,
        holds: impl Fn(&Vouched) -> Result<(), Reason>,
    ) -> usize {
        let shards = self.shards.iter();
        shards
            .map(|it| it.judge_again(version, &permits, &holds) + it.bonds.judge_again(&holds))
            .sum()
    }

    /// Ends what leaves the mesh by a way that is not open any more. Returns how many streams it
    /// ended.
    pub(crate) fn close_ways_out(&self, is_open: impl Fn(&WayOut) -> bool) -> usize {
        let shards = self.shards.iter();
        shards.map(|it| it.close_ways_out(&is_open)).sum()
    }

    /// Ends what has lived, idled or outlived its certificate for too long.
    pub(crate) fn sweep(&self, sweep: &Sweep) -> usize {
        self.shards.iter().map(|it| it.sweep(sweep)).sum()
    }

    pub(crate) fn count(&self) -> usize {
        self.shards.iter().map(Shard::count).sum()
    }
}

impl Shard {
    /// Enters a stream that configuration `version` permitted. A version that is about to be put
    /// in force will do: it is judged again then.
    ///
    /// # Errors
    /// If a newer version is in force.
    pub(crate) fn enter(
        &self,
        version: u64,
        judged: Judged,
        now: Instant,
    ) -> Result<Ticket, Stale> {
        let mut table = lock(&self.table);
        if version < table.version {
            return Err(Stale(Box::new(judged.inputs)));
        }
        Ok(self.insert(&mut table, Some(judged), None, now))
    }

    /// Enters a stream that leaves the mesh as configuration `version` lets it; none if a newer
    /// version is in force.
    pub(crate) fn enter_outside(&self, version: u64, way: &WayOut, now: Instant) -> Option<Ticket> {
        let mut table = lock(&self.table);
        (version >= table.version).then(|| self.insert(&mut table, None, Some(way.clone()), now))
    }

    /// Enters a stream that no policy here judges: a call of our own workload.
    pub(crate) fn enter_unjudged(&self, now: Instant) -> Ticket {
        self.insert(&mut lock(&self.table), None, None, now)
    }

    /// Enters a connection to or from another proxy.
    pub(crate) fn bind(&self, peer: Vouched) -> Bond {
        self.bonds.enter(peer)
    }

    fn judge_again(
        &self,
        version: u64,
        permits: &impl Fn(&Inputs) -> Result<(), Reason>,
        holds: &impl Fn(&Vouched) -> Result<(), Reason>,
    ) -> usize {
        let mut table = lock(&self.table);
        table.version = version;
        let denied = table.streams.iter().flatten().filter_map(|stream| {
            let judged = stream.judged.as_ref();
            let denied = judged.and_then(|it| permits(&it.inputs).err());
            let lost = || stream.server.lock().ok()?.as_ref().map(holds)?.err();
            Some((stream, denied.or_else(lost)?))
        });
        denied.map(|(stream, reason)| stream.end(reason)).count()
    }

    fn close_ways_out(&self, is_open: &impl Fn(&WayOut) -> bool) -> usize {
        let table = lock(&self.table);
        let streams = table.streams.iter().flatten();
        let closed = streams.filter(|stream| !stream.way_out.as_ref().is_none_or(is_open));
        closed
            .map(|stream| stream.end(Reason::PolicyDenied))
            .count()
    }

    fn sweep(&self, sweep: &Sweep) -> usize {
        let now = Instant::now();
        let table = lock(&self.table);
        let streams = table.streams.iter().flatten();
        let due = streams.filter_map(|stream| Some((stream, stream.due(sweep, now)?)));
        due.map(|(stream, reason)| stream.end(reason)).count()
    }

    fn count(&self) -> usize {
        let table = lock(&self.table);
        table.streams.len() - table.free.len()
    }

    fn insert(
        &self,
        table: &mut Table,
        judged: Option<Judged>,
        way_out: Option<WayOut>,
        now: Instant,
    ) -> Ticket {
        let stream = Arc::new(Stream {
            started: now,
            touched_ms: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            carrier: AtomicWaker::new(),
            reason: OnceLock::new(),
            own: OnceLock::new(),
            judged,
            way_out,
            server: Mutex::new(None),
        });
        let entry = Some(Arc::clone(&stream));
        let key = match table.free.pop() {
            Some(key) => {
                table.streams[key] = entry;
                key
            }
            None => {
                table.streams.push(entry);
                table.streams.len() - 1
            }
        };
        Ticket {
            shard: self.clone(),
            key,
            stream,
        }
    }
}

impl Stream {
    /// Body bytes from the caller.
    pub(crate) fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    /// Body bytes to the caller.
    pub(crate) fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Ordering::Relaxed)
    }

    pub(crate) fn count_in(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
        self.touch();
    }

    pub(crate) fn count_out(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
        self.touch();
    }

    /// The canonical path that it was judged by, if it is an HTTP request that was judged.
    pub(crate) fn judged_path(&self) -> Option<&str> {
        match &self.judged.as_ref()?.inputs.request {
            JudgedRequest::Http { path, .. } => Some(path.as_str()),
            JudgedRequest::Connection | JudgedRequest::Check => None,
        }
    }

    /// From now on it ends with the trust in this server: the connection to it is its own.
    pub(crate) fn rest_on(&self, server: Vouched) {
        let mut known = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(server);
    }

    /// From now on, the limits that are given hold for this stream instead of everybody's.
    pub(crate) fn limit(&self, total: Option<Duration>, idle: Option<Duration>) {
        // The first limits stay: a stream is one call.
        let _first = self.own.get_or_init(|| Own { total, idle });
    }

    /// Why it was ended, if it was.
    pub(crate) fn reason(&self) -> Option<Reason> {
        self.reason.get().copied()
    }

    /// Ready with the reason once it is ended from outside. The task that polled last is woken.
    pub(crate) fn poll_ended(&self, context: &Context<'_>) -> Poll<Reason> {
        if let Some(reason) = self.reason() {
            return Poll::Ready(reason);
        }
        self.carrier.register(context.waker());
        // It may have ended before the waker was there.
        self.reason().map_or(Poll::Pending, Poll::Ready)
    }

    /// When the first of its own limits ends it, unless another byte moves: never, if it has none.
    pub(crate) fn own_end(&self) -> Option<Instant> {
        let own = self.own.get()?;
        let total = own.total.map(|total| self.started + total);
        let touched = Duration::from_millis(self.touched_ms.load(Ordering::Relaxed));
        let idle = own.idle.map(|idle| self.started + touched + idle);
        match (total, idle) {
            (Some(total), Some(idle)) => Some(total.min(idle)),
            (total, idle) => total.or(idle),
        }
    }

    /// A limit of its own has passed.
    pub(crate) fn exceed(&self) {
        self.end(Reason::Deadline);
    }

    fn end(&self, reason: Reason) {
        // The first reason stays: it is the one that ended the stream.
        let _first = self.reason.get_or_init(|| reason);
        self.carrier.wake();
    }

    fn touch(&self) {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.touched_ms.store(elapsed, Ordering::Relaxed);
    }

    fn due(&self, sweep: &Sweep, now: Instant) -> Option<Reason> {
        let age = now.saturating_duration_since(self.started);
        let touched = Duration::from_millis(self.touched_ms.load(Ordering::Relaxed));
        let own = self.own.get();
        let total = own.and_then(|own| own.total).unwrap_or(sweep.total);
        let idle = own.and_then(|own| own.idle).unwrap_or(sweep.idle);
        if age >= total || age.saturating_sub(touched) >= idle {
            return Some(Reason::Deadline);
        }
        let expired = self.judged.as_ref()?.not_after <= sweep.now;
        let unheard = sweep.feed_age.is_none_or(|age| age >= sweep.leaf_life);
        (expired && unheard).then_some(Reason::PeerExpired)
    }
}

impl Ticket {
    pub(crate) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut table = lock(&self.shard.table);
        table.streams[self.key] = None;
        table.free.push(self.key);
    }
}

/// Every change of the table is complete before anything in it can panic.
fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    const NOT_AFTER: OffsetDateTime = datetime!(2030-01-01 00:00 UTC);

    fn judged(source: &str) -> Judged {
        Judged {
            inputs: Inputs {
                source: source.parse().unwrap(),
                peer: Vouched::without_chain(),
                target: Arc::new("shop/orders:http".parse().unwrap()),
                request: JudgedRequest::Connection,
            },
            not_after: NOT_AFTER,
        }
    }

    fn only(inputs: &Inputs, path: &str) -> Result<(), Reason> {
        let permitted = inputs.source.path() == path;
        permitted.then_some(()).ok_or(Reason::PolicyDenied)
    }

    #[test]
    fn what_rests_on_a_server_that_is_lost_is_ended_and_nothing_else() {
        let live = Live::new(2);
        let (resting, own) = (
            live.shard(0).enter_unjudged(Instant::now()),
            live.shard(0).enter_unjudged(Instant::now()),
        );
        resting.stream().rest_on(Vouched::without_chain());
        let ended = live.judge_again(1, |_| Ok(()), |_| Err(Reason::Revoked));
        assert_eq!(ended, 1);
        assert_eq!(resting.stream().reason(), Some(Reason::Revoked));
        assert_eq!(own.stream().reason(), None);
    }

    fn sweep() -> Sweep {
        Sweep {
            now: NOT_AFTER - Duration::from_secs(1),
            feed_age: Some(Duration::from_secs(1)),
            leaf_life: Duration::from_secs(3600),
            idle: Duration::from_secs(60),
            total: Duration::from_secs(60),
        }
    }

    #[test]
    fn a_stream_judged_by_an_older_version_is_not_let_in() {
        let live = Live::new(2);
        live.judge_again(7, |_| Ok(()), |_| Ok(()));
        assert!(
            live.shard(1)
                .enter(6, judged("spiffe://td/a"), Instant::now())
                .is_err()
        );
        assert_eq!(live.count(), 0);
    }

    #[test]
    fn what_the_new_version_denies_is_ended_and_nothing_else() {
        let live = Live::new(2);
        let kept = live
            .shard(1)
            .enter(0, judged("spiffe://td/a"), Instant::now())
            .unwrap();
        let cut = live
            .shard(1)
            .enter(0, judged("spiffe://td/b"), Instant::now())
            .unwrap();
        let own = live.shard(0).enter_unjudged(Instant::now());

        let ended = live.judge_again(1, |it| only(it, "/a"), |_| Ok(()));

        assert_eq!(ended, 1);
        assert_eq!(cut.stream().reason(), Some(Reason::PolicyDenied));
        assert_eq!(
            (kept.stream().reason(), own.stream().reason()),
            (None, None)
        );
    }

    #[test]
    fn an_expired_peer_goes_on_while_the_ca_is_heard() {
        let live = Live::new(2);
        let ticket = live
            .shard(1)
            .enter(0, judged("spiffe://td/a"), Instant::now())
            .unwrap();
        let expired = Sweep {
            now: NOT_AFTER,
            ..sweep()
        };
        assert_eq!(live.sweep(&expired), 0);

        let unheard = Sweep {
            feed_age: Some(Duration::from_secs(3600)),
            ..expired
        };
        assert_eq!(live.sweep(&unheard), 1);
        assert_eq!(ticket.stream().reason(), Some(Reason::PeerExpired));
    }

    #[test]
    fn a_stream_past_its_limits_is_ended() {
        for limit in [
            Sweep {
                idle: Duration::ZERO,
                ..sweep()
            },
            Sweep {
                total: Duration::ZERO,
                ..sweep()
            },
        ] {
            let live = Live::new(2);
            let ticket = live.shard(0).enter_unjudged(Instant::now());
            live.sweep(&limit);
            assert_eq!(ticket.stream().reason(), Some(Reason::Deadline));
        }
    }

    #[test]
    fn a_finished_stream_leaves_the_table() {
        let live = Live::new(2);
        drop(live.shard(0).enter_unjudged(Instant::now()));
        assert_eq!(live.count(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn nothing_lives_by_an_older_version(steps in prop::collection::vec((0u8..3, 0u8..4), 1..40)) {
            let live = Live::new(2);
            let mut version = 0;
            let mut tickets = Vec::new();
            let mut permitted = 0u8;
            for (step, value) in steps {
                match step {
                    0 => tickets.extend(live.shard(usize::from(value)).enter(version, judged(&format!("spiffe://td/w{permitted}")), Instant::now()).ok()),
                    1 => {
                        version += 1;
                        permitted = value;
                        live.judge_again(version, |it| only(it, &format!("/w{permitted}")), |_| Ok(()));
                    }
                    _ => drop(tickets.pop()),
                }
                let ended = |it: &&Ticket| it.stream().reason().is_some();
                let wrong = |it: &&Ticket| {
                    let source = it.stream().judged.as_ref().map(|it| it.inputs.source.path().to_owned());
                    source != Some(format!("/w{permitted}"))
                };
                prop_assert!(tickets.iter().filter(wrong).all(|it| ended(&it)));
                prop_assert_eq!(live.count(), tickets.len());
            }
        }
    }
}
