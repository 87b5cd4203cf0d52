//! The gate: from a proven peer and what it asks to a `Permit`, or to a refusal that says why.
//!
//! Invariant: a [`Permit`] exists only for an allow of the configuration in force, about a peer
//! that mutual TLS proved and whose certificate was valid at that moment; its stream is in the
//! table of live streams, so a later configuration ends it. Unknown means no.

use std::cell::RefCell;
use std::sync::Arc;

use http::HeaderValue;
use identity::SpiffeId;
use identity::x509::Denied as Revoked;
use policy::{
    CanonicalPath, DecisionId, HeaderLookup, HeaderValues, LastDecision, PolicySnapshot, Question,
    RequestPath, Rule, Verdict,
};
use runtime::Clock;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::failure::Reason;
use crate::head::{self, RequestHead, RequestTarget};
use crate::live::{Bond, Judged, Shard, Stale, Ticket};
use crate::service_port::ServicePort;
use crate::state::{MeshState, States};
use crate::trust::{Lost, Vouched};

mod check;

pub(crate) use check::CheckPermit;

/// What a decision was made about; kept as long as the stream lives.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    pub source: SpiffeId,
    pub peer: Vouched,
    pub target: Arc<ServicePort>,
    pub request: JudgedRequest,
}

#[derive(Clone, Debug)]
pub(crate) enum JudgedRequest {
    /// A connection as such, to a TCP port.
    Connection,
    Http {
        head: Arc<RequestHead>,
        path: JudgedPath,
    },
    /// A peer's question whether the application works.
    Check,
}

/// What is judged, and what the application gets: the canonical path, or the asterisk of
/// `OPTIONS *`, which no path rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JudgedPath(Arc<RequestPath>);

/// Header fields as the caller sent them, less what ends at this hop.
#[derive(Debug)]
pub(crate) struct JudgedFields<'a>(pub(crate) &'a RequestHead);

/// Who asks, as mutual TLS proved it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    spiffe_id: SpiffeId,
    not_after: OffsetDateTime,
    vouched: Vouched,
    /// What the application is told about it.
    identity: HeaderValue,
    last: RefCell<LastDecision>,
}

/// Leave to pass one request or connection on to the application. Only the gate makes one.
#[derive(Debug)]
pub(crate) struct Permit {
    ticket: Ticket,
    rule: Arc<Rule>,
    decision: DecisionId,
    path: JudgedPath,
}

/// No.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denied {
    pub reason: Reason,
    /// What was wrong, for people.
    pub detail: String,
    /// Absent where nothing was judged.
    pub decision: Option<DecisionId>,
}

/// Judges by the configuration in force, for one worker. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    states: States,
    live: Shard,
    clock: Clock,
}

impl Gate {
    pub(crate) fn new(states: States, live: Shard, clock: Clock) -> Self {
        Self {
            states,
            live,
            clock,
        }
    }

    /// The configuration in force.
    pub(crate) fn state(&self) -> Arc<MeshState> {
        self.states.current()
    }

    /// Judges a connection to a TCP port.
    ///
    /// # Errors
    /// A refusal, with its reason and decision.
    pub(crate) fn connection(
        &self,
        peer: &Peer,
        target: &Arc<ServicePort>,
        now: Instant,
    ) -> Result<Permit, Denied> {
        self.judge(
            peer,
            Inputs {
                source: peer.spiffe_id.clone(),
                peer: peer.vouched.clone(),
                target: Arc::clone(target),
                request: JudgedRequest::Connection,
            },
            JudgedPath(Arc::new(RequestPath::Asterisk)),
            now,
        )
    }

