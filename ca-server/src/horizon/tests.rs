//! Claims about what counts as the first to end.

use std::sync::Arc;

use identity::IdTemplate;
use policy::{MeshNames, Resource, Revision};
use time::macros::datetime;
use tokio::sync::watch;

use super::*;
use crate::registry::RegistrySnapshot;
use crate::spool::StoreStanding;

const NOON: OffsetDateTime = datetime!(2026-11-22 12:00 UTC);

fn agent(name: &str) -> SpiffeId {
    let text = format!("spiffe://td.test/countersign/agent/x509pop/{name}");
    text.parse().unwrap()
}

fn workload(name: &str) -> SpiffeId {
    format!("spiffe://td.test/ns/shop/sa/{name}")
        .parse()
        .unwrap()
}

/// Of an hour, with so many minutes left.
fn svid(spiffe_id: SpiffeId, through: &str, minutes: i64) -> LatestSvid {
    let not_after = NOON + time::Duration::minutes(minutes);
    LatestSvid {
        spiffe_id,
        agent_id: agent(through),
        issued_at: not_after - time::Duration::hours(1),
        not_after,
    }
}

/// What `orders` and `checkout` of `web-7` and `web-8` make of these.
fn horizon(svids: &[LatestSvid], away: &[&str]) -> Horizon {
    let admitted = AdmittedAgents::new(
        [agent("web-7"), agent("web-8")],
        watch::Sender::default().subscribe(),
        StoreStanding::default(),
    );
    let revision = Revision {
        epoch: 1,
        number: 1,
    };
    let entries = [entry("orders", "web-7"), entry("checkout", "web-8")];
    let entries = entries.map(|resource| (resource, revision));
    let mesh = MeshNames::new("td.test".parse().unwrap(), IdTemplate::default());
    let snapshot = RegistrySnapshot::of_objects(revision, entries, mesh);
    let assignments = Assignments::of(&Arc::new(snapshot), admitted.selectors());
    let judge = Judge {
        at: NOON,
        assignments: &assignments,
        admitted: &admitted,
        away: &away.iter().map(|name| agent(name)).collect(),
    };
    let mut horizon = Horizon {
        at: NOON,
        endings: Vec::new(),
        late: Vec::new(),
        late_count: 0,
    };
    for svid in svids {
        horizon.add(&judge, svid);
    }
    horizon
}

fn entry(name: &str, through: &str) -> Resource {
    let yaml = format!(
        "apiVersion: countersign.dev/v1\nkind: Workload\n\
         metadata: {{namespace: shop, name: {name}}}\n\
         spec: {{agents: [\"{}\"], selectors: {{unix: {{uid: 1001}}}}}}\n",
        agent(through)
    );
    policy::parse_documents(&yaml).unwrap().remove(0)
}

fn minutes(horizon: &Horizon) -> Option<u64> {
    horizon.survives(NOON).map(|left| left.as_secs() / 60)
}

#[test]
fn the_first_workload_to_end_says_how_long_the_mesh_survives() {
    let first = svid(workload("checkout"), "web-8", 31);
    let all = [first, svid(workload("orders"), "web-7", 45)];
    assert_eq!(minutes(&horizon(&all, &[])), Some(31));
    assert_eq!(minutes(&horizon(&[], &[])), None);
}

#[test]
fn what_nobody_is_meant_to_hold_any_more_does_not_count() {
    let all = [
        svid(workload("orders"), "web-8", 5),
        svid(workload("gone"), "web-7", 6),
        svid(workload("orders"), "forgotten", 7),
        svid(workload("orders"), "web-7", 45),
    ];
    let horizon = horizon(&all, &[]);
    assert_eq!((minutes(&horizon), horizon.late_count), (Some(45), 0));
}

#[test]
fn an_agent_that_is_away_is_late_and_does_not_shorten_the_life_of_the_mesh() {
    let all = [
        svid(workload("checkout"), "web-8", 3),
        svid(agent("web-8"), "web-8", 4),
        svid(workload("orders"), "web-7", 45),
    ];
    let there = horizon(&all, &[]);
    assert_eq!((minutes(&there), there.late_count), (Some(3), 2));
    let away = horizon(&all, &["web-8"]);
    assert_eq!((minutes(&away), away.late.len()), (Some(45), 2));
}

#[test]
fn a_quarter_of_a_life_is_late_and_more_is_not() {
    let of = |left| {
        Ending::of(
            EndingKind::Root,
            String::new(),
            (NOON, NOON + time::Duration::hours(4)),
            NOON + time::Duration::hours(4) - left,
        )
    };
    assert!(!of(time::Duration::hours(1)).near);
    assert!(of(time::Duration::minutes(59)).near);
    assert!(!of(time::Duration::seconds(1)).has_ended(NOON));
    assert!(of(time::Duration::ZERO).has_ended(NOON + time::Duration::hours(4)));
}
