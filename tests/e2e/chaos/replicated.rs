//! A shop of real processes on some replicas, certificates that live for seconds, and calls that
//! never pause.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use mesh_tests::application::Application;
use mesh_tests::host::Host;
use mesh_tests::invariants::{Calls, Witness};
use mesh_tests::operator::CaProcess;
use mesh_tests::replicas::Replicas;
use mesh_tests::shop::{CHECKOUT_MAY_CALL, SERVICE};
use mesh_tests::stranger::join;
use mesh_tests::waiting::eventually;
use postgres_cluster::{Cluster, shared};
use runtime::Clock;
use tempfile::TempDir;

use super::gate::{Gate, ROLES};

pub(super) const LIFETIMES: &str = "agent = \"4s\"\nworkload = \"4s\"\nmargin = \"1s\"\n\
                         [bundle]\nrefresh_hint = \"1s\"";

/// Some replicas, each of which the database can tell from the others.
pub(super) struct Replicated {
    pub(super) cluster: &'static Cluster,
    pub(super) mesh: Replicas,
    replicas: Vec<Option<CaProcess>>,
    /// Of replicas that were killed: what others left below them is still in use.
    directories: Vec<TempDir>,
}

pub(super) struct Shop {
    pub(super) cas: Replicated,
    hosts: [(&'static str, Host); 2],
    pub(super) calls: Calls,
    pub(super) witness: Witness,
    _application: Application,
}

/// Two hosts, of which one calls what runs on the other.
pub(super) struct Hosts {
    pub(super) calls: Calls,
    pub(super) hosts: [(&'static str, Host); 2],
    pub(super) application: Application,
}

impl Hosts {
    pub(super) async fn open(ca: &CaProcess) -> Self {
        for name in ["orders", "checkout"] {
            ca.register("shop", name).await;
        }
        for objects in [SERVICE, CHECKOUT_MAY_CALL] {
            ca.try_apply(objects).await.expect("valid objects");
        }
        let application = Application::http().await;
        let at = Some(application.address());
        let orders = Host::start(ca, "orders-1", "shop/orders", at).await;
        let checkout = Host::start(ca, "checkout-1", "shop/checkout", None).await;
        let calls = Calls::through(checkout.outbound);
        calls.pass().await;
        Self {
            calls,
            hosts: [("orders", orders), ("checkout", checkout)],
            application,
        }
    }
}

impl Replicated {
    /// `None` where there is no PostgreSQL.
    pub(super) async fn open(count: usize, lifetimes: &str) -> Option<Self> {
        let cluster = shared()?;
        let database = cluster.database();
        Gate::make_roles(cluster, &database);
        let (mesh, replicas) = Replicas::start_as(database, &ROLES[..count], lifetimes).await;
        Some(Self {
            cluster,
            mesh,
            replicas: replicas.into_iter().map(Some).collect(),
            directories: Vec::new(),
        })
    }

    pub(super) fn replica(&self, index: usize) -> &CaProcess {
        self.replicas[index].as_ref().expect("it runs")
    }

    /// kill -9.
    pub(super) async fn kill(&mut self, index: usize) {
        let replica = self.replicas[index].take().expect("it runs");
        self.directories.push(replica.crash().await);
    }

    /// Another one than this.
    pub(super) fn other_than(&self, index: usize) -> &CaProcess {
        self.replica((index + 1) % self.replicas.len())
    }

    pub(super) async fn start_again(&mut self, index: usize) {
        let living = self.replicas.iter().flatten().next().expect("one runs");
        living.admin().get("/v1/about").await.expect("it answers");
        self.mesh.take_credential_of(living);
        self.replicas[index] = Some(self.mesh.launch(index).await);
    }

    /// The bundle that each replica serves; there is one only.
    pub(super) async fn bundle(&self) -> String {
        let mut bundles = BTreeSet::new();
        for replica in self.replicas.iter().flatten() {
            let bundle = replica.admin().get("/v1/bundle").await;
            bundles.insert(bundle.expect("it answers")["keys"].to_string());
        }
        assert_eq!(bundles.len(), 1, "{bundles:?}");
        bundles.pop_first().expect("a replica runs")
    }

    /// While a step is held, each replica's operator hears of the roots before it, by the old one's
    /// word.
    pub(super) async fn operators_hear_of_roots(&self) {
        for replica in self.replicas.iter().flatten() {
            let heard = replica.admin().get("/v1/about").await;
            heard.expect("it answers");
        }
    }

    /// No replica has anything left to do.
    pub(super) async fn settled(&self) {
        self.settled_with_more_roots_than(0).await;
    }

    /// The same, after another root was made beside those that are known. Each replica is asked all
    /// the time: who asks only afterwards knows none of the roots.
    pub(super) async fn settled_with_more_roots_than(&self, known: usize) {
        let indices = 0..self.replicas.len();
        let running = indices.filter(|index| self.replicas[*index].is_some());
        join_all(running.map(|index| self.settled_at(index, known))).await;
    }

    async fn settled_at(&self, index: usize, known: usize) {
        eventually("the rotation has ended", || async {
            let admin = self.replica(index).admin();
            let list = admin.get("/v1/authorities").await.ok()?;
            (list["settled"] == true && list["items"].get(known).is_some()).then_some(())
        })
        .await;
    }
}

impl Shop {
    /// `None` where there is no PostgreSQL.
    pub(super) async fn open(replicas: usize) -> Option<Self> {
        Self::open_with(replicas, LIFETIMES).await
    }

    /// With these `[lifetimes]`.
    pub(super) async fn open_with(replicas: usize, lifetimes: &str) -> Option<Self> {
        let cas = Replicated::open(replicas, lifetimes).await?;
        let ca = cas.replica(0);
        let Hosts {
            calls,
            hosts,
            application,
        } = Hosts::open(ca).await;
        let mut witness = Witness::default();
        // It will not renew.
        let token = ca.join_token("short-lived", &[]).await;
        witness.expired(&join(&token, &Clock::system()).await.svid);
        Some(Self {
            cas,
            hosts,
            calls,
            witness,
            _application: application,
        })
    }

    /// The certificates that are in use now have left a CA.
    pub(super) async fn note_certificates(&mut self) {
        for (name, host) in &self.hosts {
            let serial = eventually("a certificate is presented", || host.serial()).await;
            let id = format!("spiffe://mesh.test/ns/shop/sa/{name}");
            self.witness.got(&id, serial);
        }
    }

    /// The invariants, at each replica.
    pub(super) async fn holds(&self) {
        for replica in self.cas.replicas.iter().flatten() {
            self.witness.holds(replica).await;
        }
    }
}
