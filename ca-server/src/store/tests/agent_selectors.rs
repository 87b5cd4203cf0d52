//! Claims about what is remembered of what attestors said of agents.

use identity::{SerialNumber, SpiffeId};
use policy::resource::AgentSelectors;
use time::OffsetDateTime;

use super::*;
use crate::store::database::Statement;

fn agent() -> SpiffeId {
    "spiffe://corp.example/countersign/agent/k8s/web-7"
        .parse()
        .unwrap()
}

fn cluster(name: &str) -> AgentSelectors {
    format!(r#"{{"cluster": "{name}", "namespace": "shop"}}"#)
        .parse()
        .unwrap()
}

fn row(selectors: AgentSelectors, attested_at: OffsetDateTime) -> AgentRow {
    AgentRow {
        spiffe_id: agent(),
        attested_at,
        serial: SerialNumber::from_bytes(&[7]).unwrap(),
        not_after: attested_at + minutes(60),
        selectors,
    }
}

impl TestStore {
    async fn attested(&self, selectors: AgentSelectors, at: OffsetDateTime) {
        let recorded = self.store.record_agent(row(selectors, at)).await;
        assert!(recorded.unwrap());
    }

    async fn selectors(&self) -> AgentSelectors {
        let one = self.store.agent(&agent()).await.unwrap().unwrap();
        assert_eq!(
            self.store.agents().await.unwrap(),
            std::slice::from_ref(&one)
        );
        one.selectors
    }

    /// As the builds before this table had selectors.
    async fn attested_by_an_older_build(&self, at: OffsetDateTime) {
        let upsert = Statement::new(
            "INSERT INTO agents (spiffe_id, attested_at, serial, not_after)
             VALUES ($1, $2, $3, $2)
             ON CONFLICT (spiffe_id) DO UPDATE SET attested_at = excluded.attested_at",
        );
        let serial = SerialNumber::from_bytes(&[8]).unwrap();
        let upsert = upsert.bind(&agent()).bind(at).bind(serial);
        assert_eq!(self.store.database.execute(upsert).await.unwrap(), 1);
    }
}

on_each_database![
    selectors_do_not_outlive_an_attestation_by_an_older_build,
    selectors_of_a_later_attestation_replace_the_earlier,
    selectors_live_through_renewals,
];

async fn selectors_do_not_outlive_an_attestation_by_an_older_build(test: TestStore) {
    test.attested(cluster("prod"), NOW).await;
    test.attested_by_an_older_build(NOW + minutes(1)).await;
    assert_eq!(test.selectors().await, AgentSelectors::none());
    test.attested(cluster("dev"), NOW + minutes(2)).await;
    assert_eq!(test.selectors().await, cluster("dev"));
}

async fn selectors_of_a_later_attestation_replace_the_earlier(test: TestStore) {
    test.attested(cluster("prod"), NOW).await;
    test.attested(cluster("dev"), NOW + minutes(1)).await;
    assert_eq!(test.selectors().await, cluster("dev"));
    test.attested(AgentSelectors::none(), NOW + minutes(2))
        .await;
    assert_eq!(test.selectors().await, AgentSelectors::none());
}

async fn selectors_live_through_renewals(test: TestStore) {
    test.attested(cluster("prod"), NOW).await;
    let serial = SerialNumber::from_bytes(&[9]).unwrap();
    let renewed = test
        .store
        .renew_agent(&agent(), serial, NOW + minutes(90))
        .await;
    assert!(renewed.unwrap());
    assert_eq!(test.selectors().await, cluster("prod"));
}

#[tokio::test]
async fn a_replica_hears_when_an_agent_proves_more_or_less_elsewhere() {
    let Some(test) = TestStore::open_on_postgres().await else {
        return;
    };
    let other = test.second_replica().await;
    let mut notices = other.notices("ca-2").await.unwrap().unwrap();
    assert_eq!(notices.next().await, Notice::Anything);
    test.attested(cluster("prod"), NOW).await;
    assert_eq!(notices.next().await, Notice::Agent(agent()));
    // Says the same again, which is no news.
    test.attested(cluster("prod"), NOW + minutes(1)).await;
    test.attested_by_an_older_build(NOW + minutes(2)).await;
    assert_eq!(notices.next().await, Notice::Agent(agent()));
    assert_eq!(test.selectors().await, AgentSelectors::none());
    assert!(test.store.forget_agent(&agent()).await.unwrap());
    assert_eq!(notices.next().await, Notice::Agent(agent()));
}
