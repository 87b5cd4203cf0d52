//! Signs what was authorized, and hands it out once it is recorded.

use std::sync::Arc;
use std::time::Duration;

use crypto::random::SystemRandom;
use identity::x509::LeafSpec;
use identity::{SerialNumber, SpiffeId, Validity};
use proto::agent::v1 as wire;
use runtime::Clock;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use tokio::sync::watch;

use super::authorize::Authorized;
use super::record::Recorder;
use super::refusal::IssueError;
use crate::authority::{Authority, Intermediate};
use crate::clock_check::ClockCheck;
use crate::config::Lifetimes;
use crate::metrics::Metrics;
use crate::registry::PublishedDenials;
use crate::spool::LONGEST_LIFE;
use crate::store::IssuedRow;

/// A signature costs some 25 µs and a CSR's check 65 µs: so many between two yields keep a thread
/// for well under a millisecond, without a hop to another.
pub(super) const BETWEEN_YIELDS: usize = 4;

/// Turns authorizations into recorded certificates; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Issuer {
    authority: Authority,
    denials: watch::Receiver<Arc<PublishedDenials>>,
    recorder: Recorder,
    lifetimes: Lifetimes,
    clock: Clock,
    clock_check: ClockCheck,
    metrics: Metrics,
}

/// A certificate whose record is durable.
#[derive(Debug)]
pub(crate) struct Issued {
    signed: Signed,
    intermediate: Arc<Intermediate>,
}

/// Not shown to anyone before its row is durable.
#[derive(Debug)]
struct Signed {
    certificate: CertificateDer<'static>,
    row: IssuedRow,
}

impl Issuer {
    pub(crate) fn new(
        (authority, denials): (Authority, watch::Receiver<Arc<PublishedDenials>>),
        recorder: Recorder,
        lifetimes: Lifetimes,
        (clock, clock_check): (Clock, ClockCheck),
        metrics: Metrics,
    ) -> Self {
        Self {
            authority,
            denials,
            recorder,
            lifetimes,
            clock,
            clock_check,
            metrics,
        }
    }

    /// Whether nothing but renewals is issued now.
    pub(super) fn is_away(&self) -> bool {
        self.recorder.is_away()
    }

    /// Signs and records one.
    pub(crate) async fn issue_one(&self, authorized: Authorized) -> Result<Issued, IssueError> {
        let mut issued = self.issue(vec![authorized]).await?;
        Ok(issued
            .pop()
            .expect("one was asked for, and all or none are issued"))
    }

    /// Signs and records all of them, in order, or none.
    pub(crate) async fn issue(
        &self,
        authorized: Vec<Authorized>,
    ) -> Result<Vec<Issued>, IssueError> {
        if authorized.is_empty() {
            return Ok(Vec::new());
        }
        self.clock_check.require()?;
        let renewals = authorized.iter().all(Authorized::is_renewal);
        let away = self.recorder.is_away();
        if away && !renewals {
            return Err(IssueError::Unrecorded);
        }
        let room = self.recorder.reserve(authorized.len())?;
        let longest = if away { LONGEST_LIFE } else { Duration::MAX };
        let intermediate = self.authority.intermediate();
        self.require_unrevoked(&intermediate)?;
        let now = self.clock.now();
        let mut signed = Vec::with_capacity(authorized.len());
        for (index, one) in authorized.into_iter().enumerate() {
            if index % BETWEEN_YIELDS == BETWEEN_YIELDS - 1 {
                tokio::task::yield_now().await;
            }
            signed.push(self.sign(one, &intermediate, (now, longest))?);
        }
        let rows = signed.iter().map(|signed| signed.row.clone()).collect();
        self.recorder.record(rows, renewals, room).await?;
        self.metrics.issued(signed.len());
        Ok(signed
            .into_iter()
            .map(|signed| Issued {
                signed,
                intermediate: Arc::clone(&intermediate),
            })
            .collect())
    }

    /// Nobody would accept what it signs; its successor is a moment away.
    fn require_unrevoked(&self, intermediate: &Intermediate) -> Result<(), IssueError> {
        match intermediate.is_refused_by(self.denials.borrow().list()) {
            true => Err(IssueError::AuthorityRevoked),
            false => Ok(()),
        }
    }

    fn sign(
        &self,
        authorized: Authorized,
        intermediate: &Intermediate,
        (now, longest): (OffsetDateTime, Duration),
    ) -> Result<Signed, IssueError> {
        let grant = authorized.into_grant();
        let life = grant.life.of(&self.lifetimes).min(longest);
        let validity = Validity::try_new(now - self.lifetimes.back_date, now + life)?
            .clamp_to(&intermediate.validity(), self.lifetimes.margin)?;
        let serial = SerialNumber::at(now, &mut SystemRandom);
        let leaf = intermediate.sign(&LeafSpec {
            spiffe_id: grant.spiffe_id.clone(),
            public_key: grant.public_key,
            validity,
            serial,
            dns_names: grant.dns_names,
        })?;
        let row = IssuedRow {
            serial,
            spiffe_id: grant.spiffe_id,
            agent_id: grant.through,
            issuer: intermediate.key_id().to_owned(),
            not_before: validity.not_before(),
            not_after: validity.not_after(),
            issued_at: now,
            leaf_sha256: leaf.digest,
        };
        Ok(Signed {
            certificate: leaf.certificate,
            row,
        })
    }
}

impl Issued {
    pub(crate) fn spiffe_id(&self) -> &SpiffeId {
        &self.signed.row.spiffe_id
    }

    pub(crate) fn serial(&self) -> SerialNumber {
        self.signed.row.serial
    }

    pub(crate) fn not_after(&self) -> OffsetDateTime {
        self.signed.row.not_after
    }

    /// Leaf and intermediates, without the root.
    pub(crate) fn into_wire(self) -> wire::Svid {
        let above = self.intermediate.certificates();
        let chain = std::iter::once(&self.signed.certificate).chain(above);
        wire::Svid {
            spiffe_id: self.signed.row.spiffe_id.to_string(),
            chain: chain.map(|certificate| certificate.to_vec()).collect(),
        }
    }

    /// Leaf and intermediates, without the root.
    pub(super) fn into_chain(self) -> Vec<CertificateDer<'static>> {
        let above = self.intermediate.certificates();
        let chain = std::iter::once(&self.signed.certificate).chain(above);
        chain.cloned().collect()
    }
}

/// How long an SVID is to live; clamped to the issuing chain whatever it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Agent,
    Workload,
    /// The registry's entry says so.
    Entry(Duration),
}

impl Life {
    fn of(self, lifetimes: &Lifetimes) -> Duration {
        match self {
            Self::Agent => lifetimes.agent,
            Self::Workload => lifetimes.workload,
            Self::Entry(life) => life,
        }
    }
}
