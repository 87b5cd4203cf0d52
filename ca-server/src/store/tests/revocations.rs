//! Claims about revocations.

use std::collections::BTreeSet;

use crypto::digest::Sha256;
use identity::SerialNumber;
use identity::x509::Denied;

use super::*;

const AGENT: &str = "spiffe://corp.example/countersign/agent/x509pop/web-7";
const ORDERS: &str = "spiffe://corp.example/ns/shop/sa/orders";

fn subject(kind: &str, text: &str) -> RevocationSubject {
    RevocationSubject::parse(kind, text).unwrap()
}

fn authorship(reason: &str) -> Authorship {
    Authorship {
        author: "admin/1".to_owned(),
        reason: reason.to_owned(),
        at: NOW,
    }
}

impl TestStore {
    async fn revoke_until(
        &self,
        subject: RevocationSubject,
        expires_at: Option<OffsetDateTime>,
        expected: &[Expected],
    ) -> Result<RevocationChanged, RevocationError> {
        let change = RevocationChange::Revoke(NewRevocation {
            subject,
            expires_at,
        });
        let why = authorship("stolen");
        self.store.change_revocation(&change, expected, &why).await
    }

    async fn revoke(&self, kind: &str, text: &str) -> RevocationChanged {
        let revoked = self.revoke_until(subject(kind, text), None, &[]).await;
        revoked.unwrap()
    }

    async fn lift(
        &self,
        kind: &str,
        text: &str,
        expected: &[Expected],
    ) -> Result<RevocationChanged, RevocationError> {
        let change = RevocationChange::Lift(subject(kind, text));
        let why = authorship("found");
        self.store.change_revocation(&change, expected, &why).await
    }

    async fn denied(&self) -> BTreeSet<Denied> {
        let denied = self.store.denied(NOW).await.unwrap();
        denied.into_iter().map(|(entry, _)| entry).collect()
    }

    async fn issue(&self, serial: u8, through: &str, not_after: OffsetDateTime) -> SerialNumber {
        let row = IssuedRow {
            serial: SerialNumber::from_bytes(&[serial]).unwrap(),
            spiffe_id: ORDERS.parse().unwrap(),
            agent_id: through.parse().unwrap(),
            issuer: "ca-1".to_owned(),
            not_before: NOW - minutes(60),
            not_after,
            issued_at: NOW - minutes(60),
            leaf_sha256: Sha256::of(&[serial]),
        };
        self.store
            .record_issued(std::slice::from_ref(&row))
            .await
            .unwrap();
        row.serial
    }
}

on_each_database![
    what_was_never_revoked_cannot_be_lifted,
    a_revocation_whose_precondition_fails_changes_nothing,
    the_same_revocation_again_makes_no_revision,
    each_change_is_a_revision_of_its_own,
    a_banned_agent_stands_for_what_was_issued_through_it_and_has_not_ended,
    a_revocation_that_has_ended_is_in_no_list,
    what_a_revocation_hits_is_counted,
    all_that_revocations_hit_is_counted_as_of_each,
    a_revoked_authority_signs_nothing_more_until_it_has_ended,
    of_two_authorities_under_a_root_each_hits_its_own_leaves,
];

async fn what_was_never_revoked_cannot_be_lifted(test: TestStore) {
    for (kind, text) in [("identity", ORDERS), ("agent", AGENT), ("serial", "07")] {
        let refused = test.lift(kind, text, &[]).await;
        assert!(matches!(refused, Err(RevocationError::NotFound)), "{kind}");
    }
    assert_eq!(test.store.head().await.unwrap().number, 0);
}

