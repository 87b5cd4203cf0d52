//! The agent's standing with the CA, kept up for as long as the process lives: join, re-attest,
//! or watch, whichever its own SVID calls for.
//!
//! Invariants: a server's trouble never ends the agent; what only a person can mend is shown in
//! the status with the next step, and tried again slowly.

mod admission;
mod detour;
mod elsewhere;
mod fresh;
mod outbound;
mod recovering;
mod watch;

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crypto::random::{Random, SystemRandom};
use identity::TrustDomain;
use identity::join_token::CaAddress;
use mtls::{Credentials, PinnedRoots};
use runtime::{Backoff, Clock, Shutdown};
use tokio::sync::{mpsc, watch as latest};
use tokio::time::Instant;

use crate::ca::{Addresses, ConnectError, Connection, Dial, Heard, Trust};
use crate::cache::Cache;
use crate::config::Join;
use crate::contact::Contact;
use crate::deliveries::Deliveries;
use crate::feed::Roster;
use crate::holdings::Holdings;
use crate::keeper::{Admitted, Recovered};
use crate::recovery::{Recovery, RecoveryError};
use crate::status::Problem;
use crate::view::View;

pub(crate) use admission::{AdmissionError, read_token};
pub(crate) use detour::{Detour, Verdict};
pub(crate) use recovering::UPDATE_FILE;
use watch::WatchError;

/// After a refusal that only a person can mend.
const SLOW_RETRY: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(15);
const JITTER: f64 = 0.5;
/// Idle connections are asked at least this often whether they live.
const LONGEST_PING: Duration = Duration::from_secs(30);
const SHORTEST_PING: Duration = Duration::from_millis(500);

/// What the session is made of.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) clock: Clock,
    pub(crate) cache: Cache,
    pub(crate) join: Join,
    /// Those that the operator pins.
    pub(crate) roots: Option<PinnedRoots>,
    pub(crate) addresses: Addresses,
    pub(crate) credentials: Credentials,
    pub(crate) holdings: latest::Receiver<Arc<Holdings>>,
    pub(crate) admitted: mpsc::Sender<Admitted>,
    pub(crate) view: latest::Sender<Option<Arc<View>>>,
    pub(crate) contact: latest::Sender<Contact>,
    pub(crate) heard: Heard,
    pub(crate) roster: Roster,
    pub(crate) deliveries: Deliveries,
    /// The CA does not know this agent any more, though its SVID lives.
    pub(crate) forgotten: bool,
    pub(crate) verdicts: mpsc::Receiver<Verdict>,
    pub(crate) detour: Detour,
    pub(crate) recovery: Recovery,
    pub(crate) recovered: mpsc::Sender<Recovered>,
    /// Where the host's operator may leave a bundle update.
    pub(crate) update_file: PathBuf,
    /// What was heard before may have come from a thief of the root: nothing is built on it.
    pub(crate) afresh: bool,
}

/// Why the CA could not be used just now.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the CA cannot be reached")]
    Connect(#[from] ConnectError),
    #[error("this agent was not admitted")]
    Admission(#[from] AdmissionError),
    #[error("the CA's stream of configuration ended")]
    Watch(#[from] WatchError),
    #[error("no address of the CA is known")]
    NoAddress,
    #[error(
        "the CA's root is not one that this agent trusts, and no bundle update helps: {reason}"
    )]
    Distrust {
        #[source]
        source: ConnectError,
        reason: RecoveryError,
    },
}

/// What the next round of the loop should do, at once.
#[derive(Debug)]
enum Next {
    Again,
    /// The SVID is new: connect with it, and only then close what is open.
    Renewed(Connection),
    /// Go on there; it is connected already.
    Moved {
        from: Connection,
        to: Connection,
    },
}

impl Session {
    pub(crate) async fn run(mut self, shutdown: Shutdown) -> Result<(), Infallible> {
        let mut backoff = Backoff::try_new(FIRST_RETRY, LONGEST_RETRY, JITTER)
            .expect("the constants are in order");
        let mut next = Next::Again;
        let mut steps = self.clock.steps();
        self.recover_by_hand().await;
        loop {
            let this = std::mem::replace(&mut next, Next::Again);
            let round = tokio::select! {
                () = shutdown.draining() => return Ok(()),
                round = self.round_or_recover(this, &mut backoff) => round,
            };
            match round {
                Ok(then) => next = then,
                Err(trouble) => {
                    self.report(&trouble);
                    let pause = self.pause(&trouble, &mut backoff);
                    tokio::select! {
                        () = shutdown.draining() => return Ok(()),
                        () = tokio::time::sleep(pause) => {}
                        // A clock that was off may have been all that was wrong.
                        () = steps.next() => backoff.reset(),
                    }
                }
            }
        }
    }

