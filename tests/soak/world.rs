//! The mesh: a CA, a workload on two hosts, and a caller on a third.

use std::net::SocketAddr;

use cli::admin::{AdminFile, Client};
use mesh_tests::application::Application;
use mesh_tests::host::Host;
use mesh_tests::operator::CaProcess;
use mesh_tests::shop::{ORDERS, SERVICE};
use mesh_tests::waiting::eventually;
use runtime::Clock;

use crate::calls::Line;
use crate::changes::policy;

/// Leaves that are renewed every ten seconds.
const LIFETIMES: &str = "agent = \"20s\"\nworkload = \"20s\"\nback_date = \"2s\"\n";

pub(crate) struct World {
    /// Emptied only while the CA restarts.
    pub(crate) ca: Option<CaProcess>,
    /// Its proxy is taken over, never killed.
    pub(crate) stays: Host,
    /// Comes and goes.
    pub(crate) comes: Host,
    pub(crate) checkout: Host,
    _application: Application,
}

impl World {
    pub(crate) async fn start() -> Self {
        let ca = CaProcess::start_with(LIFETIMES).await;
        ca.register("shop", "orders").await;
        ca.register("shop", "checkout").await;
        for objects in [SERVICE, &policy(true)] {
            ca.try_apply(objects).await.expect("valid objects");
        }
        let application = Application::http().await;
        let at = Some(application.address());
        let world = Self {
            stays: Host::start(&ca, "orders-1", "shop/orders", at).await,
            comes: Host::start(&ca, "orders-2", "shop/orders", at).await,
            checkout: Host::start(&ca, "checkout-1", "shop/checkout", None).await,
            ca: Some(ca),
            _application: application,
        };
        eventually("a call passes", || async {
            let answer = Line::new(world.outbound())
                .get(&format!("{ORDERS}/v1/orders"))
                .await;
            answer
                .is_ok_and(|(status, _)| status.is_success())
                .then_some(())
        })
        .await;
        world
    }

    pub(crate) fn outbound(&self) -> SocketAddr {
        self.checkout.outbound
    }

    /// An operator, who outlives the CA's process.
    pub(crate) fn operator(&self) -> Client {
        let ca = self.ca.as_ref().expect("it runs");
        let clock = Clock::system();
        let file = AdminFile::load(&ca.directory().join("admin.toml"), clock.now());
        Client::new(file.expect("the CA wrote it"), clock)
    }
}
