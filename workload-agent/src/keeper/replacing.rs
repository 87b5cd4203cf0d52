//! What is held and good no more, or not for long: it was revoked, nobody can list revocations of
//! what signed it, or its root is about to go. It is replaced at once, and what is revoked is handed
//! out no more.

use std::sync::Arc;

use proto::mesh::v1 as mesh;
use tokio::task::JoinSet;

use super::{Batch, Keeper};
use crate::renewal::Event;

impl Keeper {
    /// Nothing that is revoked is handed out any more; what may be replaced is, at once.
    pub(super) fn obey_denials(&mut self, requests: &mut JoinSet<Batch>) {
        let offered = self.view.borrow().as_ref().map(|it| it.denied().clone());
        let offered = offered.filter(|offered| *offered != self.current().denied);
        let Some(denied) = offered else {
            return;
        };
        self.publisher.deny(denied.clone());
        let mut next = self.current();
        Arc::make_mut(&mut next).denied = denied;
        let replaceable = next.replaceable();
        self.holdings.send_replace(next);
        if !replaceable.is_empty() {
            tracing::warn!(
                certificates = replaceable.len(),
                "certificates were revoked; others are asked for"
            );
            self.step(Event::Replace(replaceable), requests);
        }
    }

    /// What stands under an intermediate that nobody can list revocations of is replaced, for the
    /// sake of validators that go by lists.
    pub(super) fn replace_superseded(&mut self, requests: &mut JoinSet<Batch>) {
        let lists = self
            .view
            .borrow()
            .as_ref()
            .map(|it| Arc::clone(it.revocation_lists()));
        let Some(lists) = lists.filter(|it| !it.superseded.is_empty()) else {
            return;
        };
        let replaceable = self.current().under(&lists.superseded);
        if !replaceable.is_empty() {
            self.step(Event::Replace(replaceable), requests);
        }
    }

    /// What leads to a root that is about to be removed is replaced at once.
    pub(super) async fn adopt_bundle(
        &mut self,
        bundle: mesh::Bundle,
        requests: &mut JoinSet<Batch>,
    ) {
        let mut next = self.current();
        Arc::make_mut(&mut next).bundle = Some(Arc::new(bundle));
        self.save(&next).await;
        self.publish_own(&next);
        let tainted = next.tainted(&self.trust_domain, self.clock.now());
        self.holdings.send_replace(next);
        if !tainted.is_empty() {
            tracing::warn!(
                certificates = tainted.len(),
                "a root is about to be removed; what leads to it is replaced"
            );
            self.step(Event::Replace(tainted), requests);
        }
    }
}
