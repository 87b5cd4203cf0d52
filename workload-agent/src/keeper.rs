//! The one owner of the credentials: runs the renewal machine, asks the CA, judges what comes,
//! publishes it and keeps it in the sealed cache.
//!
//! Invariants: nothing is published that was not verified against the bundle, matched with its
//! key and found to be the identity that was asked for; each certificate has a new key; what is new
//! is on disk before anybody uses it. A CA that has seen a serial takes no older one back once that
//! has expired, so an own certificate that was used and then lost would need a new token.

mod issuing;
mod recovered;
mod replacing;
mod restored;

use std::collections::BTreeSet;
use std::sync::Arc;

use crypto::digest::Sha256;
use crypto::random::{Random, SystemRandom};
use crypto::signing::SigningKey;
use identity::join_token::CaAddress;
use identity::x509::{
    Bundle, BundleSet, Denied, KeyMismatch, SvidError, UnverifiedChain, X509Svid,
};
use identity::{AgentId, SpiffeId, TrustDomain, renewal_time};
use mtls::Publisher;
use proto::mesh::v1 as mesh;
use runtime::{Clock, Shutdown};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};

use crate::cache::{Cache, StoredCredentials};
use crate::contact::Contact;
use crate::holdings::{Held, Holdings};
use crate::recovery::without_removed;
use crate::renewal::{Action, Event, Renewal};
use crate::session::Verdict;
use crate::view::{View, ViewError, judge_bundle, judge_untainted};

pub(crate) use issuing::{Batch, Outcome};
pub(crate) use restored::restore;

/// What the keeper is made of.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) clock: Clock,
    pub(crate) cache: Cache,
    pub(crate) publisher: Publisher,
    pub(crate) holdings: watch::Sender<Arc<Holdings>>,
    pub(crate) contact: watch::Sender<Contact>,
    pub(crate) view: watch::Receiver<Option<Arc<View>>>,
    pub(crate) admitted: mpsc::Receiver<Admitted>,
    pub(crate) recovered: mpsc::Receiver<Recovered>,
    /// Digests of roots that are never trusted again.
    pub(crate) removed: BTreeSet<Sha256>,
    pub(crate) renewal: Renewal,
    /// What each replica that was asked is good for.
    pub(crate) verdicts: mpsc::Sender<Verdict>,
}

/// The agent's own SVID from an attestation, still to be judged.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) key: SigningKey,
    pub(crate) bundle: mesh::Bundle,
    pub(crate) judged: oneshot::Sender<Result<(), NotTaken>>,
}

/// Other roots, by the word of the recovery key.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) bundle: Bundle,
    /// Digests of all roots that are never trusted again.
    pub(crate) removed: BTreeSet<Sha256>,
    pub(crate) done: oneshot::Sender<()>,
}

