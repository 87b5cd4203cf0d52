//! One connection: handshake, who is there, HTTP/2 until either side ends it.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use identity::TrustDomain;
use identity::x509::{Denied, UnverifiedChain};
use mtls::{Credentials, PeerIdentity, ServerTls};
use runtime::{Clock, Listening, Shutdown};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};

use super::routes::{Caller, Desks, Routes};
use super::seen::SeenSerials;
use super::silence::Lines;
use crate::attest::{ChannelBinding, EXPORTER_LABEL};
use crate::issue::Standing;
use crate::peer::AgentPeer;
use crate::sources::Sources;

const HANDSHAKE: Duration = Duration::from_secs(10);
/// Who shows no agent's SVID has so long to attest.
const STRANGER: Duration = Duration::from_secs(60);
/// How long calls that are under way may go on after the connection must end.
const ENDING: Duration = Duration::from_secs(10);
const STREAMS: u32 = 128;
/// Of who shows no agent's SVID: more than one attestation at once needs nobody.
const STRANGERS_STREAMS: u32 = 4;
const HEADER_BYTES: u32 = 16 * 1024;

/// What every connection is served with.
#[derive(Debug)]
pub(super) struct Connections {
    pub(super) credentials: Credentials,
    pub(super) desks: Desks,
    pub(super) seen: SeenSerials,
    pub(super) lines: Lines,
    /// Connections that have shown no agent's SVID yet, or never will.
    pub(super) strangers: Sources,
    pub(super) handshakes_by_source: Sources,
    pub(super) handshakes: Semaphore,
    pub(super) trust_domain: TrustDomain,
    pub(super) clock: Clock,
    pub(super) shutdown: Shutdown,
}

