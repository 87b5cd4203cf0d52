//! Certificate revocation lists (RFC 5280 §5), for validators that know no deny-list of ours.
//!
//! Invariant: each authority whose key this replica has, the one that signs and those before it, has
//! a list that does not end before its next one is signed, and is signed anew as soon as the
//! deny-list changes. An intermediate whose key is gone lists nothing any more: when something should
//! be listed the root lists the intermediate itself, and agents replace what leads to it. A root that
//! can sign no list is told of in the log; what leads to the intermediate is replaced all the same.

mod lost;
mod roots;
mod signed;
mod told;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use identity::x509::{CrlSpec, IssueError, RevokedCertificate};
use runtime::{Clock, Shutdown};
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};

use self::roots::RootLists;
use self::signed::Signed;
pub(crate) use self::told::ToldLists;
use crate::authority::{Authority, Intermediate, RootKeeper};
use crate::config::Lifetimes;
use crate::registry::{PublishedDenials, Registry};
use crate::store::{CrlRow, Duty, RevokedRow, Store, StoreError};

/// How often it is looked whether a list is due, a replica is lost, or another one's list is new:
/// notices may be.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Who signs the roots' lists goes on with it for so long after it was last heard of.
const LEASE: Duration = Duration::from_secs(30);
/// Lists of lives that are seconds long would be signed all the time.
const SHORTEST_LIFE: Duration = Duration::from_secs(10 * 60);

/// The background job.
#[derive(Debug)]
pub(crate) struct RevocationLists {
    replica: String,
    authority: Authority,
    registry: Registry,
    store: Store,
    clock: Clock,
    lifetimes: Lifetimes,
    /// Another replica has signed a list.
    news: Arc<Notify>,
    told: watch::Sender<Arc<ToldLists>>,
    signers: BTreeMap<String, Signer>,
    roots: RootLists,
    leads_until: Option<OffsetDateTime>,
}

/// What a replica signs lists with.
#[derive(Debug)]
pub(crate) struct ListSigning {
    pub(crate) replica: String,
    pub(crate) keeper: RootKeeper,
    pub(crate) authority: Authority,
    pub(crate) lifetimes: Lifetimes,
}

/// An authority of this replica.
#[derive(Debug)]
struct Signer {
    intermediate: Arc<Intermediate>,
    signed: Signed<Arc<PublishedDenials>>,
}

#[derive(Debug, thiserror::Error)]
enum ListError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the list of this replica's leaves was not signed")]
    Sign(#[from] IssueError),
}

impl RevocationLists {
    /// The job, and what agents are told. `news` is of other replicas' lists.
    pub(crate) fn new(
        signing: ListSigning,
        registry: Registry,
        store: Store,
        (clock, news): (Clock, Arc<Notify>),
    ) -> (Self, watch::Receiver<Arc<ToldLists>>) {
        let (told, of_told) = watch::channel(Arc::default());
        let lists = Self {
            replica: signing.replica,
            authority: signing.authority,
            registry,
            store,
            clock,
            lifetimes: signing.lifetimes,
            news,
            told,
            signers: BTreeMap::new(),
            roots: RootLists::new(signing.keeper),
            leads_until: None,
        };
        (lists, of_told)
    }