async fn a_revocation_whose_precondition_fails_changes_nothing(test: TestStore) {
    let first = test.revoke("identity", ORDERS).await;
    let orders = || subject("identity", ORDERS);
    let again = test.revoke_until(orders(), Some(NOW + minutes(1)), &[Expected::Absent]);
    let RevocationError::PreconditionFailed { found } = again.await.unwrap_err() else {
        panic!("a precondition failed");
    };
    assert_eq!(found, Some(first.revision));
    let stale = Expected::AnyOf(Vec::new());
    let lifted = test.lift("identity", ORDERS, &[stale]).await;
    assert!(matches!(
        lifted,
        Err(RevocationError::PreconditionFailed { .. })
    ));
    assert_eq!(test.store.head().await.unwrap(), first.revision);
    assert_eq!(test.denied().await.len(), 1);
}

async fn the_same_revocation_again_makes_no_revision(test: TestStore) {
    for (kind, text) in [("identity", ORDERS), ("agent", AGENT)] {
        let first = test.revoke(kind, text).await;
        let again = test.revoke(kind, text).await;
        assert_eq!((again.revision, again.changed), (first.revision, false));
    }
}

async fn each_change_is_a_revision_of_its_own(test: TestStore) {
    let key = Sha256::of(b"key").to_string();
    let kinds = [
        ("agent", AGENT),
        ("authority", &*key),
        ("identity", ORDERS),
        ("serial", "07"),
    ];
    for (kind, text) in kinds {
        assert!(test.revoke(kind, text).await.changed);
    }
    let listed = test.store.revocations(NOW).await.unwrap();
    let listed: Vec<_> = listed
        .iter()
        .map(|it| (it.subject.kind(), it.revision.number, it.reason.as_str()))
        .collect();
    let expected = [
        ("agent", 1, "stolen"),
        ("authority", 2, "stolen"),
        ("identity", 3, "stolen"),
        ("serial", 4, "stolen"),
    ];
    assert_eq!(listed, expected);
    let lifted = test.lift("serial", "07", &[Expected::Present]).await;
    assert_eq!(lifted.unwrap().revision.number, 5);
    let revision = test.store.revision(5).await.unwrap().unwrap();
    assert_eq!(revision.reason, "found");
}

async fn a_banned_agent_stands_for_what_was_issued_through_it_and_has_not_ended(test: TestStore) {
    let other = "spiffe://corp.example/countersign/agent/x509pop/web-8";
    let live = test.issue(1, AGENT, NOW + minutes(1)).await;
    test.issue(2, AGENT, NOW).await;
    test.issue(3, other, NOW + minutes(1)).await;
    test.revoke("agent", AGENT).await;
    assert_eq!(test.denied().await, BTreeSet::from([Denied::Serial(live)]));
    let late = test.issue(4, AGENT, NOW + minutes(2)).await;
    assert!(test.denied().await.contains(&Denied::Serial(late)));
    test.lift("agent", AGENT, &[]).await.unwrap();
    assert_eq!(test.denied().await, BTreeSet::new());
}