    async fn round_or_recover(
        &mut self,
        this: Next,
        backoff: &mut Backoff,
    ) -> Result<Next, Trouble> {
        let has_joined = self.holdings.borrow().bundle.is_some();
        let trouble = match self.round(this, backoff).await {
            Err(trouble) if has_joined && trouble.is_distrust() => trouble,
            other => return other,
        };
        match (self.recover().await, trouble) {
            (Ok(()), _) => Ok(Next::Again),
            (Err(reason), Trouble::Connect(source)) => Err(Trouble::Distrust { source, reason }),
            (Err(_), other) => Err(other),
        }
    }

    /// One connection: to be admitted, or to watch until something ends it.
    async fn round(&mut self, this: Next, backoff: &mut Backoff) -> Result<Next, Trouble> {
        let own_is_live = self.holdings.borrow().own(self.clock.now()).is_some();
        if !own_is_live || std::mem::take(&mut self.forgotten) {
            self.be_admitted().await?;
            return Ok(Next::Again);
        }
        let (connection, before) = match this {
            Next::Moved { from, to } => (to, Some(from)),
            Next::Renewed(before) => (self.connect_as_oneself().await?, Some(before)),
            Next::Again => (self.connect_as_oneself().await?, None),
        };
        drop(before);
        let watched = self.watch(connection, backoff).await;
        self.forgotten = watched.as_ref().is_err_and(WatchError::is_forgotten);
        Ok(watched?)
    }

    async fn connect_as_oneself(&self) -> Result<Connection, Trouble> {
        self.connect(Trust::Mutual(self.credentials.clone())).await
    }

    async fn connect(&self, trust: Trust) -> Result<Connection, Trouble> {
        let address = self.addresses.current().ok_or(Trouble::NoAddress)?.clone();
        Ok(self.dial(address, trust).connect(&self.heard).await?)
    }

    fn dial(&self, address: CaAddress, trust: Trust) -> Dial {
        Dial {
            address,
            trust,
            clock: self.clock.clone(),
            ping_every: self.ping_every(),
        }
    }

    /// An eighth of the shortest leaf life: proxies judge by it how fresh their feed is, and a replica
    /// that hangs is left while what is held still lives. Whoever has nothing live does not count
    /// when a root is removed, and may know none of the others afterwards.
    fn ping_every(&self) -> Duration {
        let held = self.holdings.borrow().shortest_life();
        let assigned = self
            .view
            .borrow()
            .as_ref()
            .and_then(|view| view.shortest_ttl());
        let shortest = held.into_iter().chain(assigned).min();
        shortest.map_or(LONGEST_PING, |life| {
            (life / 8).clamp(SHORTEST_PING, LONGEST_PING)
        })
    }

    fn report(&mut self, trouble: &Trouble) {
        let problem = trouble.problem(self.join.without_token());
        tracing::warn!(
            error = %runtime::exit::one_line(trouble),
            next_step = problem.next_step.as_deref(),
            "no contact with the CA"
        );
        self.contact.send_modify(|contact| {
            contact.channel = None;
            contact.address = None;
            contact.problem = Some(problem);
        });
    }

    fn pause(&mut self, trouble: &Trouble, backoff: &mut Backoff) -> Duration {
        let unusable = self.addresses.current().cloned();
        if let Some(unusable) = unusable.filter(|_| self.detour.is_under_way()) {
            let moment = (Instant::now(), SystemRandom.unit());
            self.detour.in_vain(&unusable, moment);
        }
        self.addresses.rotate();
        if trouble.needs_a_person() {
            return SLOW_RETRY;
        }
        backoff.next(SystemRandom.unit())
    }
}

impl Trouble {
    fn needs_a_person(&self) -> bool {
        match self {
            Self::Admission(error) => error.needs_a_person(),
            Self::NoAddress => true,
            // An update may be published at any time.
            Self::Connect(_) | Self::Watch(_) | Self::Distrust { .. } => false,
        }
    }

    fn problem(&self, method: Option<&'static str>) -> Problem {
        let message = runtime::exit::one_line(self);
        let (code, next_step) = match self {
            Self::Connect(_) => ("ca-unreachable", None),
            Self::Watch(_) => ("watch-ended", None),
            Self::Distrust { reason, .. } => ("ca-not-trusted", Some(reason.next_step())),
            Self::NoAddress => (
                "no-ca-address",
                Some("set `addresses` in the [ca] section of the agent's configuration".to_owned()),
            ),
            Self::Admission(error) => (error.code(), error.next_step(method)),
        };
        Problem {
            code: code.to_owned(),
            message,
            next_step,
        }
    }
}
