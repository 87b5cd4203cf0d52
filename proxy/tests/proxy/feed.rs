//! The agent's side of the mesh feed, over one Unix socket for all proxies of a test.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;

use proto::mesh::v1::feed_message::Message as Said;
use proto::mesh::v1::mesh_feed_server::{MeshFeed, MeshFeedServer};
use proto::mesh::v1::proxy_message::Message as Heard;
use proto::mesh::v1::{self, FeedMessage, ProxyMessage};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

use crate::mesh::Issuer;

/// What the whole mesh knows, as the CA would.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) number: u64,
    pub(crate) engine_version: u32,
    pub(crate) objects: Vec<String>,
    pub(crate) services: BTreeSet<String>,
    /// By workload, then by `namespace/service`.
    pub(crate) announced: BTreeMap<String, BTreeMap<String, v1::Endpoint>>,
    /// By workload: `host:port` of what it serves.
    pub(crate) applications: BTreeMap<String, Vec<v1::ApplicationAddress>>,
    /// Grows when every proxy is to get new credentials.
    pub(crate) credentials: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) world: watch::Sender<World>,
    /// The last revision that each workload's proxy applied.
    pub(crate) applied: watch::Sender<BTreeMap<String, u64>>,
    issuer: Arc<Issuer>,
}

impl Agent {
    pub(crate) fn new(issuer: Arc<Issuer>) -> Self {
        Self {
            world: watch::channel(World::default()).0,
            applied: watch::channel(BTreeMap::new()).0,
            issuer,
        }
    }

    pub(crate) async fn serve(self, listener: UnixListener) {
        tonic::transport::Server::builder()
            .add_service(MeshFeedServer::new(self))
            .serve_with_incoming(UnixListenerStream::new(listener))
            .await
            .unwrap();
    }
}

#[tonic::async_trait]
impl MeshFeed for Agent {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<FeedMessage, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<ProxyMessage>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (said, queue) = mpsc::channel(64);
        let mut messages = request.into_inner();
        let first = messages.message().await?.and_then(|it| it.message);
        let Some(Heard::Subscribe(subscribe)) = first else {
            return Err(Status::invalid_argument("no subscribe"));
        };
        let subscriber = Subscriber {
            agent: self.clone(),
            workload: subscribe.workload,
            said,
            wanted: BTreeSet::new(),
            credentials: None,
            number: None,
        };
        #[expect(clippy::disallowed_methods, reason = "it ends with the proxy's stream")]
        tokio::spawn(subscriber.run(messages));
        Ok(Response::new(Box::pin(ReceiverStream::new(queue))))
    }
}

struct Subscriber {
    agent: Agent,
    workload: String,
    said: mpsc::Sender<Result<FeedMessage, Status>>,
    wanted: BTreeSet<String>,
    credentials: Option<u64>,
    number: Option<u64>,
}

impl Subscriber {
    async fn run(mut self, mut messages: Streaming<ProxyMessage>) {
        let mut world = self.agent.world.subscribe();
        let now = world.borrow_and_update().clone();
        self.welcome(&now).await;
        self.tell(&now).await;
        loop {
            tokio::select! {
                message = messages.message() => match message {
                    Ok(Some(message)) => self.take(message).await,
                    _ => break,
                },
                Ok(()) = world.changed() => {
                    let now = world.borrow_and_update().clone();
                    self.tell(&now).await;
                }
            }
        }
        self.agent.world.send_modify(|world| {
            world.announced.remove(&self.workload);
        });
    }

    async fn take(&mut self, message: ProxyMessage) {
        match message.message.unwrap() {
            Heard::Applied(applied) => {
                let number = applied.revision.map_or(0, |it| it.number);
                self.agent.applied.send_modify(|all| {
                    all.insert(self.workload.clone(), number);
                });
            }
            Heard::Want(want) => {
                self.wanted
                    .insert(format!("{}/{}", want.namespace, want.service));
                self.number = None;
                let now = self.agent.world.borrow().clone();
                self.tell(&now).await;
            }
            Heard::Announce(announce) => {
                let announced = announce.announcements.into_iter().map(|it| {
                    (
                        format!("{}/{}", it.namespace, it.service),
                        it.endpoint.unwrap(),
                    )
                });
                let announced = announced.collect();
                self.agent.world.send_modify(|world| {
                    world.announced.insert(self.workload.clone(), announced);
                });
                let sequence = announce.sequence;
                self.say(Said::Announced(v1::Announced { sequence })).await;
            }
            Heard::Subscribe(_) | Heard::Status(_) | Heard::Seen(_) => {}
        }
    }

    async fn welcome(&self, world: &World) {
        let applications = world.applications.get(&self.workload);
        self.say(Said::Welcome(v1::Welcome {
            version: Some(v1::PROTOCOL),
            workload: self.workload.clone(),
            spiffe_id: self.agent.issuer.id(&self.workload).to_string(),
            applications: applications.cloned().unwrap_or_default(),
        }))
        .await;
        self.say(Said::Heard(v1::Heard {
            milliseconds_ago: 0,
        }))
        .await;
    }

    async fn tell(&mut self, world: &World) {
        if self.credentials != Some(world.credentials) {
            self.credentials = Some(world.credentials);
            let credentials = self.agent.issuer.message(&self.workload);
            self.say(Said::Credentials(credentials)).await;
        }
        for name in &self.wanted {
            if world.services.contains(name) {
                self.say(Said::Endpoints(endpoints(world, name))).await;
            }
        }
        if self.number != Some(world.number) {
            self.number = Some(world.number);
            let unknown = self.wanted.difference(&world.services).map(|name| {
                let (namespace, service) = name.split_once('/').unwrap();
                format!("{service}.{namespace}")
            });
            let configuration = v1::Configuration {
                revision: Some(v1::Revision {
                    epoch: 1,
                    number: world.number,
                }),
                engine_version: world.engine_version,
                id_template: "/ns/{namespace}/sa/{name}".to_owned(),
                objects: world
                    .objects
                    .iter()
                    .map(|json| v1::Object {
                        json: json.clone(),
                        ..v1::Object::default()
                    })
                    .collect(),
                decision_key: vec![7; 32],
                unknown_services: unknown.collect(),
                ..v1::Configuration::default()
            };
            self.say(Said::Configuration(configuration)).await;
        }
    }

    async fn say(&self, message: Said) {
        let message = FeedMessage {
            message: Some(message),
        };
        // A proxy that has gone away hears nothing.
        drop(self.said.send(Ok(message)).await);
    }
}

fn endpoints(world: &World, name: &str) -> v1::ServiceEndpoints {
    let (namespace, service) = name.split_once('/').unwrap();
    v1::ServiceEndpoints {
        namespace: namespace.to_owned(),
        service: service.to_owned(),
        generation: 1,
        endpoints: world
            .announced
            .values()
            .filter_map(|it| it.get(name).cloned())
            .collect(),
        source: "test".to_owned(),
    }
}
