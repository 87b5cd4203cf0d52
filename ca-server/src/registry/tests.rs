use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use futures_util::future::join_all;
use identity::x509::Denied;
use policy::Outcome;
use runtime::{Shutdown, ShutdownTrigger};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;
use crate::store::tests::{TestStore, mesh, service, workload};
use crate::store::{Authorship, Expected, Precondition, Staged};

struct TestRegistry {
    registry: Registry,
    store: TestStore,
    shutdown: ShutdownTrigger,
    _tasks: JoinSet<()>,
}

impl TestRegistry {
    async fn start() -> Self {
        let store = TestStore::open().await;
        let (registry, writer) = Registry::open(store.store.clone(), Vec::new(), Clock::system())
            .await
            .unwrap();
        let (trigger, shutdown) = Shutdown::pair();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let Ok(()) = writer.run(shutdown).await;
        });
        Self {
            registry,
            store,
            shutdown: trigger,
            _tasks: tasks,
        }
    }

    async fn put(&self, resource: policy::Resource) -> Result<Applied, ApplyError> {
        self.registry.apply(proposal(vec![resource])).await
    }

    async fn reaches(&self, number: u64) {
        let mut snapshots = self.registry.subscribe();
        let reached = snapshots.wait_for(|snapshot| snapshot.revision().number >= number);
        timeout(Duration::from_secs(10), reached)
            .await
            .unwrap()
            .unwrap();
    }
}

fn proposal(upserts: Vec<policy::Resource>) -> Proposal {
    Proposal {
        changes: Changes {
            upserts,
            ..Changes::default()
        },
        author: "admin/1".to_owned(),
        reason: "test".to_owned(),
        dry_run: false,
    }
}

#[tokio::test]
async fn a_refused_whole_changes_nothing() {
    let test = TestRegistry::start().await;
    let refused = test.put(service("orders")).await;
    assert!(matches!(
        refused,
        Err(ApplyError::Stage(StageError::Refused {
            of_others: false,
            ..
        }))
    ));
    assert_eq!(test.registry.snapshot().revision().number, 0);
}

#[tokio::test]
async fn deleting_what_others_name_is_refused_as_theirs() {
    let test = TestRegistry::start().await;
    let both = vec![workload("orders", 1), service("orders")];
    test.registry.apply(proposal(both)).await.unwrap();
    let mut delete = proposal(Vec::new());
    delete.changes.deletes = vec![workload("orders", 1).key()];
    let refused = test.registry.apply(delete).await;
    assert!(matches!(
        refused,
        Err(ApplyError::Stage(StageError::Refused {
            of_others: true,
            ..
        }))
    ));
}

#[tokio::test]
async fn one_object_twice_is_refused() {
    let test = TestRegistry::start().await;
    let twice = proposal(vec![workload("orders", 1), workload("orders", 2)]);
    let refused = test.registry.apply(twice).await;
    assert!(matches!(
        refused,
        Err(ApplyError::Stage(StageError::Twice(_)))
    ));
}

#[tokio::test]
async fn a_dry_run_judges_preconditions_and_writes_nothing() {
    let test = TestRegistry::start().await;
    let mut dry = Proposal {
        dry_run: true,
        ..proposal(vec![workload("orders", 1)])
    };
    let applied = test.registry.apply(dry.clone()).await.unwrap();
    assert_eq!(
        (applied.changed, applied.outcomes[0].1),
        (true, Outcome::Created)
    );
    let key = workload("orders", 1).key();
    dry.changes.preconditions = vec![Precondition {
        key,
        expected: Expected::Present,
    }];
    let refused = test.registry.apply(dry).await;
    assert!(matches!(
        refused,
        Err(ApplyError::PreconditionFailed { found: None, .. })
    ));
    assert_eq!(test.store.store.head().await.unwrap().number, 0);
}

#[tokio::test]
async fn an_unchanged_object_keeps_its_revision() {
    let test = TestRegistry::start().await;
    test.put(workload("orders", 1)).await.unwrap();
    test.put(workload("checkout", 2)).await.unwrap();
    let applied = test.put(workload("orders", 1)).await.unwrap();
    assert_eq!((applied.changed, applied.revision.number), (false, 2));
    let snapshot = test.registry.snapshot();
    assert_eq!(
        snapshot
            .object(&workload("orders", 1).key())
            .unwrap()
            .revision
            .number,
        1
    );
}

#[tokio::test]
async fn racing_writes_get_revisions_in_order_and_without_gaps() {
    let test = TestRegistry::start().await;
    let names: Vec<_> = (0..20).map(|index| format!("w{index}")).collect();
    let writes = names.iter().map(|name| test.put(workload(name, 1)));
    let applied = join_all(writes).await;
    let mut numbers: Vec<_> = applied
        .into_iter()
        .map(|applied| applied.unwrap().revision.number)
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
    assert_eq!(test.registry.snapshot().objects().len(), 20);
}

#[tokio::test]
async fn a_write_whose_caller_went_away_is_still_put_in_force() {
    let test = TestRegistry::start().await;
    {
        let write = pin!(test.put(workload("orders", 1)));
        let polled = write.poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
    }
    test.reaches(1).await;
    assert_eq!(test.store.store.head().await.unwrap().number, 1);
}

