//! The credentials that this agent holds, as one value that is replaced whole.
//!
//! Invariant: an expired or revoked certificate is never handed out, even in the moment before it is
//! withdrawn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crypto::signing::SigningKey;
use identity::x509::{BundleSet, Denied, DenyList, UnverifiedChain, X509Svid};
use identity::{SpiffeId, TrustDomain};
use proto::mesh::v1 as mesh;
use time::OffsetDateTime;

use crate::cache::{StoredCredentials, StoredSvid};
use crate::view::judge_untainted;

/// Everything held at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holdings {
    pub(crate) own: Option<Arc<Held>>,
    /// The agent's last SVID, expired or not.
    pub(crate) own_proof: Option<Arc<OwnProof>>,
    pub(crate) workloads: BTreeMap<SpiffeId, Arc<Held>>,
    /// The trust domain's own bundle.
    pub(crate) bundle: Option<Arc<mesh::Bundle>>,
    /// Whom everybody refuses; what it names of ours is not handed out.
    pub(crate) denied: DenyList,
}

/// One certificate with its key.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) svid: X509Svid,
    /// Drawn once, when the certificate came.
    pub(crate) renews_at: OffsetDateTime,
    /// From its arrival to its end.
    pub(crate) life: Duration,
    /// Certificates after the first, since the process started.
    pub(crate) renewals: u64,
}

/// What `Reattest` asks of an agent: the chain that it had, and its live key.
#[derive(Clone, Debug)]
pub(crate) struct OwnProof {
    pub(crate) spiffe_id: SpiffeId,
    /// DER, leaf first.
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) key: SigningKey,
}

impl Holdings {
    pub(crate) fn set_own(&mut self, held: Held) {
        self.own_proof = Some(Arc::new(OwnProof::of(&held)));
        self.own = Some(Arc::new(held));
    }

    /// Known from the first attestation on, also while the SVID is expired.
    pub(crate) fn own_id(&self) -> Option<&SpiffeId> {
        self.own_proof.as_deref().map(|proof| &proof.spiffe_id)
    }

    /// Whether the bundle has a root that is about to be removed.
    pub(crate) fn replaces_tainted(&self) -> bool {
        let bundle = self.bundle.as_deref();
        bundle.is_some_and(|bundle| !bundle.tainted_authorities.is_empty())
    }

    /// The shortest life among what is held.
    pub(crate) fn shortest_life(&self) -> Option<Duration> {
        self.all().map(|held| held.life).min()
    }

    /// How long traffic goes on without another certificate.
    pub(crate) fn survives_for(&self, now: OffsetDateTime) -> Option<Duration> {
        let ends = self
            .workloads
            .values()
            .map(|held| held.svid.svid().validity().remaining(now));
        ends.min()
    }

    /// Which of the certificates the deny-list names while their identity may go on: with others.
    pub(crate) fn replaceable(&self) -> BTreeSet<SpiffeId> {
        let denied = self.all().filter_map(|held| {
            let svid = held.svid.svid();
            match self.denied.refuses(svid)? {
                Denied::Serial(_) | Denied::Authority(_) => Some(svid.spiffe_id().clone()),
                Denied::Identity(_) => None,
            }
        });
        denied.collect()
    }

    /// Which of the certificates stand under one of these authorities, named by their keys.
    pub(crate) fn under(&self, authorities: &[Vec<u8>]) -> BTreeSet<SpiffeId> {
        let named = |held: &&Held| {
            let above = held.svid.svid().authorities().iter();
            above
                .map(|key| key.as_bytes().as_slice())
                .any(|key| authorities.iter().any(|it| it == key))
        };
        let held = self.all().filter(named);
        held.map(|held| held.svid.spiffe_id().clone()).collect()
    }

    /// Whether nothing is issued to this identity any more.
    pub(crate) fn is_revoked(&self, id: &SpiffeId) -> bool {
        self.denied.contains(&Denied::Identity(id.clone()))
    }

    /// Which of the certificates lead to a root that is about to be removed.
    pub(crate) fn tainted(
        &self,
        trust_domain: &TrustDomain,
        now: OffsetDateTime,
    ) -> BTreeSet<SpiffeId> {
        let bundle = self.bundle.as_deref();
        let bundle = bundle.filter(|bundle| !bundle.tainted_authorities.is_empty());
        let Some(Ok(bundle)) = bundle.map(|it| judge_untainted(trust_domain, it)) else {
            return BTreeSet::new();
        };
        let bundles = BundleSet::from(bundle);
        let held = self.all().filter(|held| {
            let chain = UnverifiedChain::from_der(held.svid.svid().chain().to_vec());
            !chain.is_ok_and(|chain| chain.verify(&bundles, now).is_ok())
        });
        held.map(|held| held.svid.spiffe_id().clone()).collect()
    }

    pub(crate) fn to_stored(&self, trust_domain: &TrustDomain) -> StoredCredentials {
        let own = self.own_proof.as_deref().map(|proof| StoredSvid {
            spiffe_id: proof.spiffe_id.to_string(),
            chain: proof.chain.clone(),
            key: proof.key.to_pkcs8().to_vec(),
            renews_at: self
                .own
                .as_deref()
                .map_or(0, |held| held.renews_at.unix_timestamp()),
        });
        let workloads = self.workloads.values().map(|held| StoredSvid {
            spiffe_id: held.svid.spiffe_id().to_string(),
            chain: held.chain(),
            key: held.svid.key().to_pkcs8().to_vec(),
            renews_at: held.renews_at.unix_timestamp(),
        });
        StoredCredentials {
            trust_domain: trust_domain.to_string(),
            bundle: self.bundle.as_deref().cloned(),
            own,
            workloads: workloads.collect(),
        }
    }

    /// What may be handed out for `id` now.
    pub(crate) fn workload(&self, id: &SpiffeId, now: OffsetDateTime) -> Option<&Held> {
        let held = self.workloads.get(id)?;
        let refused = self.denied.refuses(held.svid.svid());
        (held.is_live(now) && refused.is_none()).then_some(&**held)
    }

    /// The agent's own certificate, unless it has expired or is revoked. One of a revoked authority
    /// will do: the CA knows those that it issued, and replaces them.
    pub(crate) fn own(&self, now: OffsetDateTime) -> Option<&Held> {
        let usable = |held: &&Held| {
            let refused = self.denied.refuses(held.svid.svid());
            held.is_live(now) && matches!(refused, None | Some(Denied::Authority(_)))
        };
        self.own.as_deref().filter(usable)
    }

    /// Everything, the agent's own first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Held> {
        self.own
            .iter()
            .chain(self.workloads.values())
            .map(|held| &**held)
    }
}

impl Held {
    pub(crate) fn is_live(&self, now: OffsetDateTime) -> bool {
        self.svid.svid().validity().contains(now)
    }

    pub(crate) fn not_after(&self) -> OffsetDateTime {
        self.svid.svid().validity().not_after()
    }

    /// DER, leaf first.
    pub(crate) fn chain(&self) -> Vec<Vec<u8>> {
        let chain = self.svid.svid().chain();
        chain
            .iter()
            .map(|certificate| certificate.to_vec())
            .collect()
    }
}

impl OwnProof {
    fn of(held: &Held) -> Self {
        Self {
            spiffe_id: held.svid.spiffe_id().clone(),
            chain: held.chain(),
            key: held.svid.key().clone(),
        }
    }
}