async fn a_revocation_that_has_ended_is_in_no_list(test: TestStore) {
    let serial = subject("serial", "07");
    let until = Some(NOW);
    test.revoke_until(serial.clone(), until, &[]).await.unwrap();
    assert_eq!(test.denied().await, BTreeSet::new());
    assert_eq!(test.store.revocations(NOW).await.unwrap(), []);
    assert_eq!(test.store.revocation(&serial, NOW).await.unwrap(), None);
    let before = NOW - minutes(1);
    assert!(
        test.store
            .revocation(&serial, before)
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(test.store.prune_revocations(before).await.unwrap(), 0);
    assert_eq!(test.store.prune_revocations(NOW).await.unwrap(), 1);
}

async fn what_a_revocation_hits_is_counted(test: TestStore) {
    test.issue(1, AGENT, NOW).await;
    let serial = test.issue(2, AGENT, NOW + minutes(1)).await;
    test.issue(3, AGENT, NOW + minutes(9)).await;
    let until = Some(NOW + minutes(9));
    for hit in [subject("agent", AGENT), subject("identity", ORDERS)] {
        let live = test.store.live_svids_of(&hit, NOW).await.unwrap();
        assert_eq!(live, LiveSvids { count: 2, until });
    }
    let one = RevocationSubject::Serial(serial);
    assert_eq!(test.store.live_svids_of(&one, NOW).await.unwrap().count, 1);
}

async fn all_that_revocations_hit_is_counted_as_of_each(test: TestStore) {
    test.issue(1, AGENT, NOW).await;
    let serial = test.issue(2, AGENT, NOW + minutes(1)).await.to_string();
    test.issue(3, AGENT, NOW + minutes(9)).await;
    let kinds = [("agent", AGENT), ("identity", ORDERS), ("serial", &serial)];
    for (kind, text) in kinds {
        test.revoke(kind, text).await;
    }
    test.revoke("authority", &Sha256::of(b"key").to_string())
        .await;
    let all = test.store.live_svids_of_revoked(NOW).await.unwrap();
    assert_eq!(all.len(), kinds.len());
    for (hit, live) in all {
        assert_eq!(test.store.live_svids_of(&hit, NOW).await.unwrap(), live);
    }
}

fn sealed(purpose: KeyPurpose, key_id: &str) -> SealedKeyRow {
    SealedKeyRow {
        purpose,
        key_id: key_id.to_owned(),
        version: 1,
        wrapped_data_key: vec![1],
        sealed: vec![2],
        kek_check: [3; 16],
        certificate: vec![4],
        created_at: NOW,
    }
}

async fn a_revoked_authority_signs_nothing_more_until_it_has_ended(test: TestStore) {
    let key = Sha256::of(b"key").to_string();
    let rows = [
        sealed(KeyPurpose::MeshAuthority, &key),
        sealed(KeyPurpose::X509Root, "root"),
    ];
    for row in rows.clone() {
        test.store.insert_sealed_key_if_absent(row).await.unwrap();
    }
    assert_eq!(test.store.sealed_keys_in_force(NOW).await.unwrap(), rows);
    let until = NOW + minutes(9);
    let revoked = test.revoke_until(subject("authority", &key), Some(until), &[]);
    revoked.await.unwrap();
    let in_force = test.store.sealed_keys_in_force(NOW).await.unwrap();
    assert_eq!(in_force, [rows[1].clone()]);
    assert_eq!(test.store.sealed_keys_in_force(until).await.unwrap(), rows);
}

async fn of_two_authorities_under_a_root_each_hits_its_own_leaves(test: TestStore) {
    let keys = [b"key", b"old"].map(|key| Sha256::of(key).to_string());
    let row = sealed(KeyPurpose::MeshAuthority, &keys[0]);
    test.store.insert_sealed_key_if_absent(row).await.unwrap();
    for (key_id, issuer) in ["ca-1", "ca-2"].into_iter().zip(&keys) {
        let intermediate = IntermediateRow {
            key_id: key_id.to_owned(),
            generation: 1,
            replica: key_id.to_owned(),
            not_before: NOW,
            not_after: NOW + minutes(60),
            serial: None,
            is_superseded: false,
        };
        let certificate = AuthorityCertificate {
            der: key_id.as_bytes(),
            issuer,
            recorded_at: NOW,
        };
        let recorded = test.store.record_intermediate(&intermediate, certificate);
        recorded.await.unwrap();
    }
    test.issue(1, AGENT, NOW + minutes(1)).await;
    for key in &keys {
        test.revoke("authority", key).await;
    }
    let [key, old] = keys.map(|key| subject("authority", &key));
    let live = LiveSvids {
        count: 1,
        until: Some(NOW + minutes(1)),
    };
    let all = test.store.live_svids_of_revoked(NOW).await.unwrap();
    assert_eq!((all.get(&key), all.get(&old)), (Some(&live), None));
    let hit = test.store.live_svids_of(&key, NOW).await.unwrap();
    let missed = test.store.live_svids_of(&old, NOW).await.unwrap();
    assert_eq!((hit, missed.count), (live, 0));
}