    /// Judges one HTTP request by the one form that its path has.
    ///
    /// # Errors
    /// A refusal, with its reason and decision.
    pub(crate) fn request(
        &self,
        peer: &Peer,
        target: &Arc<ServicePort>,
        head: &Arc<RequestHead>,
        now: Instant,
    ) -> Result<Permit, Denied> {
        let path = judged_path(head.target())?;
        self.judge(
            peer,
            Inputs {
                source: peer.spiffe_id.clone(),
                peer: peer.vouched.clone(),
                target: Arc::clone(target),
                request: JudgedRequest::Http {
                    head: Arc::clone(head),
                    path: path.clone(),
                },
            },
            path,
            now,
        )
    }

    fn judge(
        &self,
        peer: &Peer,
        inputs: Inputs,
        path: JudgedPath,
        now: Instant,
    ) -> Result<Permit, Denied> {
        self.live_peer(peer)?;
        let mut inputs = inputs;
        loop {
            let state = self.state();
            self.vouched_peer(&inputs, &state)?;
            let policy = state.policy.as_ref().ok_or_else(not_ready)?;
            let (rule, decision) = allowed(policy, &inputs, &mut peer.last.borrow_mut())?;
            let judged = Judged {
                inputs,
                not_after: peer.not_after,
            };
            match self.live.enter(state.version, judged, now) {
                Ok(ticket) => {
                    return Ok(Permit {
                        ticket,
                        rule,
                        decision,
                        path,
                    });
                }
                Err(Stale(again)) => inputs = *again,
            }
        }
    }

    /// A connection's place among those that end with the trust in their peer.
    pub(crate) fn bind(&self, peer: &Peer) -> Bond {
        self.live.bind(peer.vouched.clone())
    }

    /// What somebody is told whom the deny-list names in a handshake already.
    pub(crate) fn revoked(&self, source: &SpiffeId, target: &ServicePort, by: Revoked) -> Denied {
        let question = Question {
            source,
            target: policy::Target {
                service: &target.service,
                port: &target.port,
            },
            request: policy::Request::Connection,
        };
        lost(&question, &Lost::Revoked(Some(by)), &self.state())
    }

    fn vouched_peer(&self, inputs: &Inputs, state: &MeshState) -> Result<(), Denied> {
        let holds = inputs.peer.holds(&state.trust, self.clock.now());
        holds.map_err(|why| asking(inputs, |question| lost(question, &why, state)))
    }

    fn live_peer(&self, peer: &Peer) -> Result<(), Denied> {
        if peer.not_after > self.clock.now() {
            return Ok(());
        }
        Err(Denied {
            reason: Reason::PeerExpired,
            detail: format!("the certificate of {} has expired", peer.spiffe_id),
            decision: None,
        })
    }
}

impl Peer {
    /// Takes what the handshake proved.
    pub(crate) fn of(identity: &mtls::PeerIdentity) -> Self {
        Self {
            spiffe_id: identity.spiffe_id().clone(),
            not_after: identity.not_after(),
            last: RefCell::default(),
            vouched: Vouched::of(identity),
            identity: head::identity(
                &identity.leaf_digest().to_string(),
                identity.spiffe_id().as_str(),
            ),
        }
    }

    pub(crate) fn spiffe_id(&self) -> &SpiffeId {
        &self.spiffe_id
    }

    pub(crate) fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// The value of the identity field: the leaf's SHA-256 and the SPIFFE ID.
    pub(crate) fn identity(&self) -> &HeaderValue {
        &self.identity
    }
}

impl Permit {
    /// The stream's place among the live ones, for as long as the stream lasts.
    pub(crate) fn into_ticket(self) -> Ticket {
        self.ticket
    }

    /// The rule that said yes.
    pub(crate) fn rule(&self) -> &Arc<Rule> {
        &self.rule
    }

    pub(crate) fn decision(&self) -> &DecisionId {
        &self.decision
    }

    /// What was judged, and what goes to the application.
    pub(crate) fn path(&self) -> &JudgedPath {
        &self.path
    }
}

impl JudgedPath {
    pub(crate) fn as_str(&self) -> &str {
        match &*self.0 {
            RequestPath::Canonical(path) => path.as_str(),
            RequestPath::Asterisk | RequestPath::Authority | RequestPath::Ambiguous(_) => "*",
        }
    }
}

