//! Claims of the watch stream.

use std::time::Duration;

use policy::Revision;
use policy::resource::{Kind, ObjectKey};
use proto::agent::v1::ca_message::Message;
use proto::agent::v1::{self as wire};
use proto::mesh::v1::{self as mesh, PROTOCOL};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::agent::{TestAgent, refused};
use super::harness::{TestCa, agent_id, policy, service, workload};
use crate::store::Changes;

/// One stream, from the agent's side.
pub(super) struct Stream {
    say: mpsc::Sender<wire::AgentMessage>,
    hear: Streaming<wire::CaMessage>,
}

/// What the agent of `shop/orders` holds of a revision that made all of [`shop`].
fn held_of_shop(revision: mesh::Revision) -> [wire::HeldObject; 2] {
    ["Service", "Policy"].map(|kind| wire::HeldObject {
        key: Some(mesh::ObjectKey {
            kind: kind.to_owned(),
            namespace: "shop".to_owned(),
            name: "orders".to_owned(),
        }),
        revision: Some(revision),
    })
}

impl TestCa {
    /// Opens a stream as an agent of protocol 1.1 does, and takes the greeting.
    pub(super) async fn watch(&self, agent: &TestAgent, resume: Option<mesh::Revision>) -> Stream {
        self.watch_asking(agent, resume, None).await
    }

    /// Opens a stream that says at once what is asked for, and takes the greeting.
    async fn watch_asking(
        &self,
        agent: &TestAgent,
        resume: Option<mesh::Revision>,
        asked: Option<&[&str]>,
    ) -> Stream {
        let services = asked.map(|names| names.iter().map(ToString::to_string).collect());
        let mut stream = self.raw_watch(agent).await;
        let agent_time = self.clock.now().unix_timestamp() * 1000;
        let hello = wire::Hello {
            version: Some(PROTOCOL),
            resume,
            product: "test".to_owned(),
            engine_version: 1,
            agent_time_unix_ms: agent_time,
            held: resume.map(held_of_shop).into_iter().flatten().collect(),
            subscriptions: services.map(|services| wire::Subscriptions { services }),
        };
        stream.say(wire::agent_message::Message::Hello(hello)).await;
        let Message::Greeting(greeting) = stream.next().await else {
            panic!("no greeting");
        };
        assert_eq!(greeting.replicas, [self.ca.agents_address().to_string()]);
        stream
    }

    async fn raw_watch(&self, agent: &TestAgent) -> Stream {
        let (say, said) = mpsc::channel(8);
        let mut client = self.of(agent).await.watch();
        let response = client.watch(ReceiverStream::new(said)).await.unwrap();
        Stream {
            say,
            hear: response.into_inner(),
        }
    }

    fn revision(&self, number: u64) -> Revision {
        let epoch = self.ca.store.epoch();
        Revision { epoch, number }
    }

    fn wire_revision(&self, number: u64) -> mesh::Revision {
        let epoch = self.ca.store.epoch();
        mesh::Revision { epoch, number }
    }
}

impl Stream {
    pub(super) async fn say(&self, message: wire::agent_message::Message) {
        let message = wire::AgentMessage {
            message: Some(message),
        };
        self.say.send(message).await.unwrap();
    }

    pub(super) async fn try_next(&mut self) -> Result<Message, Status> {
        loop {
            match self.try_any().await? {
                // They come whenever one is signed.
                Message::RevocationLists(_) => {}
                message => return Ok(message),
            }
        }
    }

    async fn try_any(&mut self) -> Result<Message, Status> {
        let next = timeout(Duration::from_secs(10), self.hear.message());
        let message = next.await.expect("nothing came in time")?;
        Ok(message.expect("the stream goes on").message.unwrap())
    }

    /// The next ones, whatever comes before.
    pub(super) async fn lists(&mut self) -> wire::RevocationLists {
        loop {
            if let Message::RevocationLists(lists) = self.try_any().await.unwrap() {
                return lists;
            }
        }
    }

    pub(super) async fn next(&mut self) -> Message {
        self.try_next().await.unwrap()
    }

    pub(super) async fn snapshot(&mut self) -> wire::Snapshot {
        match self.next().await {
            Message::Snapshot(snapshot) => snapshot,
            other => panic!("no snapshot: {other:?}"),
        }
    }

    pub(super) async fn delta(&mut self) -> wire::Delta {
        match self.next().await {
            Message::Delta(delta) => delta,
            other => panic!("no delta: {other:?}"),
        }
    }