#[tokio::test]
async fn a_write_of_another_replica_is_built_upon() {
    let test = TestRegistry::start().await;
    let changes = Changes {
        upserts: vec![workload("orders", 1)],
        ..Changes::default()
    };
    let current = test.store.store.in_force().await.unwrap();
    let staged = Staged::try_new(&current, changes, &mesh()).unwrap();
    let at = crate::store::tests::NOW;
    let authorship = Authorship {
        author: "admin/2".to_owned(),
        reason: "test".to_owned(),
        at,
    };
    test.store.store.commit(&staged, &authorship).await.unwrap();
    let applied = test.put(workload("checkout", 2)).await.unwrap();
    assert_eq!(applied.revision.number, 2);
    assert_eq!(test.registry.snapshot().objects().len(), 2);
}

#[tokio::test]
async fn a_draining_registry_refuses_writes() {
    let test = TestRegistry::start().await;
    test.shutdown.drain();
    test.registry.writes.closed().await;
    let refused = test.put(workload("orders", 1)).await;
    assert!(matches!(refused, Err(ApplyError::ShuttingDown)));
}

#[tokio::test]
async fn a_restart_finds_what_was_in_force() {
    let test = TestRegistry::start().await;
    test.put(workload("orders", 1)).await.unwrap();
    let (again, _writer) = Registry::open(test.store.store.clone(), Vec::new(), Clock::system())
        .await
        .unwrap();
    let (before, after) = (test.registry.snapshot(), again.snapshot());
    assert_eq!(before.revision(), after.revision());
    assert_eq!(before.objects(), after.objects());
    let name = "shop/orders".parse().unwrap();
    let id = after.identity_of(&name).unwrap();
    assert_eq!(id.as_str(), "spiffe://corp.example/ns/shop/sa/orders");
}

#[tokio::test]
async fn what_another_replica_commits_is_in_force_here_once_it_was_seen() {
    let Some(test) = TestStore::open_on_postgres().await else {
        return;
    };
    let other = Store::open(&test.config, crate::store::tests::NOW)
        .await
        .unwrap();
    let clock = Clock::system();
    let (here, writer) = Registry::open(test.store.clone(), Vec::new(), clock.clone())
        .await
        .unwrap();
    let (there, other_writer) = Registry::open(other, Vec::new(), clock).await.unwrap();
    let mut supervisor = runtime::Supervisor::new();
    supervisor.spawn("here", writer.run(supervisor.shutdown()));
    supervisor.spawn("there", other_writer.run(supervisor.shutdown()));
    let written = there
        .apply(proposal(vec![workload("orders", 1)]))
        .await
        .unwrap();
    here.reach(written.revision).await;
    assert_eq!(here.snapshot().revision(), written.revision);
}

#[tokio::test]
async fn a_store_that_has_lost_revisions_takes_no_more_and_nothing_goes_back() {
    let Some(test) = TestStore::open_on_postgres().await else {
        return;
    };
    let (registry, writer) = Registry::open(test.store.clone(), Vec::new(), Clock::system())
        .await
        .unwrap();
    let mut supervisor = runtime::Supervisor::new();
    supervisor.spawn("registry", writer.run(supervisor.shutdown()));
    let seen = registry
        .apply(proposal(vec![workload("orders", 1)]))
        .await
        .unwrap();
    // As a standby would be that had not heard of the last write.
    test.tamper("UPDATE revision_counter SET number = 0")
        .await
        .unwrap();
    let refused = registry
        .apply(proposal(vec![workload("checkout", 2)]))
        .await;
    assert!(
        matches!(refused, Err(ApplyError::Behind { seen: at, .. }) if at == seen.revision),
        "{refused:?}"
    );
    assert_eq!(registry.snapshot().revision(), seen.revision);
}

fn identity(name: &str) -> Denied {
    Denied::Identity(
        format!("spiffe://td.test/ns/shop/sa/{name}")
            .parse()
            .unwrap(),
    )
}

#[tokio::test]
async fn what_is_held_is_refused_at_every_revision_until_it_is_settled_and_makes_none() {
    let test = TestRegistry::start().await;
    let before = test.registry.snapshot().revision();
    test.registry.hold(vec![(identity("a"), None)]).unwrap();
    let snapshot = test.registry.snapshot();
    assert_eq!(snapshot.revision(), before);
    assert!(snapshot.denials().list().contains(&identity("a")));
    test.put(workload("orders", 1)).await.unwrap();
    let snapshot = test.registry.snapshot();
    assert_eq!(snapshot.revision().number, before.number + 1);
    assert!(snapshot.denials().list().contains(&identity("a")));
    test.registry.settle().await.unwrap();
    assert!(test.registry.snapshot().denials().list().is_empty());
}

#[tokio::test]
async fn more_than_the_deny_list_has_room_for_is_not_held() {
    let test = TestRegistry::start().await;
    let many = |count: usize| (0..count).map(|number| (identity(&format!("a{number}")), None));
    let refused = test.registry.hold(many(1_001).collect());
    assert_eq!(refused, Err(NotHeld));
    assert!(test.registry.snapshot().denials().list().is_empty());
    test.registry.hold(many(1_000).collect()).unwrap();
    assert_eq!(test.registry.has_room(1), Err(NotHeld));
}
