//! What is built on an open store and an open root: the parts of a replica, wired and started.

mod duties;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use identity::SpiffeId;
use mtls::Credentials;
use prometheus_client::registry::Registry as MetricsRegistry;
use runtime::{AdminSource, Clock, LogLevelHandle, Shutdown, Supervisor, serve_metrics};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tlog::NoteSigner;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use super::following::{Following, Known};
use super::sockets::{Advertised, Sockets};
use super::web::{WebCredentials, WebListener, WebTls};
use super::{Ca, credential, jobs};
use crate::api::{self, ApiParts, WithoutStore};
use crate::attest::{AttestDesk, AttestLimits, Attestors};
use crate::authority::{Authority, RootKeeper};
use crate::clock_check::ClockCheck;
use crate::config::Config;
use crate::grpc::{AgentListener, Desks, SeenSerials};
use crate::horizon::Vitals;
use crate::issue::{AdmittedAgents, Directory, IssueDesk, Issuer, Recorder, ServingRenewal};
use crate::metrics::Metrics;
use crate::nesting::NestingStanding;
use crate::recovery::Recovery;
use crate::registry::Registry;
use crate::revocation::{ListSigning, RevocationLists, RevokedPeers, ToldLists};
use crate::rotation::Rotation;
use crate::spool::StoreStanding;
use crate::status::unix_millis;
use crate::store::{AgentRow, Notices, Store};
use crate::watch::{EndpointBoard, EndpointKeeper, Presence, WatchDesk};

use super::start::StartError;

/// What all parts of a replica stand on.
pub(super) struct Foundation {
    pub(super) id: SpiffeId,
    pub(super) store: Store,
    pub(super) keeper: RootKeeper,
    pub(super) authority: Authority,
    pub(super) rotation: Rotation,
    pub(super) recovery: Recovery,
    /// Where another instance stands above.
    pub(super) nesting: Option<NestingStanding>,
    pub(super) registry: Registry,
    pub(super) log_signer: NoteSigner,
    pub(super) clock: Clock,
    pub(super) clock_check: ClockCheck,
    pub(super) shutdown: Shutdown,
    pub(super) config: Config,
    pub(super) attestors: Attestors,
}

/// Parts that issue and watch share.
pub(super) struct Parts {
    pub(super) directory: Directory,
    issuer: Issuer,
    admitted: AdmittedAgents,
    pub(super) presence: Presence,
    pub(super) metrics: Metrics,
    pub(super) standing: StoreStanding,
    /// Of revocation lists that another replica has signed.
    lists: Arc<Notify>,
}

impl Foundation {
    pub(super) async fn serve(
        self,
        (mut sockets, notices): (Sockets, Option<Notices>),
        mut supervisor: Supervisor,
        web_tls: WebTls,
        log_level: Option<LogLevelHandle>,
    ) -> Result<Ca, StartError> {
        let mut metrics = MetricsRegistry::default();
        let known = self.store.agents().await?;
        let recorder = self.recorder(Metrics::new(&mut metrics), &mut supervisor);
        let parts = self.parts(&known, recorder.await?);
        let credentials = self.credentials(&parts, &mut supervisor).await?;
        let advertised = Advertised::of(&self.config.advertise, &sockets);
        let board = self
            .board(&parts, self.live(known), &mut supervisor)
            .await?;
        let desks = self.desks(&parts, &advertised, board.clone(), &mut supervisor);
        self.spawn_jobs(&parts, &desks, &mut supervisor);
        if let Some(notices) = notices {
            let known = Known {
                store: self.store.clone(),
                registry: self.registry.clone(),
                presence: parts.presence.clone(),
                admitted: parts.admitted.clone(),
                lists: Arc::clone(&parts.lists),
            };
            let replica = self.config.replica.to_string();
            let following = Following::new(notices, known, replica, board, self.clock.clone());
            following.spawn(&mut supervisor);
        }
        let roots = self.authority.roots().bundle().clone();
        let url = advertised.web.clone();
        credential::write_first(&self.config, &self.store, url, roots, self.clock.now()).await?;
        let without_store = self.without_store(&parts, &mut supervisor).await?;

        if let Some(listener) = sockets.metrics.take() {
            let serving = serve_metrics(listener, Arc::new(metrics), self.shutdown.clone());
            supervisor.spawn("metrics", serving);
        }
        if let Some(socket) = sockets.admin.take() {
            let source = self.admin_source(&parts, log_level, &supervisor);
            supervisor.spawn("admin-socket", socket.serve(source, self.shutdown.clone()));
        }
        let addresses = (sockets.web_address, sockets.agents_address);
        let metrics_address = sockets.metrics_address;
        let tls = web_tls.with(credentials.clone());
        let web = self.web_listener(sockets.web, tls, &parts, (&advertised, without_store));
        let seen = SeenSerials::new(self.store.clone(), parts.standing.clone());
        supervisor.spawn("seen-serials", seen.clone().run(self.shutdown.clone()));
        let agents = AgentListener::new(
            sockets.agents,
            credentials,
            desks,
            seen,
            self.config.trust_domain.clone(),
            &self.config.limits,
            (self.clock.clone(), self.shutdown.clone()),
        );
        supervisor.spawn("web", web.run());
        supervisor.spawn("agents", agents.run());
        Ok(self.started(addresses, metrics_address, parts.presence, supervisor))
    }