    /// Signs and looks until the shutdown begins.
    pub(crate) async fn run(mut self, shutdown: Shutdown) -> Result<(), Infallible> {
        let mut denials = self.registry.denials();
        let mut failed = false;
        loop {
            let current = Arc::clone(&denials.borrow_and_update());
            let round = self.round(&current, self.clock.now()).await;
            if let Err(error) = &round
                && !failed
            {
                tracing::warn!(
                    error = %runtime::exit::one_line(error),
                    "certificate revocation lists are not up to date; trying again"
                );
            }
            failed = round.is_err();
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                Ok(()) = denials.changed() => {}
                () = self.news.notified() => {}
                () = self.authority.replaced() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn round(
        &mut self,
        denials: &Arc<PublishedDenials>,
        now: OffsetDateTime,
    ) -> Result<(), ListError> {
        self.follow_intermediate(now);
        self.sign_leaves(denials, now).await?;
        let leads = self.leads(now).await?;
        self.supersede_lost(leads, now).await?;
        if leads {
            let roots = self.authority.roots();
            let lives = (self.lifetimes.back_date, self.lifetimes.intermediate);
            self.roots.sign(&self.store, &roots, lives, now).await?;
        }
        self.tell(now).await?;
        Ok(())
    }

    /// Those before it stay for as long as leaves of theirs may live.
    fn follow_intermediate(&mut self, now: OffsetDateTime) {
        let current = self.authority.intermediate();
        self.signers
            .entry(current.key_id().to_owned())
            .or_insert_with(|| Signer {
                intermediate: current,
                signed: Signed::default(),
            });
        self.signers
            .retain(|_, signer| signer.intermediate.validity().not_after() > now);
    }

    async fn sign_leaves(
        &mut self,
        denials: &Arc<PublishedDenials>,
        now: OffsetDateTime,
    ) -> Result<(), ListError> {
        let (life, back_date) = (self.leaf_list_life(), self.lifetimes.back_date);
        for (
            key_id,
            Signer {
                intermediate,
                signed,
            },
        ) in &mut self.signers
        {
            if !signed.is_due(|known| Arc::ptr_eq(known, denials), now) {
                continue;
            }
            // Read first: what is revoked meanwhile is not said to be covered.
            let covers = self.store.newest_revocation().await?;
            let revoked = self.store.revoked_leaves_of(key_id, now).await?;
            let end = intermediate.validity().not_after();
            let next_update = (now + life).min(end);
            let spec = spec(&revoked, (now - back_date, next_update), signed.number(now));
            let row = CrlRow {
                issuer: key_id.clone(),
                number: spec.number,
                covers,
                next_update,
                der: intermediate.sign_crl(&spec)?,
            };
            self.store.put_crl(&row).await?;
            let lives = (now, next_update, end);
            *signed = Signed::of(Arc::clone(denials), row.number, lives);
        }
        Ok(())
    }

    /// Renewed at half of it: when a replica is lost its last list outlasts its leaves.
    fn leaf_list_life(&self) -> Duration {
        let longest = self.lifetimes.agent.max(self.lifetimes.workload);
        (longest * 2).max(SHORTEST_LIFE)
    }

    /// Whether this replica is the one that signs the roots' lists.
    async fn leads(&mut self, now: OffsetDateTime) -> Result<bool, StoreError> {
        if self
            .leads_until
            .is_some_and(|until| until > now + LEASE / 2)
        {
            return Ok(true);
        }
        let duty = Duty::RootRevocationLists;
        let lease = self.store.take(duty, &self.replica, LEASE, now).await?;
        self.leads_until = lease.map(|lease| lease.until());
        Ok(lease.is_some())
    }

    async fn tell(&self, now: OffsetDateTime) -> Result<(), StoreError> {
        let lists = self.store.crls(now).await?;
        let superseded = self.store.superseded_intermediates(now).await?;
        if superseded.contains(&self.authority.intermediate().key()) {
            tracing::warn!("others took this replica for lost; its intermediate is replaced");
            self.authority.want_successor();
        }
        let told = ToldLists::new(lists, superseded);
        self.told.send_if_modified(|known| {
            let changed = **known != told;
            if changed {
                *known = Arc::new(told);
            }
            changed
        });
        Ok(())
    }
}

fn spec(
    revoked: &[RevokedRow],
    (this_update, next_update): (OffsetDateTime, OffsetDateTime),
    number: u64,
) -> CrlSpec {
    let revoked = revoked.iter().map(|row| RevokedCertificate {
        serial: row.serial,
        at: row.at,
    });
    CrlSpec {
        this_update,
        next_update,
        number,
        revoked: revoked.collect(),
    }
}
