//! Simulated agents. What is left out of a real one is what the CA does not see: workloads, files,
//! proxies.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mesh_tests::stranger::{Joined, Line, address, join};
use mtls::{ClientTlsConfig, Expected};
use proto::agent::v1::agent_message::Message as Said;
use proto::agent::v1::ca_message::Message as Told;
use proto::agent::v1::{
    Acknowledge, AgentAnnouncement, AgentMessage, Announcements, CaMessage, HeldObject, Hello,
    Subscriptions,
};
use proto::mesh::v1::{Announcement, Endpoint, Object, ObjectKey, PROTOCOL, Revision};
use runtime::Clock;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::Streaming;

use super::mesh::{Mesh, Place};

/// Joining is not what is measured; so many at a time are quick.
const AT_ONCE: usize = 32;
/// As real agents come back: at once, then after a pause that grows.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(super) struct Agents {
    tally: Arc<Tally>,
    _running: JoinSet<()>,
}

/// How many agents have been told since somebody began to count.
#[derive(Debug, Default)]
struct Tally {
    expected: usize,
    changed: AtomicUsize,
    opened: AtomicUsize,
    news: Notify,
}

/// What is waited for.
#[derive(Debug)]
pub(super) struct Awaited<'a> {
    tally: &'a Tally,
    count: fn(&Tally) -> &AtomicUsize,
}

struct Agent {
    agents: SocketAddr,
    config: ClientTlsConfig,
    place: Place,
    held: BTreeMap<(String, String, String), Option<Revision>>,
    revision: Option<Revision>,
    tally: Arc<Tally>,
}

impl Agents {
    /// Until each has been told what concerns it.
    pub(super) async fn join(mesh: &Mesh) -> Result<Self> {
        let places = mesh.places().await?;
        let tally = Arc::new(Tally {
            expected: places.len(),
            ..Tally::default()
        });
        let (turns, clock) = (Arc::new(Semaphore::new(AT_ONCE)), Clock::system());
        let mut running = JoinSet::new();
        for place in places {
            let (turns, clock, tally) = (Arc::clone(&turns), clock.clone(), Arc::clone(&tally));
            running.spawn(async move {
                let turn = turns.acquire_owned().await;
                let agent = Agent::join(place, tally, &clock).await;
                drop(turn);
                agent.run().await;
            });
        }
        let agents = Self {
            tally,
            _running: running,
        };
        let opened = Awaited {
            tally: &agents.tally,
            count: |tally| &tally.opened,
        };
        opened.everybody().await?;
        Ok(agents)
    }

    /// Counts from now on who is told of one more revision.
    pub(super) fn told_next(&self) -> Awaited<'_> {
        self.counting(|tally| &tally.changed)
    }

    /// Counts from now on whose new stream has begun.
    pub(super) fn back_again(&self) -> Awaited<'_> {
        self.counting(|tally| &tally.opened)
    }

    fn counting(&self, count: fn(&Tally) -> &AtomicUsize) -> Awaited<'_> {
        count(&self.tally).store(0, Ordering::SeqCst);
        Awaited {
            tally: &self.tally,
            count,
        }
    }
}

impl Awaited<'_> {
    pub(super) async fn everybody(&self) -> Result<()> {
        let all = async {
            loop {
                let news = self.tally.news.notified();
                if (self.count)(self.tally).load(Ordering::SeqCst) >= self.tally.expected {
                    return;
                }
                news.await;
            }
        };
        let outcome = timeout(PATIENCE, all).await;
        let told = (self.count)(self.tally).load(Ordering::SeqCst);
        outcome.with_context(|| format!("{told} of {} agents were told", self.tally.expected))
    }
}

impl Tally {
    fn add(&self, count: &AtomicUsize) {
        if count.fetch_add(1, Ordering::SeqCst) + 1 == self.expected {
            self.news.notify_one();
        }
    }
}