    pub(super) async fn endpoints(&mut self) -> mesh::ServiceEndpoints {
        match self.next().await {
            Message::Endpoints(endpoints) => endpoints,
            other => panic!("no endpoints: {other:?}"),
        }
    }

    pub(super) async fn confirmed(&mut self, sequence: u64) {
        let announced = Message::Announced(wire::Announced { sequence });
        assert_eq!(self.next().await, announced);
    }

    pub(super) async fn ask_for(&self, name: &str) {
        self.ask_for_all(vec![name.to_owned()]).await;
    }

    async fn ask_for_all(&self, services: Vec<String>) {
        let subscriptions = wire::Subscriptions { services };
        self.say(wire::agent_message::Message::Subscriptions(subscriptions))
            .await;
    }

    pub(super) async fn announce(&self, workload: &str, service: &str, port: u32) {
        let endpoint = mesh::Endpoint {
            address: "127.0.0.1".to_owned(),
            ports: [("http".to_owned(), port)].into(),
            zone: String::new(),
        };
        let announcement = wire::AgentAnnouncement {
            workload: workload.to_owned(),
            announcement: Some(mesh::Announcement {
                namespace: "shop".to_owned(),
                service: service.to_owned(),
                endpoint: Some(endpoint),
            }),
        };
        let announcements = wire::Announcements {
            announcements: vec![announcement],
            sequence: u64::from(port),
        };
        self.say(wire::agent_message::Message::Announcements(announcements))
            .await;
    }
}

fn kinds(objects: &[mesh::Object]) -> Vec<(&str, &str)> {
    objects
        .iter()
        .map(|object| (object.kind.as_str(), object.name.as_str()))
        .collect()
}

fn shop() -> String {
    [
        workload("orders", &["web-7"]),
        workload("checkout", &["web-8"]),
        service("orders"),
        service("checkout"),
        policy("orders", "checkout"),
        policy("checkout", "orders"),
    ]
    .concat()
}

#[tokio::test]
async fn a_stream_that_does_not_begin_with_hello_is_refused() {
    let ca = TestCa::start().await;
    let mut stream = ca.raw_watch(&ca.agent("web-7").await).await;
    stream.ask_for("orders.shop").await;
    refused(
        stream.try_next().await,
        Code::InvalidArgument,
        "hello-missing",
    );
}

#[tokio::test]
async fn an_announcement_without_a_valid_address_ends_the_stream() {
    let ca = TestCa::start().await;
    let mut stream = ca.watch(&ca.agent("web-7").await, None).await;
    stream.snapshot().await;
    stream.announce("shop/orders", "orders", 70_000).await;
    refused(stream.try_next().await, Code::InvalidArgument, "malformed");
}

#[tokio::test]
async fn an_announcement_is_confirmed_once_callers_are_told_of_it() {
    let ca = TestCa::start().await;
    ca.apply(&shop()).await;
    let mut orders = ca.watch(&ca.agent("web-7").await, None).await;
    orders.snapshot().await;
    orders.announce("shop/orders", "orders", 31_000).await;
    orders.confirmed(31_000).await;

    let mut checkout = ca.watch(&ca.agent("web-8").await, None).await;
    checkout.snapshot().await;
    checkout.ask_for("orders.shop").await;
    checkout.delta().await;
    assert_eq!(checkout.endpoints().await.endpoints.len(), 1);
}

#[tokio::test]
async fn an_announcement_is_confirmed_once_callers_of_other_replicas_are_told_of_it() {
    let Some(server) = crate::store::tests::fresh_database() else {
        return;
    };
    let place = crate::store::StorePlace::Postgres(server);
    let one = TestCa::start_with(|config| config.store = place.clone()).await;
    let other = TestCa::start_with(|config| {
        config.store = place;
        config.replica = "ca-2".parse().unwrap();
        config.keys = one.config.keys.clone();
    });
    let other = other.await;
    let shop = one.apply(&shop()).await;
    other.ca.registry.reach(one.revision(shop)).await;
    let mut orders = one.watch(&one.agent("web-7").await, None).await;
    orders.snapshot().await;
    let agent = one.agent("web-8").await;
    for port in [31_000, 31_001] {
        orders.announce("shop/orders", "orders", port).await;
        orders.confirmed(u64::from(port)).await;
        let mut checkout = other.watch(&agent, None).await;
        checkout.snapshot().await;
        checkout.ask_for("orders.shop").await;
        checkout.delta().await;
        let told = checkout.endpoints().await.endpoints;
        assert_eq!(told[0].ports["http"], port);
    }
}

