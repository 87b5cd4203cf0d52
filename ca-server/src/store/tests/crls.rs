//! Claims about revocation lists and what they are to name.

use crypto::digest::Sha256;
use identity::SerialNumber;

use super::*;

const AGENT: &str = "spiffe://corp.example/countersign/agent/x509pop/web-7";
const OTHER_AGENT: &str = "spiffe://corp.example/countersign/agent/x509pop/web-8";
const ORDERS: &str = "spiffe://corp.example/ns/shop/sa/orders";
const PAYMENTS: &str = "spiffe://corp.example/ns/shop/sa/payments";

fn serial(number: u8) -> SerialNumber {
    SerialNumber::from_bytes(&[number]).unwrap()
}

fn key(of: &str) -> Sha256 {
    Sha256::of(of.as_bytes())
}

fn list(number: u64, ends: OffsetDateTime) -> CrlRow {
    CrlRow {
        issuer: "ca-1".to_owned(),
        number,
        covers: number,
        next_update: ends,
        der: vec![u8::try_from(number).unwrap()],
    }
}

impl TestStore {
    async fn revoke_at(&self, kind: &str, text: &str, expires_at: Option<OffsetDateTime>) -> u64 {
        let change = RevocationChange::Revoke(NewRevocation {
            subject: RevocationSubject::parse(kind, text).unwrap(),
            expires_at,
        });
        let authorship = Authorship {
            author: "admin/1".to_owned(),
            reason: "stolen".to_owned(),
            at: NOW,
        };
        let changed = self.store.change_revocation(&change, &[], &authorship);
        changed.await.unwrap().revision.number
    }

    async fn leaf(
        &self,
        number: u8,
        (issuer, id, agent): (&str, &str, &str),
        not_after: OffsetDateTime,
    ) {
        let row = IssuedRow {
            serial: serial(number),
            spiffe_id: id.parse().unwrap(),
            agent_id: agent.parse().unwrap(),
            issuer: issuer.to_owned(),
            not_before: NOW - minutes(60),
            not_after,
            issued_at: NOW - minutes(60),
            leaf_sha256: Sha256::of(&[number]),
        };
        self.store.record_issued(&[row]).await.unwrap();
    }

    async fn intermediate(&self, name: &str, number: u8, generation: u32) {
        let row = IntermediateRow {
            key_id: key(name).to_string(),
            generation,
            replica: name.to_owned(),
            not_before: NOW,
            not_after: NOW + minutes(60),
            serial: Some(serial(number)),
            is_superseded: false,
        };
        let certificate = AuthorityCertificate {
            der: name.as_bytes(),
            issuer: "root",
            recorded_at: NOW,
        };
        let recorded = self.store.record_intermediate(&row, certificate);
        recorded.await.unwrap();
    }

    async fn listed(&self, issuer: &str) -> Vec<(SerialNumber, u64)> {
        let rows = self.store.revoked_leaves_of(issuer, NOW).await.unwrap();
        rows.iter().map(|row| (row.serial, row.revision)).collect()
    }
}

on_each_database![
    a_list_gives_way_to_one_of_a_higher_number_only,
    a_list_that_has_ended_is_told_to_nobody_and_goes,
    an_authority_lists_what_is_revoked_of_its_live_leaves_and_no_others,
    what_is_revoked_twice_is_listed_once_by_the_first,
    a_root_lists_what_is_revoked_or_superseded_of_its_own,
    only_replicas_that_were_heard_of_are_live,
];

async fn a_list_gives_way_to_one_of_a_higher_number_only(test: TestStore) {
    for number in [2, 1, 2] {
        let row = list(number, NOW + minutes(number));
        test.store.put_crl(&row).await.unwrap();
    }
    let kept = test.store.crls(NOW).await.unwrap();
    assert_eq!(kept, [list(2, NOW + minutes(2))]);
}

async fn a_list_that_has_ended_is_told_to_nobody_and_goes(test: TestStore) {
    test.store.put_crl(&list(1, NOW)).await.unwrap();
    assert_eq!(test.store.crls(NOW).await.unwrap(), []);
    assert_eq!(test.store.prune_crls(NOW - minutes(1)).await.unwrap(), 0);
    assert_eq!(test.store.prune_crls(NOW).await.unwrap(), 1);
}

async fn an_authority_lists_what_is_revoked_of_its_live_leaves_and_no_others(test: TestStore) {
    let later = NOW + minutes(9);
    test.leaf(1, ("ca-1", ORDERS, OTHER_AGENT), later).await;
    test.leaf(2, ("ca-1", ORDERS, OTHER_AGENT), NOW).await;
    test.leaf(3, ("ca-1", PAYMENTS, AGENT), later).await;
    test.leaf(4, ("ca-1", PAYMENTS, OTHER_AGENT), later).await;
    test.leaf(5, ("ca-1", PAYMENTS, OTHER_AGENT), later).await;
    test.leaf(6, ("ca-2", ORDERS, AGENT), later).await;
    assert_eq!(test.store.newest_revocation().await.unwrap(), 0);
    let identity = test.revoke_at("identity", ORDERS, None).await;
    let agent = test.revoke_at("agent", AGENT, None).await;
    let one = test.revoke_at("serial", "04", Some(later)).await;
    test.revoke_at("serial", "05", Some(NOW)).await;
    let expected = [(serial(1), identity), (serial(3), agent), (serial(4), one)];
    assert_eq!(test.listed("ca-1").await, expected);
    assert_eq!(test.listed("ca-3").await, []);
    assert_eq!(test.store.newest_revocation().await.unwrap(), one + 1);
}

async fn what_is_revoked_twice_is_listed_once_by_the_first(test: TestStore) {
    let later = NOW + minutes(9);
    test.leaf(1, ("ca-1", ORDERS, AGENT), later).await;
    let first = test.revoke_at("agent", AGENT, None).await;
    test.revoke_at("serial", "01", Some(later)).await;
    assert_eq!(test.listed("ca-1").await, [(serial(1), first)]);
}

async fn a_root_lists_what_is_revoked_or_superseded_of_its_own(test: TestStore) {
    for (name, number, generation) in [("one", 1, 1), ("two", 2, 1), ("good", 3, 1), ("new", 4, 2)]
    {
        test.intermediate(name, number, generation).await;
    }
    for stolen in ["one", "new"] {
        let stolen = key(stolen).to_string();
        test.revoke_at("authority", &stolen, None).await;
    }
    let lost = key("two");
    let lost_id = lost.to_string();
    let superseded = test.store.supersede_intermediate(&lost_id, NOW);
    superseded.await.unwrap();
    let listed = test.store.revoked_intermediates_of(1, NOW).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|row| row.serial).collect();
    assert_eq!(listed, [serial(1), serial(2)]);
    let superseded = test.store.superseded_intermediates(NOW).await.unwrap();
    assert_eq!(superseded, [lost]);
    let later = NOW + minutes(60);
    let ended = test.store.revoked_intermediates_of(1, later).await;
    assert_eq!(ended.unwrap(), []);
}

async fn only_replicas_that_were_heard_of_are_live(test: TestStore) {
    let head = test.store.head().await.unwrap();
    for (replica, at) in [("ca-1", NOW), ("ca-2", NOW - minutes(1))] {
        test.store.note_enforced(replica, head, at).await.unwrap();
    }
    let live = test.store.live_replicas(NOW).await.unwrap();
    assert_eq!(live.into_iter().collect::<Vec<_>>(), ["ca-1"]);
}
