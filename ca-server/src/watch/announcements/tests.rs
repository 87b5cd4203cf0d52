//! The life of an announcement.

use proptest::prelude::*;

use super::*;

/// Every agent `name` hosts the workload and the Service `shop/<name>`.
struct EachItsOwn;

impl Hosting for EachItsOwn {
    fn permits(&self, agent: &SpiffeId, workload: &QualifiedName, service: &QualifiedName) -> bool {
        workload == service && agent.path().ends_with(&format!("/{}", workload.name))
    }

    fn services_of(&self, agent: &SpiffeId) -> BTreeSet<QualifiedName> {
        let name = agent.segments().last().unwrap();
        BTreeSet::from([named(name)])
    }
}

fn agent(name: &str) -> SpiffeId {
    format!("spiffe://td/countersign/agent/join-token/{name}")
        .parse()
        .unwrap()
}

fn named(name: &str) -> QualifiedName {
    format!("shop/{name}").parse().unwrap()
}

fn announcement(name: &str, port: u16) -> Announcement {
    Announcement {
        workload: named(name),
        service: named(name),
        endpoint: Endpoint {
            address: "127.0.0.1".to_owned(),
            ports: [("http".to_owned(), port)].into(),
            zone: String::new(),
        },
    }
}

fn ports(map: &EndpointMap, name: &str) -> Option<Vec<u16>> {
    let published = map.get(&named(name))?;
    Some(
        published
            .endpoints
            .iter()
            .map(|endpoint| endpoint.ports["http"])
            .collect(),
    )
}

fn table(live: &[&str], now: Instant) -> AnnouncementTable {
    AnnouncementTable::new(100, live.iter().map(|name| agent(name)).collect(), now)
}

#[test]
fn an_announcement_without_permission_does_not_count() {
    let now = Instant::now();
    let mut table = table(&[], now);
    table.announced(&agent("thief"), StreamId(1), vec![announcement("a", 1)]);
    assert_eq!(ports(&table.publish(&EachItsOwn, now), "a"), Some(vec![]));
}

#[test]
fn an_announcement_outlives_its_stream_by_the_grace_and_no_longer() {
    let now = Instant::now();
    let mut table = table(&[], now);
    table.announced(&agent("a"), StreamId(1), vec![announcement("a", 1)]);
    table.closed(&agent("a"), StreamId(1), now);
    let almost = now + GRACE - Duration::from_millis(1);
    assert_eq!(
        ports(&table.publish(&EachItsOwn, almost), "a"),
        Some(vec![1])
    );
    assert_eq!(table.next_deadline(), Some(now + GRACE));
    assert_eq!(
        ports(&table.publish(&EachItsOwn, now + GRACE), "a"),
        Some(vec![])
    );
}

#[test]
fn the_end_of_a_replaced_stream_ends_nothing() {
    let now = Instant::now();
    let mut table = table(&[], now);
    table.announced(&agent("a"), StreamId(2), vec![announcement("a", 1)]);
    table.closed(&agent("a"), StreamId(1), now);
    assert_eq!(
        ports(&table.publish(&EachItsOwn, now + GRACE), "a"),
        Some(vec![1])
    );
}

#[test]
fn a_new_replica_is_silent_until_the_agent_has_spoken_again() {
    let now = Instant::now();
    let mut table = table(&["a"], now);
    assert_eq!(ports(&table.publish(&EachItsOwn, now), "a"), None);
    table.announced(&agent("a"), StreamId(1), vec![announcement("a", 1)]);
    assert_eq!(ports(&table.publish(&EachItsOwn, now), "a"), Some(vec![1]));
}

#[test]
fn a_new_replica_removes_what_nobody_announced_again_after_the_grace() {
    let now = Instant::now();
    let mut table = table(&["a"], now);
    assert_eq!(table.next_deadline(), Some(now + GRACE));
    assert_eq!(
        ports(&table.publish(&EachItsOwn, now + GRACE), "a"),
        Some(vec![])
    );
}

#[test]
fn nothing_new_is_published_when_nothing_changed() {
    let now = Instant::now();
    let mut table = table(&[], now);
    table.announced(&agent("a"), StreamId(1), vec![announcement("a", 1)]);
    let first = table.publish(&EachItsOwn, now);
    table.announced(&agent("a"), StreamId(2), vec![announcement("a", 1)]);
    assert!(Arc::ptr_eq(&first, &table.publish(&EachItsOwn, now)));
}

fn shared(rows: Vec<AnnouncedRow>, now: Instant) -> AnnouncementTable {
    table(&[], now).shared("ca-1", rows, now)
}

fn row(replica: &str, name: &str, stamp: u64, connected: bool, port: Option<u16>) -> AnnouncedRow {
    let list = port.map(|port| elsewhere::encode(&[announcement(name, port)]));
    AnnouncedRow {
        replica: replica.to_owned(),
        agent: agent(name),
        stamp,
        connected,
        list,
    }
}

fn seen(beat: i64) -> Seen {
    let at = time::OffsetDateTime::from_unix_timestamp(beat).unwrap();
    Seen::from([("ca-2".to_owned(), at)])
}

#[test]
fn what_another_replica_says_counts_until_it_says_otherwise() {
    let now = Instant::now();
    let mut table = shared(vec![row("ca-2", "a", 1, true, Some(1))], now);
    assert_eq!(ports(&table.publish(&EachItsOwn, now), "a"), Some(vec![1]));
    table.heard(vec![row("ca-2", "a", 2, false, None)]);
    assert_eq!(ports(&table.publish(&EachItsOwn, now), "a"), Some(vec![]));
    assert_eq!(table.known()["ca-2"], 2);
}

