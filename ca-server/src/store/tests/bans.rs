//! Claims about bans, and about agents that are over.

use identity::{SerialNumber, SpiffeId};

use super::*;

fn id(name: &str) -> SpiffeId {
    format!("spiffe://corp.example/countersign/agent/x509pop/{name}")
        .parse()
        .unwrap()
}

fn ban(name: &str, reason: &str) -> AgentBan {
    AgentBan {
        spiffe_id: id(name),
        reason: reason.to_owned(),
        author: "admin/1".to_owned(),
        banned_at: NOW,
    }
}

impl TestStore {
    async fn ban(&self, name: &str, reason: &str) -> RevocationChanged {
        let change = RevocationChange::Revoke(NewRevocation {
            subject: RevocationSubject::Agent(id(name)),
            expires_at: None,
        });
        self.change(&change, reason).await.unwrap()
    }

    async fn change(
        &self,
        change: &RevocationChange,
        reason: &str,
    ) -> Result<RevocationChanged, RevocationError> {
        let authorship = Authorship {
            author: "admin/1".to_owned(),
            reason: reason.to_owned(),
            at: NOW,
        };
        self.store.change_revocation(change, &[], &authorship).await
    }

    async fn lift_ban(&self, name: &str) -> Result<RevocationChanged, RevocationError> {
        let lift = RevocationChange::Lift(RevocationSubject::Agent(id(name)));
        self.change(&lift, "").await
    }
}

fn row(name: &str, not_after: OffsetDateTime) -> AgentRow {
    AgentRow {
        spiffe_id: id(name),
        attested_at: NOW,
        serial: SerialNumber::from_bytes(&[7]).unwrap(),
        not_after,
        selectors: policy::resource::AgentSelectors::none(),
    }
}

on_each_database![
    a_banned_agent_is_not_recorded,
    a_banned_agent_is_not_renewed,
    a_ban_that_was_lifted_stands_in_nobodys_way,
    the_last_reason_of_a_ban_is_the_one_that_is_listed,
    only_agents_that_are_over_for_long_enough_are_purged_and_bans_stay,
    certificates_that_go_on_are_counted_until_the_last_one_ends,
];

async fn a_banned_agent_is_not_recorded(test: TestStore) {
    test.ban("web-7", "stolen").await;
    let recorded = test.store.record_agent(row("web-7", NOW + minutes(60)));
    assert!(!recorded.await.unwrap());
    assert_eq!(test.store.agent(&id("web-7")).await.unwrap(), None);
}

async fn a_banned_agent_is_not_renewed(test: TestStore) {
    let known = row("web-7", NOW + minutes(60));
    assert!(test.store.record_agent(known.clone()).await.unwrap());
    test.ban("web-7", "stolen").await;
    let (web, later) = (id("web-7"), NOW + minutes(90));
    let renewed = test.store.renew_agent(&web, known.serial, later);
    assert!(!renewed.await.unwrap());
    assert_eq!(test.store.agent(&web).await.unwrap(), Some(known));
}

async fn a_ban_that_was_lifted_stands_in_nobodys_way(test: TestStore) {
    test.ban("web-7", "stolen").await;
    assert!(test.lift_ban("web-7").await.unwrap().changed);
    let again = test.lift_ban("web-7").await;
    assert!(matches!(again, Err(RevocationError::NotFound)));
    let recorded = test.store.record_agent(row("web-7", NOW + minutes(60)));
    assert!(recorded.await.unwrap());
}

async fn the_last_reason_of_a_ban_is_the_one_that_is_listed(test: TestStore) {
    for reason in ["stolen", "stolen, and sold"] {
        test.ban("web-7", reason).await;
    }
    let listed = test.store.agent_bans().await.unwrap();
    assert_eq!(listed, [ban("web-7", "stolen, and sold")]);
}

async fn only_agents_that_are_over_for_long_enough_are_purged_and_bans_stay(test: TestStore) {
    for (name, ended) in [("old", NOW - minutes(2)), ("new", NOW)] {
        test.store.record_agent(row(name, ended)).await.unwrap();
    }
    test.ban("old", "stolen").await;
    let purged = test.store.purge_agents(NOW - minutes(1)).await.unwrap();
    assert_eq!(purged, [id("old")]);
    assert_eq!(test.store.agents().await.unwrap(), [row("new", NOW)]);
    assert_eq!(test.store.agent_bans().await.unwrap().len(), 1);
}

async fn certificates_that_go_on_are_counted_until_the_last_one_ends(test: TestStore) {
    let issued = |serial, not_after| IssuedRow {
        serial: SerialNumber::from_bytes(&[serial]).unwrap(),
        spiffe_id: id("web-7"),
        agent_id: id("web-7"),
        issuer: "ca-1".to_owned(),
        not_before: NOW - minutes(60),
        not_after,
        issued_at: NOW - minutes(60),
        leaf_sha256: crypto::digest::Sha256::of(&[serial]),
    };
    let rows = [
        issued(1, NOW),
        issued(2, NOW + minutes(1)),
        issued(3, NOW + minutes(9)),
    ];
    test.store.record_issued(&rows).await.unwrap();
    let subject = RevocationSubject::Agent(id("web-7"));
    let live = test.store.live_svids_of(&subject, NOW).await.unwrap();
    let until = Some(NOW + minutes(9));
    assert_eq!(live, LiveSvids { count: 2, until });
}