impl HeaderLookup for JudgedFields<'_> {
    fn lookup(&self, name: &str) -> HeaderValues<'_> {
        // It was set by this proxy: no rule is about it.
        if name == head::IDENTITY.as_str() {
            return HeaderValues::Absent;
        }
        let mut values = self.0.fields().get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => HeaderValues::Absent,
            (Some(value), None) => HeaderValues::One(value.as_bytes()),
            _ => HeaderValues::Many,
        }
    }
}

/// Whether what was asked about before is permitted still.
///
/// # Errors
/// Why it is not.
pub(crate) fn still_permits(
    state: &MeshState,
    inputs: &Inputs,
    now: OffsetDateTime,
) -> Result<(), Reason> {
    let vouched = inputs.peer.holds(&state.trust, now);
    vouched.map_err(|lost| lost.reason())?;
    let permitted = |policy: &PolicySnapshot| match inputs.request {
        JudgedRequest::Check => check::permits(policy, inputs),
        JudgedRequest::Connection | JudgedRequest::Http { .. } => {
            allowed(policy, inputs, &mut LastDecision::default()).is_ok()
        }
    };
    let permitted = state.policy.as_ref().is_some_and(permitted);
    permitted.then_some(()).ok_or(Reason::PolicyDenied)
}

fn lost(question: &Question<'_>, why: &Lost, state: &MeshState) -> Denied {
    let reason = why.reason();
    let policy = state.policy.as_ref();
    let policy = policy.filter(|_| reason == Reason::Revoked);
    Denied {
        reason,
        detail: format!("{} is not let in: {why}", question.source),
        decision: policy.map(|policy| policy.revoked(question).id),
    }
}

fn judged_path(target: &RequestTarget) -> Result<JudgedPath, Denied> {
    match target {
        RequestTarget::Asterisk => Ok(JudgedPath(Arc::new(RequestPath::Asterisk))),
        RequestTarget::Path(path) => CanonicalPath::parse(path.path())
            .map(|path| JudgedPath(Arc::new(RequestPath::Canonical(path))))
            .map_err(|ambiguous| Denied {
                reason: Reason::PathAmbiguous,
                detail: ambiguous.to_string(),
                decision: None,
            }),
    }
}

/// What inputs ask.
fn asking<T>(inputs: &Inputs, tell: impl FnOnce(&Question<'_>) -> T) -> T {
    let fields;
    let request = match &inputs.request {
        // Of a check nobody asks this; on an HTTP port it is denied.
        JudgedRequest::Connection | JudgedRequest::Check => policy::Request::Connection,
        JudgedRequest::Http { head, path } => {
            fields = JudgedFields(head);
            policy::Request::Http {
                method: head.method().as_str(),
                path: &path.0,
                headers: &fields,
            }
        }
    };
    tell(&Question {
        source: &inputs.source,
        target: policy::Target {
            service: &inputs.target.service,
            port: &inputs.target.port,
        },
        request,
    })
}

fn allowed(
    policy: &PolicySnapshot,
    inputs: &Inputs,
    last: &mut LastDecision,
) -> Result<(Arc<Rule>, DecisionId), Denied> {
    let decision = asking(inputs, |question| policy.judge_again(question, last));
    match decision.verdict {
        Verdict::Allow(rule) => Ok((rule, decision.id)),
        Verdict::Deny(why) => Err(Denied {
            reason: Reason::PolicyDenied,
            detail: format!(
                "{} may not call {}: {} ({why}), revision {}",
                inputs.source,
                inputs.target,
                why.code(),
                decision.revision
            ),
            decision: Some(decision.id),
        }),
    }
}

fn not_ready() -> Denied {
    Denied {
        reason: Reason::NotReady,
        detail: "no policy has arrived yet".to_owned(),
        decision: None,
    }
}
