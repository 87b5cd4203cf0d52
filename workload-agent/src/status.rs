//! What an agent says of itself, as one value that is replaced whole.

use std::sync::Arc;
use std::time::Duration;

use identity::{QualifiedName, SerialNumber, SpiffeId};
use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::contact::Contact;
use crate::feed::{Attendance, Roster};
use crate::holdings::{Held, Holdings};
use crate::view::View;

/// How the agent stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AgentStatus {
    /// Absent until the agent has joined.
    pub agent_id: Option<SpiffeId>,
    /// The CA's watch stream is open.
    pub connected: bool,
    /// `host:port` of the replica that the stream goes to.
    pub ca_address: Option<String>,
    /// The revision that the agent holds.
    pub revision: Option<String>,
    /// The revision that is cached, and that every counted proxy decides by.
    pub acknowledged: Option<String>,
    pub identities: Vec<IdentityStatus>,
    /// How long the mesh goes on here without the CA: the shortest remaining life of a workload's
    /// leaf. Absent while none is held.
    #[serde(serialize_with = "seconds", rename = "survives_for_seconds")]
    pub survives_for: Option<Duration>,
    /// The CA's clock minus this host's, in milliseconds.
    pub clock_offset_ms: Option<i64>,
    pub proxies: Vec<ProxyView>,
    /// What seals the cache: `key-file`.
    pub sealing: &'static str,
    /// Why the agent has no contact with the CA, and what to do about it.
    pub problem: Option<Problem>,
}

/// One identity that the agent holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IdentityStatus {
    pub spiffe_id: SpiffeId,
    pub serial: SerialNumber,
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub renews_at: OffsetDateTime,
    /// Certificates after the first, since the process started.
    pub renewals: u64,
}

/// One proxy on the mesh feed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProxyView {
    pub workload: QualifiedName,
    pub pid: Option<u32>,
    pub product: String,
    /// The revision it decides by.
    pub applied: Option<String>,
    /// The serial of the leaf it presents.
    pub leaf_serial: Option<String>,
    /// Acknowledgements wait for it; false once it has been silent too long.
    pub counted: bool,
    pub draining: bool,
    /// Application ports that are reachable around it, as `service:port`.
    pub bypassable: Vec<String>,
    /// What its configuration asks for and it cannot do, for people.
    pub problems: Vec<String>,
}

/// Something that needs the operator, or time.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Problem {
    /// Stable.
    pub code: String,
    pub message: String,
    /// What a person can do; absent when waiting is enough.
    pub next_step: Option<String>,
}

impl AgentStatus {
    /// The identity with this ID, when the agent holds it.
    pub fn identity(&self, id: &SpiffeId) -> Option<&IdentityStatus> {
        self.identities.iter().find(|held| held.spiffe_id == *id)
    }
}

/// Where the status is read from. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct StatusSource {
    pub(crate) holdings: watch::Receiver<Arc<Holdings>>,
    pub(crate) view: watch::Receiver<Option<Arc<View>>>,
    pub(crate) contact: watch::Receiver<Contact>,
    pub(crate) roster: Roster,
}

impl StatusSource {
    pub(crate) fn now(&self, now: OffsetDateTime) -> AgentStatus {
        let holdings = self.holdings.borrow().clone();
        let revision = self.view.borrow().as_ref().map(|view| view.revision());
        let contact = self.contact.borrow().clone();
        let attendance = self.roster.attendance();
        let acknowledged = contact
            .cached
            .and_then(|held| attendance.acknowledged(held));
        AgentStatus {
            agent_id: holdings.own_id().cloned(),
            connected: contact.channel.is_some(),
            ca_address: contact.address.as_ref().map(ToString::to_string),
            revision: revision.map(|revision| revision.to_string()),
            acknowledged: acknowledged.map(|revision| revision.to_string()),
            identities: holdings
                .all()
                .filter(|held| held.is_live(now))
                .map(IdentityStatus::of)
                .collect(),
            survives_for: holdings.survives_for(now),
            clock_offset_ms: contact.clock_offset_ms,
            proxies: ProxyView::all(&attendance),
            sealing: "key-file",
            problem: contact.problem,
        }
    }

    /// Publishes the status whenever something that it is made of has changed.
    pub(crate) async fn publish(
        mut self,
        clock: runtime::Clock,
        published: watch::Sender<AgentStatus>,
        shutdown: runtime::Shutdown,
    ) -> Result<(), std::convert::Infallible> {
        let mut attendance = self.roster.subscribe();
        loop {
            let status = self.now(clock.now());
            published.send_if_modified(|shown| {
                let changed = *shown != status;
                *shown = status;
                changed
            });
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                Ok(()) = self.holdings.changed() => {}
                Ok(()) = self.view.changed() => {}
                Ok(()) = self.contact.changed() => {}
                Ok(()) = attendance.changed() => {}
            }
        }
    }
}

impl IdentityStatus {
    fn of(held: &Held) -> Self {
        Self {
            spiffe_id: held.svid.spiffe_id().clone(),
            serial: held.svid.svid().serial(),
            not_after: held.not_after(),
            renews_at: held.renews_at,
            renewals: held.renewals,
        }
    }
}

impl ProxyView {
    fn all(attendance: &Attendance) -> Vec<Self> {
        let of_proxy = |proxy: &crate::feed::Attendant| {
            let status = proxy.status.clone().unwrap_or_default();
            let port =
                |port: &proto::mesh::v1::Bypassable| format!("{}:{}", port.service, port.port);
            Self {
                workload: proxy.workload.clone(),
                pid: proxy.pid,
                product: proxy.product.clone(),
                applied: proxy.applied.map(|revision| revision.to_string()),
                leaf_serial: proxy.leaf_serial.clone(),
                counted: proxy.counted,
                draining: status.draining,
                bypassable: status.bypassable.iter().map(port).collect(),
                problems: status.problems.clone(),
            }
        };
        attendance.proxies().map(of_proxy).collect()
    }
}

#[expect(clippy::ref_option, reason = "the signature serde asks for")]
fn seconds<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(|span| span.as_secs()).serialize(serializer)
}
