//! Claims about redeeming: one key wins, once, in time, from where it may.

use std::net::IpAddr;

use crypto::digest::Sha256;

use super::*;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn secret() -> Sha256 {
    Sha256::of(b"secret")
}

fn key(name: &str) -> Sha256 {
    Sha256::of(name.as_bytes())
}

fn token() -> NewJoinToken {
    NewJoinToken {
        id: "t1".to_owned(),
        secret_sha256: secret(),
        agent_id: "spiffe://corp.example/countersign/agent/join-token/web-7"
            .parse()
            .unwrap(),
        cidr: None,
        author: "admin/1".to_owned(),
        created_at: NOW,
        expires_at: NOW + minutes(10),
    }
}

impl TestStore {
    async fn keep(&self, token: NewJoinToken) {
        self.store.create_join_tokens(vec![token]).await.unwrap();
    }

    async fn redeem(&self, key_name: &str, after: Duration) -> Result<Redeemed, RedeemError> {
        self.store
            .redeem("t1", secret(), key(key_name), HERE, NOW + after)
            .await
    }
}

on_each_database![
    an_unknown_token_is_refused,
    a_wrong_secret_is_refused_as_if_the_token_were_unknown,
    an_expired_token_is_refused,
    an_address_outside_the_range_is_refused_and_leaves_the_token_unused,
    another_key_is_refused,
    the_same_key_is_refused_after_ten_minutes,
    the_same_key_gets_the_same_answer_although_the_token_expired_meanwhile,
    of_two_racing_keys_exactly_one_wins,
    a_deleted_token_is_unknown,
    one_duplicate_id_keeps_the_whole_batch_out,
    a_token_reads_back_as_it_was_written,
];

async fn an_unknown_token_is_refused(test: TestStore) {
    assert!(matches!(
        test.redeem("a", minutes(0)).await,
        Err(RedeemError::Unknown)
    ));
}

async fn a_wrong_secret_is_refused_as_if_the_token_were_unknown(test: TestStore) {
    test.keep(token()).await;
    let redeemed = test
        .store
        .redeem("t1", Sha256::of(b"guess"), key("a"), HERE, NOW)
        .await;
    assert!(matches!(redeemed, Err(RedeemError::Unknown)));
}

async fn an_expired_token_is_refused(test: TestStore) {
    test.keep(token()).await;
    let redeemed = test.redeem("a", minutes(10)).await;
    assert!(matches!(redeemed, Err(RedeemError::Expired { at }) if at == NOW + minutes(10)));
}

async fn an_address_outside_the_range_is_refused_and_leaves_the_token_unused(test: TestStore) {
    test.keep(NewJoinToken {
        cidr: Some("10.0.0.0/8".parse().unwrap()),
        ..token()
    })
    .await;
    let redeemed = test.redeem("a", minutes(0)).await;
    assert!(matches!(
        redeemed,
        Err(RedeemError::AddressNotAllowed { from: HERE })
    ));
    assert_eq!(
        test.store.join_tokens().await.unwrap()[0].state,
        JoinTokenState::Unused
    );
}

async fn another_key_is_refused(test: TestStore) {
    test.keep(token()).await;
    test.redeem("a", minutes(0)).await.unwrap();
    assert!(matches!(
        test.redeem("b", minutes(1)).await,
        Err(RedeemError::AlreadyUsed)
    ));
}

async fn the_same_key_is_refused_after_ten_minutes(test: TestStore) {
    test.keep(token()).await;
    test.redeem("a", minutes(5)).await.unwrap();
    let late = test
        .redeem("a", minutes(15) + Duration::from_millis(1))
        .await;
    assert!(matches!(late, Err(RedeemError::Expired { .. })));
}

async fn the_same_key_gets_the_same_answer_although_the_token_expired_meanwhile(test: TestStore) {
    test.keep(token()).await;
    let first = test.redeem("a", minutes(9)).await.unwrap();
    let again = test.redeem("a", minutes(19)).await.unwrap();
    assert_eq!(first.agent_id(), again.agent_id());
    assert!(!first.repeated() && again.repeated());
}

async fn of_two_racing_keys_exactly_one_wins(test: TestStore) {
    test.keep(token()).await;
    let (a, b) = tokio::join!(test.redeem("a", minutes(0)), test.redeem("b", minutes(0)));
    let (winner, loser) = if a.is_ok() { (a, b) } else { (b, a) };
    assert!(winner.is_ok());
    assert!(matches!(loser, Err(RedeemError::AlreadyUsed)));
}

async fn a_deleted_token_is_unknown(test: TestStore) {
    test.keep(token()).await;
    assert!(test.store.delete_join_token("t1").await.unwrap());
    assert!(!test.store.delete_join_token("t1").await.unwrap());
    assert!(matches!(
        test.redeem("a", minutes(0)).await,
        Err(RedeemError::Unknown)
    ));
}

async fn one_duplicate_id_keeps_the_whole_batch_out(test: TestStore) {
    test.keep(token()).await;
    let fresh = NewJoinToken {
        id: "t2".to_owned(),
        ..token()
    };
    let refused = test.store.create_join_tokens(vec![fresh, token()]).await;
    assert!(matches!(refused, Err(StoreError::Duplicate { .. })));
    assert_eq!(test.store.join_tokens().await.unwrap().len(), 1);
}

async fn a_token_reads_back_as_it_was_written(test: TestStore) {
    let cidr = Some("127.0.0.0/8".parse().unwrap());
    test.keep(NewJoinToken { cidr, ..token() }).await;
    test.redeem("a", minutes(1)).await.unwrap();
    let state = JoinTokenState::Redeemed {
        key: key("a"),
        at: NOW + minutes(1),
    };
    let expected = JoinTokenRow {
        token: NewJoinToken { cidr, ..token() },
        state,
    };
    assert_eq!(test.store.join_tokens().await.unwrap(), [expected]);
}