    fn started(
        self,
        (web, agents): (SocketAddr, SocketAddr),
        metrics: Option<SocketAddr>,
        presence: Presence,
        supervisor: Supervisor,
    ) -> Ca {
        tracing::info!(
            trust_domain = %self.config.trust_domain,
            replica = %self.config.replica,
            %web,
            %agents,
            revision = %self.registry.snapshot().revision(),
            "CA started"
        );
        Ca {
            web,
            agents,
            metrics,
            admin_file: self.config.admin.credential_file,
            trust_domain: self.config.trust_domain,
            presence,
            store: self.store,
            registry: self.registry,
            #[cfg(test)]
            rotation: self.rotation,
            #[cfg(test)]
            nesting: self.nesting,
            supervisor,
        }
    }

    fn parts(
        &self,
        known: &[AgentRow],
        (recorder, standing, metrics): (Recorder, StoreStanding, Metrics),
    ) -> Parts {
        let admitted = AdmittedAgents::new(
            known.iter().map(|row| row.spiffe_id.clone()),
            self.registry.denials(),
            standing.clone(),
        );
        admitted.learn_all(known, &admitted.as_of());
        Parts {
            directory: Directory::new(self.registry.clone(), admitted.clone()),
            issuer: Issuer::new(
                (self.authority.clone(), self.registry.denials()),
                recorder,
                self.config.lifetimes,
                (self.clock.clone(), self.clock_check.clone()),
                metrics.clone(),
            ),
            presence: Presence::new(admitted.clone()),
            admitted,
            metrics,
            standing,
            lists: Arc::default(),
        }
    }

    /// Agents that may have announced something to the replica before.
    fn live(&self, known: Vec<AgentRow>) -> BTreeSet<SpiffeId> {
        let now = self.clock.now();
        let live = known.into_iter().filter(|row| row.not_after > now);
        live.map(|row| row.spiffe_id).collect()
    }

    async fn credentials(
        &self,
        parts: &Parts,
        supervisor: &mut Supervisor,
    ) -> Result<Credentials, StartError> {
        let clock = self.clock.clone();
        let (publisher, credentials) = mtls::channel(move || clock.now());
        let serving = ServingRenewal::new(
            self.id.clone(),
            parts.issuer.clone(),
            self.authority.clone(),
            publisher,
            self.clock.clone(),
        );
        let validity = serving.renew().await?;
        supervisor.spawn("serving", serving.run(validity, self.shutdown.clone()));
        Ok(credentials)
    }

    fn web_listener(
        &self,
        listener: TcpListener,
        tls: WebCredentials,
        parts: &Parts,
        (advertised, without_store): (&Advertised, Option<WithoutStore>),
    ) -> WebListener {
        let router = api::router(&ApiParts {
            store: self.store.clone(),
            registry: self.registry.clone(),
            presence: parts.presence.clone(),
            clock: self.clock.clone(),
            rotation: self.rotation.clone(),
            keeper: self.keeper.clone(),
            nesting: self.nesting.clone(),
            recovery: self.recovery.clone(),
            vitals: Vitals {
                horizons: self.horizons(parts),
                clock_check: self.clock_check.clone(),
                standing: parts.standing.clone(),
            },
            log_key: self.log_signer.verifier().clone(),
            refresh_hint: self.config.bundle.refresh_hint,
            addresses: advertised.agents.clone(),
            replica: self.config.replica.to_string(),
            without_store,
        });
        WebListener {
            listener,
            tls,
            router,
            limits: self.config.limits,
            shutdown: self.shutdown.clone(),
        }
    }