#[test]
fn of_what_an_agent_says_twice_the_open_stream_counts() {
    let now = Instant::now();
    let mut table = shared(vec![row("ca-2", "a", 5, true, Some(1))], now);
    table.announced(&agent("a"), StreamId(1), vec![announcement("a", 2)]);
    let changes = table.take_unwritten(9);
    table.written(&changes, Some(6));
    assert_eq!(ports(&table.publish(&EachItsOwn, now), "a"), Some(vec![2]));
    table.closed(&agent("a"), StreamId(1), now);
    assert_eq!(ports(&table.publish(&EachItsOwn, now), "a"), Some(vec![1]));
}

#[test]
fn of_two_open_streams_the_later_counts() {
    let now = Instant::now();
    let mut table = shared(vec![], now);
    table.announced(&agent("a"), StreamId(1), vec![announcement("a", 1)]);
    let changes = table.take_unwritten(9);
    table.written(&changes, Some(6));
    table.heard(vec![row("ca-2", "a", 5, true, Some(2))]);
    assert_eq!(ports(&table.publish(&EachItsOwn, now), "a"), Some(vec![1]));
    table.heard(vec![row("ca-2", "a", 7, true, Some(2))]);
    assert_eq!(ports(&table.publish(&EachItsOwn, now), "a"), Some(vec![2]));
}

#[test]
fn a_replica_that_is_not_heard_of_takes_nothing_away_before_the_grace() {
    let start = Instant::now();
    let mut table = shared(vec![row("ca-2", "a", 1, true, Some(1))], start);
    let mut now = start;
    for _ in 0..6 {
        now += Duration::from_secs(5);
        assert_eq!(table.seen(&seen(0), now), []);
        assert_eq!(ports(&table.publish(&EachItsOwn, now), "a"), Some(vec![1]));
    }
    now += Duration::from_secs(15);
    let lost = table.seen(&seen(0), now);
    assert_eq!((lost[0].replica.as_str(), lost[0].stamp), ("ca-2", 1));
    assert_eq!(ports(&table.publish(&EachItsOwn, now), "a"), Some(vec![]));
}

#[test]
fn who_could_not_read_for_long_forgets_no_replica() {
    let start = Instant::now();
    let mut table = shared(vec![row("ca-2", "a", 1, true, Some(1))], start);
    assert_eq!(table.seen(&seen(0), start), []);
    let now = start + Duration::from_secs(600);
    assert_eq!(table.seen(&seen(0), now), []);
    assert_eq!(ports(&table.publish(&EachItsOwn, now), "a"), Some(vec![1]));
}

#[test]
fn a_replica_that_comes_back_keeps_what_was_announced_to_it_for_the_grace() {
    let now = Instant::now();
    let mut table = shared(vec![row("ca-1", "a", 1, true, Some(1))], now);
    table.connected(&agent("a"), StreamId(1), now);
    assert_eq!(ports(&table.publish(&EachItsOwn, now), "a"), Some(vec![1]));
    let later = now + GRACE;
    assert_eq!(ports(&table.publish(&EachItsOwn, later), "a"), Some(vec![]));
    let change = table.take_unwritten(9).remove(0);
    assert_eq!((change.connected, change.list), (true, None));
}

#[test]
fn what_nobody_takes_up_again_is_written_as_over() {
    let now = Instant::now();
    let mut table = shared(vec![row("ca-1", "a", 1, true, Some(1))], now);
    table.publish(&EachItsOwn, now + GRACE);
    let change = table.take_unwritten(9).remove(0);
    assert_eq!((change.connected, change.list), (false, None));
}

#[test]
fn what_the_store_has_lost_ends_after_the_grace() {
    let now = Instant::now();
    let mut table = shared(vec![row("ca-2", "a", 1, true, Some(1))], now);
    table.heard_all(Vec::new(), now);
    assert_eq!(ports(&table.publish(&EachItsOwn, now), "a"), Some(vec![1]));
    assert_eq!(table.next_deadline(), Some(now + GRACE));
    let later = now + GRACE;
    assert_eq!(ports(&table.publish(&EachItsOwn, later), "a"), Some(vec![]));
}

#[test]
fn what_could_not_be_written_is_written_again() {
    let now = Instant::now();
    let mut table = shared(vec![], now);
    table.announced(&agent("a"), StreamId(1), vec![announcement("a", 1)]);
    let changes = table.take_unwritten(9);
    assert!(!table.has_unwritten());
    table.written(&changes, None);
    assert_eq!(table.take_unwritten(9), changes);
}

#[derive(Debug, Clone)]
enum Step {
    Announce(u64, u16),
    Close(u64),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0_u64..4, 1_u16..4).prop_map(|(stream, port)| Step::Announce(stream, port)),
        (0_u64..4).prop_map(Step::Close),
        (0_u64..40).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn a_generation_grows_with_each_change_and_with_nothing_else(steps in steps()) {
        let mut now = Instant::now();
        let mut table = table(&[], now);
        let mut before = table.publish(&EachItsOwn, now).get(&named("a")).unwrap();
        for step in steps {
            match step {
                Step::Announce(stream, port) => {
                    table.announced(&agent("a"), StreamId(stream), vec![announcement("a", port)]);
                }
                Step::Close(stream) => table.closed(&agent("a"), StreamId(stream), now),
                Step::Wait(seconds) => now += Duration::from_secs(seconds),
            }
            let after = table.publish(&EachItsOwn, now).get(&named("a")).unwrap();
            let changed = after.endpoints != before.endpoints;
            prop_assert_eq!(after.generation, before.generation + u64::from(changed));
            before = after;
        }
    }
}
