//! What is revoked above of this instance's authorities is refused here as well: by the same
//! deny-list, in the same way, as what is revoked here.
//!
//! Invariant: what is refused here already stays as it is, whoever revoked it; of replicas that hear
//! of it at once, one makes the revision.

use crypto::digest::Sha256;
use time::OffsetDateTime;

use super::NestingError;
use super::keeper::AUTHOR;
use crate::registry::{Registry, RevokeError};
use crate::store::{
    Authorship, Expected, NewRevocation, RevocationChange, RevocationError, RevocationSubject,
};

const REASON: &str = "the instance above has revoked it";

/// By key, and until when it is valid. Also where live proxies are too old to obey: everybody above
/// refuses what leads to it anyway.
pub(super) async fn refuse_revoked(
    registry: &Registry,
    revoked: &[(Sha256, OffsetDateTime)],
    now: OffsetDateTime,
) -> Result<(), NestingError> {
    for (key, until) in revoked {
        let subject = RevocationSubject::Authority(*key);
        let denials = registry.denials().borrow().clone();
        let is_refused = subject
            .denied()
            .is_some_and(|denied| denials.list().contains(&denied));
        if is_refused || *until <= now {
            continue;
        }
        let change = RevocationChange::Revoke(NewRevocation {
            subject,
            expires_at: Some(*until),
        });
        let authorship = Authorship {
            author: AUTHOR.to_owned(),
            reason: REASON.to_owned(),
            at: now,
        };
        let made = registry.change_revocation(change, vec![Expected::Absent], authorship);
        match made.await {
            Ok(_) => tracing::error!(
                alarm = "upstream-authority-revoked",
                key_id = %key,
                "the instance above has revoked an authority of this one; what leads to it is \
                 refused and replaced here"
            ),
            Err(RevokeError::Refused(RevocationError::PreconditionFailed { .. })) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use runtime::{Clock, Shutdown, ShutdownTrigger};
    use tokio::task::JoinSet;

    use super::*;
    use crate::registry::RegistryWriter;
    use crate::store::Store;
    use crate::store::tests::TestStore;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Two replicas of one store.
    struct Replicas {
        one: Registry,
        other: Registry,
        store: TestStore,
        now: OffsetDateTime,
        _shutdown: ShutdownTrigger,
        _tasks: JoinSet<()>,
    }

    impl Replicas {
        async fn start() -> Self {
            let store = TestStore::open().await;
            let (shutdown, signal) = Shutdown::pair();
            let mut tasks = JoinSet::new();
            let (one, writer) = open(&store.store).await;
            let (other, another) = open(&store.store).await;
            for writer in [writer, another] {
                let signal = signal.clone();
                tasks.spawn(async move {
                    let Ok(()) = writer.run(signal).await;
                });
            }
            Self {
                one,
                other,
                store,
                now: Clock::system().now(),
                _shutdown: shutdown,
                _tasks: tasks,
            }
        }

        fn told(&self) -> [(Sha256, OffsetDateTime); 1] {
            [(Sha256::of(b"key"), self.now + HOUR)]
        }

        async fn in_force(&self) -> Vec<(String, String)> {
            let all = self.store.store.revocations(self.now).await.unwrap();
            all.into_iter().map(|it| (it.author, it.reason)).collect()
        }
    }

    async fn open(store: &Store) -> (Registry, RegistryWriter) {
        let opened = Registry::open(store.clone(), Vec::new(), Clock::system());
        opened.await.unwrap()
    }

    #[tokio::test]
    async fn what_has_ended_meanwhile_is_not_refused() {
        let replicas = Replicas::start().await;
        let (told, late) = (replicas.told(), replicas.now + HOUR);
        refuse_revoked(&replicas.one, &told, late).await.unwrap();
        assert_eq!(replicas.in_force().await, []);
    }

    #[tokio::test]
    async fn replicas_that_hear_of_a_revocation_at_once_make_one_revision() {
        let replicas = Replicas::start().await;
        let (told, now) = (replicas.told(), replicas.now);
        let (one, other) = tokio::join!(
            refuse_revoked(&replicas.one, &told, now),
            refuse_revoked(&replicas.other, &told, now),
        );
        one.unwrap();
        other.unwrap();
        refuse_revoked(&replicas.one, &told, now).await.unwrap();
        assert_eq!(
            replicas.in_force().await,
            [(AUTHOR.to_owned(), REASON.to_owned())]
        );
        assert_eq!(replicas.store.store.head().await.unwrap().number, 1);
    }

    #[tokio::test]
    async fn what_is_refused_here_already_keeps_its_author_and_reason() {
        let replicas = Replicas::start().await;
        let told = replicas.told();
        let by_hand = Authorship {
            author: "admin/1".to_owned(),
            reason: "stolen".to_owned(),
            at: replicas.now,
        };
        let change = RevocationChange::Revoke(NewRevocation {
            subject: RevocationSubject::Authority(told[0].0),
            expires_at: None,
        });
        let made = replicas.one.change_revocation(change, Vec::new(), by_hand);
        made.await.unwrap();
        // The other replica has not heard of it yet.
        let refused = refuse_revoked(&replicas.other, &told, replicas.now);
        refused.await.unwrap();
        assert_eq!(
            replicas.in_force().await,
            [("admin/1".to_owned(), "stolen".to_owned())]
        );
    }
}