    /// What is announced, here and at the other replicas.
    async fn board(
        &self,
        parts: &Parts,
        live: BTreeSet<SpiffeId>,
        supervisor: &mut Supervisor,
    ) -> Result<EndpointBoard, StartError> {
        let shared = match self.store.is_shared() {
            true => Some((self.config.replica.as_str(), self.store.announced().await?)),
            false => None,
        };
        let first_generation = unix_millis(self.clock.now()).unsigned_abs();
        let (directory, presence) = (parts.directory.clone(), parts.presence.clone());
        let (board, endpoints) =
            EndpointKeeper::new(directory, presence, first_generation, live, shared);
        supervisor.spawn("endpoints", endpoints.run(self.shutdown.clone()));
        Ok(board)
    }

    fn desks(
        &self,
        parts: &Parts,
        advertised: &Advertised,
        board: EndpointBoard,
        supervisor: &mut Supervisor,
    ) -> Desks {
        let streams = TaskTracker::new();
        supervisor.spawn(
            "watch-streams",
            jobs::wait_for_streams(streams.clone(), self.shutdown.clone()),
        );
        let attest = AttestDesk {
            store: self.store.clone(),
            registry: self.registry.clone(),
            attestors: self.attestors.clone(),
            authority: self.authority.clone(),
            recovery: self.recovery.clone(),
            issuer: parts.issuer.clone(),
            admitted: parts.admitted.clone(),
            revoked: RevokedPeers::new(&self.registry, self.store.clone()),
            limits: AttestLimits::new(&self.config.limits),
            reattest_within: self.config.lifetimes.reattest_within,
            clock: self.clock.clone(),
            metrics: parts.metrics.clone(),
        };
        let issue = IssueDesk::new(
            parts.directory.clone(),
            parts.issuer.clone(),
            parts.admitted.clone(),
            self.store.clone(),
            &self.config.limits,
            self.clock.clone(),
        );
        let sightings = self.sightings(parts, supervisor);
        let watch = WatchDesk {
            lists: self.revocation_lists(parts, supervisor),
            directory: parts.directory.clone(),
            presence: parts.presence.clone(),
            board,
            admitted: parts.admitted.clone(),
            replica: self.config.replica.to_string(),
            replicas: advertised.agents.iter().map(ToString::to_string).collect(),
            recovery: self.recovery.clone(),
            lifetimes: self.config.lifetimes,
            limits: self.config.limits,
            metrics: parts.metrics.clone(),
            sightings,
            clock: self.clock.clone(),
            shutdown: self.shutdown.clone(),
            streams,
        };
        Desks {
            attest: Arc::new(attest),
            issue: Arc::new(issue),
            watch: Arc::new(watch),
            metrics: parts.metrics.clone(),
        }
    }

    /// As agents are told of them.
    fn revocation_lists(
        &self,
        parts: &Parts,
        supervisor: &mut Supervisor,
    ) -> watch::Receiver<Arc<ToldLists>> {
        let signing = ListSigning {
            replica: self.config.replica.to_string(),
            keeper: self.keeper.clone(),
            authority: self.authority.clone(),
            lifetimes: self.config.lifetimes,
        };
        let (registry, store) = (self.registry.clone(), self.store.clone());
        let when = (self.clock.clone(), Arc::clone(&parts.lists));
        let (lists, told) = RevocationLists::new(signing, registry, store, when);
        supervisor.spawn("revocation-lists", lists.run(self.shutdown.clone()));
        told
    }

    fn admin_source(
        &self,
        parts: &Parts,
        log_level: Option<LogLevelHandle>,
        supervisor: &Supervisor,
    ) -> AdminSource {
        let (authority, registry) = (self.authority.clone(), self.registry.clone());
        let (presence, id) = (parts.presence.clone(), self.id.clone());
        AdminSource {
            status: Arc::new(move || {
                serde_json::json!({
                    "id": id.to_string(),
                    "revision": registry.snapshot().revision().to_string(),
                    "connectedAgents": presence.connected().len(),
                    "intermediateEnds": rfc3339(authority.intermediate().validity().not_after()),
                    "rootSha256": authority
                        .roots()
                        .active()
                        .map(|(_, root)| root.digest().to_string()),
                })
            }),
            log_level,
            trigger: supervisor.trigger(),
        }
    }
}

fn rfc3339(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}
