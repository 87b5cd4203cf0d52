//! Who may revoke while the store is away: the credentials as they were read last.
//!
//! Invariant: they are believed for as long as `[spool]` says that this replica may do without the
//! store, counted from when they were read; a credential's own end counts as ever. Whoever was revoked
//! elsewhere since can do nothing with them but revoke.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crypto::digest::Sha256;
use runtime::Shutdown;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::store::{AdminCredential, AdminCredentialRow, Store, StoreError};

const READ_EVERY: Duration = Duration::from_secs(15);
const READ_WITHIN: Duration = Duration::from_secs(10);

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct HeldCredentials {
    read: watch::Sender<Arc<Read>>,
    believed_for: Duration,
}

#[derive(Debug)]
struct Read {
    rows: Vec<AdminCredentialRow>,
    at: Instant,
}

/// They were read too long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store is away, and who may revoke was read too long ago")]
pub(crate) struct CannotTell;

impl HeldCredentials {
    /// # Errors
    /// The store is unavailable or damaged.
    pub(crate) async fn read(store: &Store, believed_for: Duration) -> Result<Self, StoreError> {
        let rows = store.admin_credentials().await?;
        let at = Instant::now();
        let read = watch::Sender::new(Arc::new(Read { rows, at }));
        Ok(Self { read, believed_for })
    }

    /// `None`: no live credential has this secret.
    pub(crate) fn recognize(
        &self,
        secret_sha256: &Sha256,
        now: OffsetDateTime,
    ) -> Result<Option<AdminCredential>, CannotTell> {
        let read = self.read.borrow().clone();
        if read.at.elapsed() > self.believed_for {
            return Err(CannotTell);
        }
        Ok(AdminCredential::among(&read.rows, secret_sha256, now))
    }

    /// As they were just read.
    pub(crate) fn note(&self, rows: Vec<AdminCredentialRow>) {
        let at = Instant::now();
        self.read.send_replace(Arc::new(Read { rows, at }));
    }

    /// Reads them again and again until the shutdown begins.
    pub(crate) async fn run(self, store: Store, shutdown: Shutdown) -> Result<(), Infallible> {
        loop {
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                () = sleep(READ_EVERY) => {}
            }
            match timeout(READ_WITHIN, store.admin_credentials()).await {
                Ok(Ok(rows)) => self.note(rows),
                Ok(Err(_)) | Err(_) => tracing::debug!("credentials were not read again"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2030-01-01 00:00 UTC);

    fn held(believed_for: Duration) -> HeldCredentials {
        let row = AdminCredentialRow {
            id: "first".to_owned(),
            secret_sha256: Sha256::of(b"secret"),
            created_at: NOW,
            expires_at: NOW + Duration::from_secs(60),
            revoked_at: None,
        };
        let read = Read {
            rows: vec![row],
            at: Instant::now(),
        };
        HeldCredentials {
            read: watch::Sender::new(Arc::new(read)),
            believed_for,
        }
    }

    #[test]
    fn credentials_that_were_read_too_long_ago_tell_nothing() {
        let held = held(Duration::ZERO);
        let recognized = held.recognize(&Sha256::of(b"secret"), NOW);
        assert_eq!(recognized, Err(CannotTell));
    }

    #[test]
    fn another_secret_and_one_that_has_ended_are_not_recognized() {
        let held = held(Duration::from_secs(3600));
        assert_eq!(held.recognize(&Sha256::of(b"guess"), NOW), Ok(None));
        let late = NOW + Duration::from_secs(60);
        assert_eq!(held.recognize(&Sha256::of(b"secret"), late), Ok(None));
        let recognized = held.recognize(&Sha256::of(b"secret"), NOW).unwrap();
        assert_eq!(recognized.unwrap().id(), "first");
    }
}
