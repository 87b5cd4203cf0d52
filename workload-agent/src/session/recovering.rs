//! What is done when the CA cannot be told from a thief of its root: a bundle update is looked for,
//! in a file that the operator left and at whoever answers for the CA, and taken if the pinned
//! recovery key has signed it.
//!
//! Invariant: nothing but the update's signature is believed, and nothing secret is said.

use identity::recovery::BundleUpdate;
use mtls::{HandshakeError, PinnedRoots, Refusal};
use proto::agent::v1::RecoverRequest;
use proto::agent::v1::attestation_client::AttestationClient;
use tokio::sync::oneshot;

use super::{Session, Trouble};
use crate::ca::{ConnectError, Trust};
use crate::join::origin;
use crate::keeper::Recovered;
use crate::recovery::{RecoveryError, Road};

/// In the state directory.
pub(crate) const UPDATE_FILE: &str = "bundle-update";
/// An update is shorter, and anybody may have written the file.
const LONGEST: u64 = 128 * 1024;

impl Session {
    /// What the operator left while the agent was down; a thief who answers for the CA cannot keep
    /// it from being taken.
    pub(super) async fn recover_by_hand(&mut self) {
        let Some(text) = self.left_update() else {
            return;
        };
        match self.judge_update(Road::Hand, &text) {
            Ok(update) => {
                if let Err(error) = self.take_update(update).await {
                    self.report_recovery(&error);
                }
            }
            // It was taken before, or is reported once it is needed.
            Err(error) => tracing::debug!(
                error = %runtime::exit::one_line(&error),
                "the bundle update in the state directory is not taken"
            ),
        }
    }

    /// After a CA was refused for its root. `Ok`: other roots are trusted now.
    pub(super) async fn recover(&mut self) -> Result<(), RecoveryError> {
        if !self.recovery.has_key() {
            return Err(RecoveryError::NoKey);
        }
        let left = self
            .left_update()
            .map(|text| self.judge_update(Road::Hand, &text));
        let update = match left {
            Some(Ok(update)) => update,
            _ => {
                let shown = self.shown_update().await;
                self.judge_update(Road::Network, &shown)?
            }
        };
        self.take_update(update).await
    }

    fn judge_update(&self, road: Road, text: &str) -> Result<BundleUpdate, RecoveryError> {
        let held = self.holdings.borrow().bundle.clone();
        let held = held.map_or(0, |bundle| bundle.sequence);
        self.recovery.judge_from(road, text, held, self.clock.now())
    }

    async fn take_update(&mut self, update: BundleUpdate) -> Result<(), RecoveryError> {
        self.recovery.took(&update).await?;
        tracing::warn!(
            number = update.number(),
            roots = update.bundle().authorities().len(),
            "the recovery key has replaced the roots that this agent trusts"
        );
        let (done, adopted) = oneshot::channel();
        let recovered = Recovered {
            bundle: update.bundle().clone(),
            removed: self.recovery.removed(),
            done,
        };
        // The keeper ends with the process only.
        if self.recovered.send(recovered).await.is_ok() {
            drop(adopted.await);
        }
        self.afresh = true;
        Ok(())
    }

    fn left_update(&self) -> Option<String> {
        let path = self.update_file.as_path();
        let size = std::fs::metadata(path).ok()?.len();
        if size > LONGEST {
            tracing::warn!(path = %path.display(), "too large for a bundle update; ignored");
            return None;
        }
        std::fs::read_to_string(path).ok()
    }

    /// What the CA, or whoever answers in its place, shows; empty without an answer.
    async fn shown_update(&self) -> String {
        let anyone = PinnedRoots::danger_unproven(self.trust_domain.clone());
        let Ok(connection) = self.connect(Trust::Pinned(anyone)).await else {
            return String::new();
        };
        let mut client = AttestationClient::with_origin(connection.channel.clone(), origin());
        match client.recover(RecoverRequest {}).await {
            Ok(answer) => answer.into_inner().bundle_update,
            Err(status) => {
                tracing::info!(reason = status.message(), "no bundle update is to be had");
                String::new()
            }
        }
    }

    pub(super) fn report_recovery(&self, error: &RecoveryError) {
        tracing::error!(
            error = %runtime::exit::one_line(error),
            "this agent does not trust the CA, and no bundle update helps it"
        );
    }
}

impl Trouble {
    /// The CA may be a thief, or have a root that this agent was never told of.
    pub(super) fn is_distrust(&self) -> bool {
        let Self::Connect(ConnectError::Tls(_, HandshakeError::Refused(refusal))) = self else {
            return false;
        };
        matches!(
            refusal,
            Refusal::UnknownAuthority | Refusal::NotPinned | Refusal::Certificate(_)
        )
    }
}
