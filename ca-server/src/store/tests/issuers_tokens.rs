//! Claims about tokens of issuers: one key each.

use crypto::digest::Sha256;
use tokio::task::JoinSet;

use super::*;

fn shown(token: &str, key: &str) -> ShownToken {
    ShownToken {
        token: Sha256::of(token.as_bytes()),
        key: Sha256::of(key.as_bytes()),
        expires_at: NOW + minutes(10),
    }
}

impl TestStore {
    async fn bind(&self, token: &str, key: &str) -> bool {
        let bound = self.store.bind_issuers_token(shown(token, key)).await;
        bound.unwrap()
    }
}

on_each_database![
    a_token_that_another_key_showed_is_refused,
    of_many_racing_keys_exactly_one_gets_a_token,
    a_token_is_forgotten_after_its_end_only,
];

async fn a_token_that_another_key_showed_is_refused(test: TestStore) {
    assert!(test.bind("t", "a").await);
    assert!(!test.bind("t", "b").await);
    assert!(test.bind("t", "a").await);
    assert!(test.bind("u", "b").await);
}

async fn of_many_racing_keys_exactly_one_gets_a_token(test: TestStore) {
    let mut races = JoinSet::new();
    for key in 0..16 {
        let (store, shown) = (test.store.clone(), shown("t", &key.to_string()));
        races.spawn(async move { store.bind_issuers_token(shown).await });
    }
    let outcomes: Result<Vec<bool>, _> = races.join_all().await.into_iter().collect();
    let won = outcomes.unwrap().into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
}

async fn a_token_is_forgotten_after_its_end_only(test: TestStore) {
    assert!(test.bind("t", "a").await);
    test.store.prune(NOW + minutes(10)).await.unwrap();
    assert!(!test.bind("t", "b").await);
    test.store.prune(NOW + minutes(11)).await.unwrap();
    assert!(test.bind("t", "b").await);
}