impl Connections {
    pub(super) async fn serve(self: Arc<Self>, stream: TcpStream, from: SocketAddr) {
        let Some(stranger) = self.strangers.try_enter(from.ip()) else {
            tracing::debug!(%from, "connection closed: its source holds too many already");
            return;
        };
        let Some(tls) = self.handshake(stream, from).await else {
            return;
        };
        let caller = self.caller(&tls).await;
        let is_agent = matches!(caller, Caller::Agent(_));
        let streams = if is_agent { STREAMS } else { STRANGERS_STREAMS };
        let _place = (!is_agent).then_some(stranger);
        let channel = ChannelBinding::new(tls.export_keying_material(EXPORTER_LABEL));
        let end = End::of(&caller);
        let mut distrusted = pin!(distrusted(
            self.credentials.clone(),
            tls.peer().cloned(),
            &self.clock
        ));
        let mut dismissed = pin!(self.dismissed(&caller, tls.peer()));
        let routes = Routes::of(&self.desks, caller, channel, from.ip());
        let service = service_fn(move |request| {
            let routes = routes.clone();
            async move { Ok::<_, std::convert::Infallible>(routes.serve(request).await) }
        });
        let http = http(streams);
        let line = self.lines.open();
        let heard = Arc::clone(&line);
        let tls = Listening::new(tls, move || heard.heard());
        let mut connection = pin!(http.serve_connection(TokioIo::new(tls), service));

        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = self.shutdown.draining() => None,
            () = end.reached(&self.clock) => None,
            () = distrusted.as_mut() => {
                tracing::warn!(%from, "connection closed: the root of its peer is trusted no more");
                return;
            }
            () = dismissed.as_mut() => None,
            () = line.silent() => {
                tracing::debug!(%from, "connection closed: nothing was heard of its peer");
                return;
            }
        };
        let ended = match ended {
            Some(ended) => Some(ended),
            None => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => Some(ended),
                    () = self.shutdown.forced() => None,
                    () = tokio::time::sleep(ENDING) => None,
                }
            }
        };
        if let Some(Err(error)) = ended {
            tracing::debug!(%from, error = %runtime::exit::one_line(&error), "connection broke");
        }
    }

    async fn handshake(&self, stream: TcpStream, from: SocketAddr) -> Option<ServerTls<TcpStream>> {
        // Fails only on a socket that is already dead, which the handshake will tell.
        drop(stream.set_nodelay(true));
        // Its own turn first: who says nothing keeps no other source waiting.
        let turn = timeout(HANDSHAKE, self.handshakes_by_source.enter(from.ip()));
        let _of_source = turn.await.ok()??;
        let _turn = self.handshakes.acquire().await.ok()?;
        let config = match self.credentials.optional_client_server_config(&[b"h2"]) {
            Ok(config) => config,
            Err(error) => {
                tracing::error!(%error, "there is no certificate to answer agents with");
                return None;
            }
        };
        match timeout(HANDSHAKE, mtls::accept(stream, config)).await {
            Ok(Ok(tls)) => Some(tls),
            Ok(Err(error)) => {
                tracing::info!(%from, reason = %error, "handshake refused");
                None
            }
            Err(_) => {
                tracing::debug!(%from, "handshake timed out");
                None
            }
        }
    }

    /// Resolves when the agent at the other end was forgotten or banned, or its SVID revoked.
    fn dismissed(
        &self,
        caller: &Caller,
        peer: Option<&PeerIdentity>,
    ) -> impl Future<Output = ()> + use<> {
        let (agent, revoked) = (self.agent_dismissed(caller), self.revoked(caller, peer));
        async move {
            tokio::select! {
                () = agent => {}
                by = revoked => tracing::warn!(%by, "connection closed: its peer is revoked"),
            }
        }
    }

    fn agent_dismissed(&self, caller: &Caller) -> impl Future<Output = ()> + use<> {
        let agent = match caller {
            Caller::Agent(agent) => Some(agent.spiffe_id().clone()),
            Caller::Anonymous | Caller::Other(_) | Caller::Revoked(_) => None,
        };
        let admitted = self.desks.attest.admitted.clone();
        async move {
            match agent {
                Some(agent) => admitted.dismissed(&agent).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Resolves when the deny-list names the peer; of one that is told so already, never.
    fn revoked(
        &self,
        caller: &Caller,
        peer: Option<&PeerIdentity>,
    ) -> impl Future<Output = Denied> + use<> {
        let told = match caller {
            Caller::Agent(agent) => self.is_banned(agent),
            Caller::Anonymous | Caller::Revoked(_) => true,
            Caller::Other(_) => false,
        };
        let peer = peer.filter(|_| !told).cloned();
        let revoked = self.desks.attest.revoked.clone();
        async move {
            match peer {
                Some(peer) => revoked.refused(peer).await,
                None => std::future::pending().await,
            }
        }
    }

    async fn caller(&self, tls: &ServerTls<TcpStream>) -> Caller {
        let Some(peer) = tls.peer() else {
            return Caller::Anonymous;
        };
        let refused = self.desks.attest.revoked.refuses(peer).await;
        match (AgentPeer::of(peer, &self.trust_domain), refused) {
            // Each call says that it is banned.
            (Ok(agent), Some(_)) if self.is_banned(&agent) => Caller::Agent(agent),
            (_, Some(by)) => Caller::Revoked(by),
            (Ok(agent), None) => {
                self.seen.note(&agent).await;
                self.desks.attest.recall(agent.spiffe_id()).await;
                Caller::Agent(agent)
            }
            (Err(error), None) => Caller::Other(error),
        }
    }

    fn is_banned(&self, agent: &AgentPeer) -> bool {
        let admitted = &self.desks.attest.admitted;
        admitted.standing(agent.spiffe_id()) == Standing::Banned
    }
}

fn http(streams: u32) -> http2::Builder<TokioExecutor> {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .max_header_list_size(HEADER_BYTES);
    http
}

/// Resolves when the bundle in force vouches for the peer no more. One without a certificate was
/// never vouched for.
async fn distrusted(mut credentials: Credentials, peer: Option<PeerIdentity>, clock: &Clock) {
    let Some(peer) = peer else {
        return std::future::pending().await;
    };
    let mut judged = None;
    loop {
        if let Some(current) = credentials.current() {
            let bundles = current.bundles();
            if judged.as_ref() != Some(bundles) {
                let chain = UnverifiedChain::from_der(peer.chain().to_vec());
                let verified = chain.map(|chain| chain.verify(bundles, clock.now()));
                if !matches!(verified, Ok(Ok(_))) {
                    return;
                }
                judged = Some(bundles.clone());
            }
        }
        if credentials.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// When a connection must end whatever its peer does.
enum End {
    /// With the SVID that was shown in its handshake.
    At(time::OffsetDateTime),
    After(Instant),
}

impl End {
    fn of(caller: &Caller) -> Self {
        match caller {
            Caller::Agent(agent) => Self::At(agent.not_after()),
            Caller::Anonymous | Caller::Other(_) | Caller::Revoked(_) => {
                Self::After(Instant::now() + STRANGER)
            }
        }
    }

    async fn reached(&self, clock: &Clock) {
        match self {
            Self::At(end) => clock.sleep_until(*end).await,
            Self::After(end) => sleep_until(*end).await,
        }
    }
}