impl Agent {
    async fn join(place: Place, tally: Arc<Tally>, clock: &Clock) -> Self {
        let joined = join(&place.token, clock).await;
        Self {
            agents: address(&place.token),
            config: config(joined, clock),
            place,
            held: BTreeMap::new(),
            revision: None,
            tally,
        }
    }

    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            if self.converse(&mut pause).await.is_err() {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    async fn converse(&mut self, pause: &mut Duration) -> Result<()> {
        let line = Line::try_open(self.agents, &self.config).await?;
        let (say, said) = mpsc::channel(4);
        say.send(message(Said::Hello(self.hello()))).await?;
        say.send(message(Said::Announcements(self.announcements())))
            .await?;
        let mut told = line.watch(said).await?;
        let mut opened = false;
        loop {
            let Some(revision) = self.listen(&mut told).await? else {
                continue;
            };
            let acknowledge = Acknowledge {
                revision: Some(revision),
            };
            say.send(message(Said::Acknowledge(acknowledge))).await?;
            if !opened {
                self.tally.add(&self.tally.opened);
                (opened, *pause) = (true, FIRST_PAUSE);
            }
        }
    }

    /// The revision, where what was told had one.
    async fn listen(&mut self, told: &mut Streaming<CaMessage>) -> Result<Option<Revision>> {
        let Some(message) = told.message().await? else {
            bail!("the stream has ended");
        };
        let (objects, removed, revision) = match message.message {
            Some(Told::Snapshot(snapshot)) => {
                let configuration = snapshot.configuration.context("a configuration")?;
                self.held.clear();
                (configuration.objects, Vec::new(), configuration.revision)
            }
            Some(Told::Delta(delta)) => (delta.upserted, delta.removed, delta.revision),
            _ => return Ok(None),
        };
        for key in removed {
            self.held.remove(&(key.kind, key.namespace, key.name));
        }
        for Object {
            kind,
            namespace,
            name,
            revision,
            ..
        } in objects
        {
            self.held.insert((kind, namespace, name), revision);
        }
        if self.revision.is_some() && self.revision != revision {
            self.tally.add(&self.tally.changed);
        }
        self.revision = revision;
        Ok(revision)
    }

    fn announcements(&self) -> Announcements {
        let endpoint = Endpoint {
            address: self.place.address.clone(),
            ports: [("http".to_owned(), 15006)].into(),
            zone: String::new(),
        };
        let announcement = Announcement {
            namespace: "fleet".to_owned(),
            service: self.place.serves.clone(),
            endpoint: Some(endpoint),
        };
        Announcements {
            announcements: vec![AgentAnnouncement {
                workload: self.place.workload.clone(),
                announcement: Some(announcement),
            }],
            sequence: 1,
        }
    }

    fn hello(&self) -> Hello {
        let held = self.held.iter().map(|((kind, namespace, name), revision)| {
            let key = ObjectKey {
                kind: kind.clone(),
                namespace: namespace.clone(),
                name: name.clone(),
            };
            HeldObject {
                key: Some(key),
                revision: *revision,
            }
        });
        let now = Clock::system().now().unix_timestamp_nanos() / 1_000_000;
        Hello {
            version: Some(PROTOCOL),
            resume: self.revision,
            product: "countersign-bench".to_owned(),
            engine_version: 1,
            agent_time_unix_ms: i64::try_from(now).unwrap_or_default(),
            held: held.collect(),
            subscriptions: Some(Subscriptions {
                services: self.place.calls.clone(),
            }),
        }
    }
}

fn message(said: Said) -> AgentMessage {
    AgentMessage {
        message: Some(said),
    }
}

fn config(joined: Joined, clock: &Clock) -> ClientTlsConfig {
    let clock = clock.clone();
    let (publisher, credentials) = mtls::channel(move || clock.now());
    let published = publisher.publish(joined.svid, joined.bundles);
    published.expect("a valid SVID");
    let config = credentials.client_config(Expected::CaReplica, &[b"h2"]);
    config.expect("published")
}
