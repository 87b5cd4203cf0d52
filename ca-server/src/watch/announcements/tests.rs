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