/// Why a certificate from the CA was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    #[error("the chain is malformed")]
    Chain(#[from] identity::x509::ChainError),
    #[error("the chain does not verify")]
    Svid(#[from] SvidError),
    #[error("the certificate is for another key")]
    Key(#[from] KeyMismatch),
    #[error("the certificate is for {got}, and {wanted} was asked for")]
    OtherIdentity { wanted: SpiffeId, got: SpiffeId },
    #[error("{0} is not an agent's identity")]
    NotAnAgent(SpiffeId),
    #[error("there is no bundle to judge it by")]
    NoBundle,
    #[error("the certificate leads to a root that is about to be removed")]
    Tainted,
    #[error("the certificate is revoked, by {0}")]
    Revoked(Denied),
    #[error("the bundle is refused")]
    Bundle(#[from] ViewError),
}

impl Keeper {
    pub(crate) async fn run(mut self, shutdown: Shutdown) -> Result<(), JoinError> {
        let mut requests = JoinSet::new();
        let mut contact = self.contact.subscribe();
        let mut reached = None;
        let mut steps = self.clock.steps();
        self.publisher.deny(self.current().denied.clone());
        self.publish_own(&self.current());
        self.reassign(&mut requests);
        loop {
            let wake = self.renewal.wakes_at();
            let clock = self.clock.clone();
            let due = async move {
                match wake {
                    Some(at) => clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                Some(admitted) = self.admitted.recv() => self.admit(admitted, &mut requests).await,
                Some(recovered) = self.recovered.recv() => self.recover(recovered, &mut requests).await,
                Ok(()) = self.view.changed() => self.reconfigure(&mut requests).await,
                Some(batch) = requests.join_next() => self.answered(batch?, &mut requests).await,
                Ok(()) = contact.changed() => {
                    let now_reached = reachable(&contact.borrow_and_update());
                    if now_reached.is_some() && now_reached != reached {
                        self.step(Event::Reachable, &mut requests);
                    }
                    reached = now_reached;
                }
                () = steps.next() => self.step(Event::ClockSet, &mut requests),
                () = due => self.step(Event::Tick, &mut requests),
            }
        }
    }

    async fn admit(&mut self, admitted: Admitted, requests: &mut JoinSet<Batch>) {
        let Admitted {
            chain,
            key,
            bundle,
            judged,
        } = admitted;
        let outcome = match self.take_own(chain, key, bundle) {
            Ok(next) => {
                self.adopt(next).await;
                self.own_adopted(requests);
                if self.reassign(requests) {
                    self.save(&self.current()).await;
                }
                Ok(())
            }
            Err(not_taken) => Err(not_taken),
        };
        // The session may have gone with the process's end.
        drop(judged.send(outcome));
    }

    fn take_own(
        &self,
        chain: Vec<Vec<u8>>,
        key: SigningKey,
        bundle: mesh::Bundle,
    ) -> Result<Arc<Holdings>, NotTaken> {
        let bundle = without_removed(bundle, &self.removed);
        let bundles = BundleSet::from(judge_bundle(&self.trust_domain, &bundle)?);
        let svid = self.judge(chain, key, &bundles)?;
        if AgentId::try_from(svid.spiffe_id().clone()).is_err() {
            return Err(NotTaken::NotAnAgent(svid.spiffe_id().clone()));
        }
        let mut holdings = self.current();
        let held = self.held(svid, holdings.own.as_deref());
        let next = Arc::make_mut(&mut holdings);
        next.bundle = Some(Arc::new(bundle));
        next.set_own(held);
        Ok(holdings)
    }

    /// After a new view: other identities, another deny-list, or another bundle.
    async fn reconfigure(&mut self, requests: &mut JoinSet<Batch>) {
        self.obey_denials(requests);
        self.replace_superseded(requests);
        let offered = self
            .view
            .borrow_and_update()
            .as_ref()
            .map(|view| without_removed(view.bundle().clone(), &self.removed));
        let held = self.current().bundle.clone();
        let changed = offered.filter(|offered| {
            let stale = held
                .as_ref()
                .is_some_and(|held| held.sequence > offered.sequence);
            !stale && held.as_deref() != Some(offered)
        });
        if let Some(bundle) = changed {
            self.adopt_bundle(bundle, requests).await;
        }
        if self.reassign(requests) {
            self.save(&self.current()).await;
        }
    }

    async fn answered(&mut self, batch: Batch, requests: &mut JoinSet<Batch>) {
        crate::contact::note_clock(&self.contact, batch.ca_time_unix_ms, self.clock.now());
        if let Some(verdict) = batch.verdict {
            // Nobody reads them without a connection; the next attempt says it again.
            drop(self.verdicts.try_send(verdict));
        }
        let mut next = self.current();
        let mut events = Vec::new();
        for (id, outcome) in batch.outcomes {
            let draw = SystemRandom.unit();
            events.push(match outcome {
                Outcome::Issued { chain, key } => match self.take(&mut next, &id, chain, key) {
                    Ok(event) => event,
                    Err(error) => {
                        tracing::error!(spiffe_id = %id, error = %chain_of(&error), "certificate from the CA not taken");
                        Event::Failed { id, draw }
                    }
                },
                Outcome::Refused(refusal) => {
                    tracing::warn!(spiffe_id = %id, code = refusal.code, reason = refusal.message, "the CA refuses to renew");
                    Event::Refused { id, draw }
                }
                Outcome::Failed(reason) => {
                    tracing::info!(spiffe_id = %id, reason, "renewal is tried again");
                    Event::Failed { id, draw }
                }
            });
        }
        if !Arc::ptr_eq(&next, &self.current()) {
            self.adopt(next).await;
        }
        for event in events {
            self.step(event, requests);
        }
    }

    /// Keeps what is held next, and only then lets others use it.
    async fn adopt(&self, next: Arc<Holdings>) {
        self.save(&next).await;
        let own = |holdings: &Holdings| holdings.own.as_ref().map(Arc::as_ptr);
        if own(&next) != own(&self.current()) {
            self.publish_own(&next);
        }
        self.holdings.send_replace(next);
    }

    /// Puts the certificate into `holdings`, if it is what was asked for.
    fn take(
        &self,
        holdings: &mut Arc<Holdings>,
        id: &SpiffeId,
        chain: Vec<Vec<u8>>,
        key: SigningKey,
    ) -> Result<Event, NotTaken> {
        let bundle = holdings.bundle.as_deref().ok_or(NotTaken::NoBundle)?;
        let bundles = BundleSet::from(judge_bundle(&self.trust_domain, bundle)?);
        let svid = self.judge(chain, key, &bundles)?;
        if !bundle.tainted_authorities.is_empty() {
            let untainted = judge_untainted(&self.trust_domain, bundle)?;
            let chain = UnverifiedChain::from_der(svid.svid().chain().to_vec())?;
            let verified = chain.verify(&untainted.into(), self.clock.now());
            verified.map_err(|_| NotTaken::Tainted)?;
        }
        if let Some(by) = holdings.denied.refuses(svid.svid()) {
            return Err(NotTaken::Revoked(by));
        }
        if svid.spiffe_id() != id {
            return Err(NotTaken::OtherIdentity {
                wanted: id.clone(),
                got: svid.spiffe_id().clone(),
            });
        }
        let is_own = holdings.own_id() == Some(id);
        let before = if is_own {
            holdings.own.as_deref()
        } else {
            holdings.workloads.get(id).map(|held| &**held)
        };
        let held = self.held(svid, before);
        let event = held_event(&held);
        tracing::info!(spiffe_id = %id, serial = %held.svid.svid().serial(), not_after = %held.not_after(), "certificate renewed");
        if !self.renewal.wants(id) {
            return Ok(event);
        }
        let next = Arc::make_mut(holdings);
        if is_own {
            next.set_own(held);
        } else {
            next.workloads.insert(id.clone(), Arc::new(held));
        }
        Ok(event)
    }

    fn judge(
        &self,
        chain: Vec<Vec<u8>>,
        key: SigningKey,
        bundles: &BundleSet,
    ) -> Result<X509Svid, NotTaken> {
        let chain = chain.into_iter().map(Into::into).collect();
        let verified = UnverifiedChain::from_der(chain)?.verify(bundles, self.clock.now())?;
        Ok(X509Svid::try_new(verified, key)?)
    }

    fn held(&self, svid: X509Svid, before: Option<&Held>) -> Held {
        let now = self.clock.now();
        let validity = *svid.svid().validity();
        Held {
            renews_at: renewal_time(&validity, now, &mut SystemRandom),
            life: validity.remaining(now),
            renewals: before.map_or(0, |held| held.renewals + 1),
            svid,
        }
    }

    /// Tells the machine what is to be held. Returns whether something was withdrawn.
    fn reassign(&mut self, requests: &mut JoinSet<Batch>) -> bool {
        let Some(own) = self.current().own_id().cloned() else {
            return false;
        };
        let mut ids = BTreeSet::from([own]);
        if let Some(view) = &*self.view.borrow() {
            ids.extend(view.assignments().keys().cloned());
        }
        let holdings = self.current();
        ids.retain(|id| !holdings.is_revoked(id));
        let before = self.current().workloads.len();
        self.step(Event::Assigned(ids), requests);
        self.current().workloads.len() != before
    }

    fn own_adopted(&mut self, requests: &mut JoinSet<Batch>) {
        if let Some(own) = self.current().own.as_deref() {
            self.step(adopted_event(own), requests);
        }
    }

    fn step(&mut self, event: Event, requests: &mut JoinSet<Batch>) {
        let (next, actions) = std::mem::take(&mut self.renewal).step(event, self.clock.now());
        self.renewal = next;
        for action in actions {
            match action {
                Action::Request(ids) => {
                    for batch in issuing::batches(ids) {
                        requests.spawn(issuing::issue(self.contact.subscribe(), batch));
                    }
                }
                Action::Withdraw(id) => self.withdraw(&id),
            }
        }
    }

    fn withdraw(&self, id: &SpiffeId) {
        let held = self.current().workloads.contains_key(id);
        if !held {
            return;
        }
        tracing::warn!(spiffe_id = %id, "identity withdrawn: expired, revoked, or no longer assigned");
        self.holdings.send_modify(|holdings| {
            Arc::make_mut(holdings).workloads.remove(id);
        });
    }

    fn current(&self) -> Arc<Holdings> {
        self.holdings.borrow().clone()
    }

    /// For connections to the CA.
    fn publish_own(&self, holdings: &Holdings) {
        let (Some(own), Some(bundle)) = (holdings.own(self.clock.now()), &holdings.bundle) else {
            return;
        };
        let bundles = match judge_bundle(&self.trust_domain, bundle) {
            Ok(bundle) => BundleSet::from(bundle),
            Err(error) => {
                tracing::error!(error = %chain_of(&error), "bundle not published");
                return;
            }
        };
        let published = self.publisher.publish(own.svid.clone(), bundles);
        if let Err(error) = published {
            tracing::error!(error = %chain_of(&error), "own certificate not published");
        }
    }

    /// Certificates are served even when they cannot be kept: a full disk stops no renewal.
    async fn save(&self, holdings: &Holdings) {
        let stored = holdings.to_stored(&self.trust_domain);
        let bundle = stored.bundle.as_ref().map(|bundle| bundle.sequence);
        let kept = self.cache.store::<StoredCredentials>(stored).await;
        if kept.is_ok() {
            self.contact
                .send_if_modified(|contact| contact.note_bundle(bundle));
        }
        if let Err(error) = kept {
            tracing::error!(error = %chain_of(&error), "credentials not cached: a restart without the CA will lack them");
        }
    }
}

/// The replica that requests go to.
fn reachable(contact: &Contact) -> Option<Option<CaAddress>> {
    contact.channel.as_ref().map(|_| contact.address.clone())
}

pub(crate) fn adopted_event(held: &Held) -> Event {
    Event::Adopted {
        id: held.svid.spiffe_id().clone(),
        not_after: held.not_after(),
        renews_at: held.renews_at,
    }
}

fn held_event(held: &Held) -> Event {
    Event::Held {
        id: held.svid.spiffe_id().clone(),
        not_after: held.not_after(),
        renews_at: held.renews_at,
    }
}

fn chain_of(error: &(dyn std::error::Error + 'static)) -> String {
    runtime::exit::one_line(error)
}