#[tokio::test]
async fn a_newer_stream_of_an_agent_replaces_the_older() {
    let ca = TestCa::start().await;
    let agent = ca.agent("web-7").await;
    let mut older = ca.watch(&agent, None).await;
    older.snapshot().await;
    let _newer = ca.watch(&agent, None).await;
    refused(older.try_next().await, Code::Aborted, "stream-replaced");
}

#[tokio::test]
async fn a_forgotten_agents_stream_ends() {
    let ca = TestCa::start().await;
    let mut stream = ca.watch(&ca.agent("web-7").await, None).await;
    stream.snapshot().await;
    ca.forget("web-7").await;
    refused(stream.try_next().await, Code::Aborted, "stream-replaced");
}

#[tokio::test]
async fn an_agent_is_told_of_what_it_hosts_and_of_nothing_else() {
    let ca = TestCa::start().await;
    ca.apply(&shop()).await;
    let mut stream = ca.watch(&ca.agent("web-7").await, None).await;
    let snapshot = stream.snapshot().await;
    let configuration = snapshot.configuration.unwrap();
    assert_eq!(
        kinds(&configuration.objects),
        [("Service", "orders"), ("Policy", "orders")]
    );
    assert_eq!(snapshot.identities.len(), 1);
    assert_eq!(
        snapshot.identities[0].spiffe_id,
        "spiffe://td.test/ns/shop/sa/orders"
    );
}

#[tokio::test]
async fn a_write_arrives_as_a_delta_of_what_changed() {
    let ca = TestCa::start().await;
    let first = ca.apply(&shop()).await;
    let mut stream = ca.watch(&ca.agent("web-7").await, None).await;
    stream.snapshot().await;
    let second = ca.apply(&policy("orders", "intruder")).await;
    let delta = stream.delta().await;
    assert_eq!(delta.from, Some(ca.wire_revision(first)));
    assert_eq!(delta.revision, Some(ca.wire_revision(second)));
    assert_eq!(kinds(&delta.upserted), [("Policy", "orders")]);
    assert!(delta.identities.is_none() && delta.removed.is_empty());
}

#[tokio::test]
async fn a_deleted_object_is_removed() {
    let ca = TestCa::start().await;
    ca.apply(&shop()).await;
    let mut stream = ca.watch(&ca.agent("web-7").await, None).await;
    stream.snapshot().await;
    let name = "shop/orders".parse().unwrap();
    ca.propose(Changes {
        deletes: vec![ObjectKey::namespaced(Kind::Policy, &name)],
        ..Changes::default()
    })
    .await;
    let removed = stream.delta().await.removed;
    assert_eq!((removed[0].kind.as_str(), removed.len()), ("Policy", 1));
}

#[tokio::test]
async fn an_agent_that_was_away_gets_a_delta() {
    let ca = TestCa::start().await;
    let held = ca.apply(&shop()).await;
    let agent = ca.agent("web-7").await;
    ca.watch(&agent, None).await.snapshot().await;
    ca.apply(&policy("orders", "intruder")).await;
    let mut resumed = ca.watch(&agent, Some(ca.wire_revision(held))).await;
    let delta = resumed.delta().await;
    assert_eq!(kinds(&delta.upserted), [("Policy", "orders")]);
    assert!(delta.bundle.is_some());
}

#[tokio::test]
async fn an_agent_that_asks_for_nothing_when_it_resumes_keeps_nothing() {
    let ca = TestCa::start().await;
    let held = Some(ca.wire_revision(ca.apply(&shop()).await));
    let agent = ca.agent("web-8").await;
    let mut resumed = ca.watch_asking(&agent, held, Some(&[])).await;
    let removed = resumed.delta().await.removed;
    let kinds: Vec<_> = removed.iter().map(|key| key.kind.as_str()).collect();
    assert_eq!(kinds, ["Service", "Policy"]);
}

#[tokio::test]
async fn what_an_older_agent_holds_stays_until_it_says_that_it_asks_for_nothing() {
    let ca = TestCa::start().await;
    let held = Some(ca.wire_revision(ca.apply(&shop()).await));
    let mut resumed = ca.watch(&ca.agent("web-8").await, held).await;
    let removed = resumed.delta().await.removed;
    assert_eq!((removed[0].kind.as_str(), removed.len()), ("Policy", 1));
    resumed.endpoints().await;
    resumed.ask_for_all(Vec::new()).await;
    let removed = resumed.delta().await.removed;
    assert_eq!((removed[0].kind.as_str(), removed.len()), ("Service", 1));
}

