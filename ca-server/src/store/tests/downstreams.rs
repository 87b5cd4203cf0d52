//! Claims about instances below this one and what was signed for them.

use crypto::digest::Sha256;
use identity::{SerialNumber, Validity};

use super::*;

const EU: &str = "eu";

fn secret(of: &str) -> Sha256 {
    Sha256::of(of.as_bytes())
}

fn authority(key: &str, generation: u32, ends: OffsetDateTime) -> DownstreamAuthorityRow {
    DownstreamAuthorityRow {
        key_id: Sha256::of(key.as_bytes()).to_string(),
        downstream: EU.to_owned(),
        generation,
        serial: SerialNumber::from_bytes(&[key.as_bytes()[0]]).unwrap(),
        validity: Validity::try_new(NOW - minutes(1), ends).unwrap(),
        chain: vec![1, 2],
    }
}

impl TestStore {
    async fn downstream(&self, name: &str) -> bool {
        let row = DownstreamRow {
            name: name.to_owned(),
            secret_sha256: secret(name),
            author: "admin/1".to_owned(),
            created_at: NOW,
            bundle_sequence: 0,
            seen_at: None,
        };
        self.store.put_downstream(&row).await.unwrap()
    }

    async fn keep_below(
        &self,
        row: &DownstreamAuthorityRow,
        now: OffsetDateTime,
    ) -> DownstreamAuthorityRow {
        let certificate = AuthorityCertificate {
            der: &row.chain,
            issuer: "root",
            recorded_at: now,
        };
        let kept = self.store.record_downstream_authority(row, certificate);
        kept.await.unwrap()
    }

    async fn recognized(&self, name: &str) -> Option<Downstream> {
        let secret = secret(name);
        let found = self.store.recognize_downstream(&secret, NOW);
        found.await.unwrap()
    }
}

on_each_database![
    a_secret_opens_until_its_owner_is_deleted,
    the_first_certificate_of_a_key_stays_until_it_has_ended,
    a_root_is_in_use_until_the_last_authority_below_it_has_ended,
    who_holds_a_live_authority_is_waited_for,
    a_revoked_authority_below_is_on_the_list_of_its_root,
];

async fn a_secret_opens_until_its_owner_is_deleted(test: TestStore) {
    assert!(test.downstream(EU).await);
    assert!(!test.downstream(EU).await);
    assert_eq!(test.recognized("us").await, None);
    assert_eq!(test.recognized(EU).await.unwrap().name(), EU);
    assert_eq!(
        test.store.downstreams().await.unwrap()[0].seen_at,
        Some(NOW)
    );
    assert!(test.store.delete_downstream(EU).await.unwrap());
    assert_eq!(test.recognized(EU).await, None);
}

async fn the_first_certificate_of_a_key_stays_until_it_has_ended(test: TestStore) {
    let first = authority("a", 1, NOW + minutes(10));
    test.keep_below(&first, NOW).await;
    let second = DownstreamAuthorityRow {
        chain: vec![3],
        validity: Validity::try_new(NOW, NOW + minutes(90)).unwrap(),
        ..first.clone()
    };
    assert_eq!(test.keep_below(&second, NOW + minutes(9)).await, first);
    assert_eq!(test.keep_below(&second, NOW + minutes(10)).await, second);
}

async fn a_root_is_in_use_until_the_last_authority_below_it_has_ended(test: TestStore) {
    test.keep_below(&authority("a", 2, NOW + minutes(10)), NOW)
        .await;
    test.keep_below(&authority("b", 2, NOW + minutes(30)), NOW)
        .await;
    let until = test.store.leaves_until(NOW).await.unwrap();
    assert_eq!(until.get(&2), Some(&(NOW + minutes(30))));
    let later = test.store.leaves_until(NOW + minutes(30)).await.unwrap();
    assert_eq!(later.get(&2), None);
}

async fn who_holds_a_live_authority_is_waited_for(test: TestStore) {
    test.downstream(EU).await;
    test.downstream("us").await;
    test.keep_below(&authority("a", 1, NOW + minutes(10)), NOW)
        .await;
    let eu = test.recognized(EU).await.unwrap();
    for sequence in [7, 5] {
        let noted = test.store.note_downstream_bundle(&eu, sequence);
        noted.await.unwrap();
    }
    let live = test.store.live_downstreams(NOW).await.unwrap();
    let live: Vec<_> = live
        .iter()
        .map(|row| (&*row.name, row.bundle_sequence))
        .collect();
    assert_eq!(live, [(EU, 7)]);
    let later = test
        .store
        .live_downstreams(NOW + minutes(10))
        .await
        .unwrap();
    assert!(later.is_empty());
}

async fn a_revoked_authority_below_is_on_the_list_of_its_root(test: TestStore) {
    let row = authority("a", 1, NOW + minutes(10));
    test.keep_below(&row, NOW).await;
    let change = RevocationChange::Revoke(NewRevocation {
        subject: RevocationSubject::parse("authority", &row.key_id).unwrap(),
        expires_at: None,
    });
    let authorship = Authorship {
        author: "admin/1".to_owned(),
        reason: "stolen".to_owned(),
        at: NOW,
    };
    let changed = test.store.change_revocation(&change, &[], &authorship);
    changed.await.unwrap();
    let revoked = test.store.revoked_intermediates_of(1, NOW).await.unwrap();
    assert_eq!(revoked.len(), 1);
    assert_eq!(revoked[0].serial, row.serial);
}
