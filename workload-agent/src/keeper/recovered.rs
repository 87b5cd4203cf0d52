//! Other roots, by the word of the recovery key: everything held is judged again by them.

use std::collections::BTreeSet;
use std::sync::Arc;

use proto::mesh::v1 as mesh;
use tokio::task::JoinSet;

use super::{Batch, Keeper, Recovered, restore};
use crate::cache::StoredCredentials;
use crate::renewal::Event;

impl Keeper {
    /// What does not lead to the roots of now is handed out no more, and asked for again as soon
    /// as the CA can be reached. The own SVID stays as a proof for `Reattest`.
    pub(super) async fn recover(&mut self, recovered: Recovered, requests: &mut JoinSet<Batch>) {
        let Recovered {
            bundle,
            removed,
            done,
        } = recovered;
        self.removed = removed;
        let roots = bundle.authorities().iter();
        let bundle = mesh::Bundle {
            trust_domain: bundle.trust_domain().to_string(),
            sequence: bundle.sequence(),
            x509_authorities: roots.map(|root| root.der().to_vec()).collect(),
            tainted_authorities: Vec::new(),
        };
        let before = self.current();
        let stored = StoredCredentials {
            bundle: Some(bundle),
            ..before.to_stored(&self.trust_domain)
        };
        let mut next = restore(&self.trust_domain, &stored, self.clock.now());
        next.denied = before.denied.clone();
        let kept: BTreeSet<_> = next.all().map(|it| it.svid.spiffe_id().clone()).collect();
        let lost = before.all().map(|it| it.svid.spiffe_id().clone());
        let lost: BTreeSet<_> = lost.filter(|id| !kept.contains(id)).collect();
        let next = Arc::new(next);
        self.save(&next).await;
        self.publish_own(&next);
        self.holdings.send_replace(next);
        if !lost.is_empty() {
            tracing::warn!(
                certificates = lost.len(),
                "certificates led to a root that the recovery key has removed"
            );
            self.step(Event::Replace(lost), requests);
        }
        if done.send(()).is_err() {
            tracing::debug!("the session has gone, as at the process's end");
        }
    }
}