#[tokio::test]
async fn the_first_snapshot_has_what_is_asked_for_with_its_endpoints() {
    let ca = TestCa::start().await;
    ca.apply(&shop()).await;
    let mut server = ca.watch(&ca.agent("web-7").await, None).await;
    server.snapshot().await;
    server.announce("shop/orders", "orders", 31_006).await;
    server.confirmed(31_006).await;
    let agent = ca.agent("web-8").await;
    let mut caller = ca.watch_asking(&agent, None, Some(&["orders.shop"])).await;
    let snapshot = caller.snapshot().await;
    let objects = snapshot.configuration.unwrap().objects;
    assert!(kinds(&objects).contains(&("Service", "orders")));
    assert_eq!(snapshot.endpoints[0].endpoints[0].ports["http"], 31_006);
}

#[tokio::test]
async fn an_agent_from_another_epoch_gets_a_snapshot() {
    let ca = TestCa::start().await;
    let mut revision = ca.wire_revision(ca.apply(&shop()).await);
    revision.epoch ^= 1;
    let mut stream = ca.watch(&ca.agent("web-7").await, Some(revision)).await;
    assert_eq!(stream.snapshot().await.identities.len(), 1);
}

#[tokio::test]
async fn a_revision_is_enforced_when_every_connected_agent_acknowledged_it() {
    let ca = TestCa::start().await;
    let number = ca.apply(&shop()).await;
    let mut stream = ca.watch(&ca.agent("web-7").await, None).await;
    stream.snapshot().await;
    let revision = ca.revision(number);
    let presence = ca.ca.presence().clone();
    let pending = presence.enforcement(revision).pending;
    assert_eq!(pending, [agent_id("web-7")]);
    let acknowledge = wire::Acknowledge {
        revision: Some(ca.wire_revision(number)),
    };
    stream
        .say(wire::agent_message::Message::Acknowledge(acknowledge))
        .await;
    let enforced = presence
        .wait_enforced(revision, Duration::from_secs(10))
        .await;
    assert!(enforced.pending.is_empty());
}

#[tokio::test]
async fn who_asks_for_a_service_learns_its_endpoints() {
    let ca = TestCa::start().await;
    ca.apply(&shop()).await;
    let mut server = ca.watch(&ca.agent("web-7").await, None).await;
    server.snapshot().await;
    server.announce("shop/orders", "orders", 31_006).await;
    server.confirmed(31_006).await;
    let mut caller = ca.watch(&ca.agent("web-8").await, None).await;
    caller.snapshot().await;
    caller.ask_for("orders.shop").await;
    assert_eq!(
        kinds(&caller.delta().await.upserted),
        [("Service", "orders")]
    );
    let told = caller.endpoints().await;
    assert_eq!(told.endpoints[0].ports["http"], 31_006);
}

#[tokio::test]
async fn an_announcement_for_a_workload_of_another_agent_does_not_count() {
    let ca = TestCa::start().await;
    ca.apply(&shop()).await;
    let mut thief = ca.watch(&ca.agent("web-8").await, None).await;
    thief.snapshot().await;
    thief.announce("shop/orders", "orders", 6_666).await;
    thief.confirmed(6_666).await;
    let mut server = ca.watch(&ca.agent("web-7").await, None).await;
    server.snapshot().await;
    server.announce("shop/orders", "orders", 31_006).await;
    server.confirmed(31_006).await;
    thief.ask_for("orders.shop").await;
    thief.delta().await;
    let told = thief.endpoints().await;
    let ports: Vec<_> = told
        .endpoints
        .iter()
        .map(|endpoint| endpoint.ports["http"])
        .collect();
    assert_eq!(ports, [31_006]);
}

#[tokio::test]
async fn a_service_that_is_not_there_is_said_to_be_unknown() {
    let ca = TestCa::start().await;
    let mut stream = ca.watch(&ca.agent("web-7").await, None).await;
    stream.snapshot().await;
    stream.ask_for("nothing.shop").await;
    let unknown = stream.delta().await.unknown_services.unwrap();
    assert_eq!(unknown.services, ["nothing.shop"]);
}
