//! Hosts that sleep, and a mesh that was off: everything has expired, and comes back by itself.

use std::time::Duration;

use mesh_tests::application::Application;
use mesh_tests::host::Host;
use mesh_tests::invariants::{Calls, Witness};
use mesh_tests::operator::CaProcess;
use mesh_tests::shop::{CHECKOUT_MAY_CALL, SERVICE};
use mesh_tests::stranger::{Joined, join};
use runtime::Clock;

const LIFETIMES: &str = "agent = \"4s\"\nworkload = \"4s\"\nmargin = \"1s\"";
/// From the moment that everything runs again: the longest pause between two attempts of an agent
/// (15 s), and what it then does.
const RECOVERY: Duration = Duration::from_secs(20);

/// A shop of real processes, and a certificate that will end like all others.
pub(super) struct Shop {
    pub(super) ca: CaProcess,
    pub(super) orders: Host,
    pub(super) checkout: Host,
    pub(super) calls: Calls,
    pub(super) witness: Witness,
    _application: Application,
}

impl Shop {
    /// With these variables in the environment of the host of `shop/checkout`.
    pub(super) async fn open(environment: Vec<(String, String)>) -> Self {
        let ca = CaProcess::start_with(LIFETIMES).await;
        for name in ["orders", "checkout"] {
            ca.register("shop", name).await;
        }
        for objects in [SERVICE, CHECKOUT_MAY_CALL] {
            ca.try_apply(objects).await.expect("valid objects");
        }
        let application = Application::http().await;
        let at = Some(application.address());
        let orders = Host::start(&ca, "orders-1", "shop/orders", at).await;
        let place = ("checkout-1", "shop/checkout", None);
        let checkout = Host::start_among(&ca, place, "", environment).await;
        let calls = Calls::through(checkout.outbound);
        calls.pass().await;
        let mut witness = Witness::of(&ca).await;
        witness.expired(&short_lived(&ca).await.svid);
        Self {
            ca,
            orders,
            checkout,
            calls,
            witness,
            _application: application,
        }
    }
}

/// An agent that will not renew.
async fn short_lived(ca: &CaProcess) -> Joined {
    let token = ca.join_token("short-lived", &[]).await;
    join(&token, &Clock::system()).await
}

#[tokio::test]
async fn an_agent_that_was_suspended_past_its_expiry_goes_on_when_it_wakes() {
    let shop = Shop::open(Vec::new()).await;
    shop.checkout.agent.suspend();
    shop.calls.fail().await;
    shop.checkout.agent.resume();
    let recovered = Calls::through(shop.checkout.outbound);
    recovered.pass().await;
    recovered.never_failed_longer_than(RECOVERY);
    shop.witness.holds(&shop.ca).await;
}

#[tokio::test]
async fn a_mesh_that_was_off_until_everything_had_expired_starts_by_itself() {
    let Shop {
        ca,
        mut orders,
        mut checkout,
        calls,
        witness,
        _application,
    } = Shop::open(Vec::new()).await;
    let (config, directory) = (ca.config().to_owned(), ca.crash().await);
    calls.fail().await;
    drop(calls);
    for host in [&mut orders, &mut checkout] {
        host.stop_agent().await;
        host.proxy.kill_now().await;
    }
    let ca = CaProcess::restart_in(directory, &config).await;
    for host in [&mut orders, &mut checkout] {
        host.start_agent_again();
        host.start_proxy_again();
    }
    let calls = Calls::through(checkout.outbound);
    calls.pass().await;
    calls.never_failed_longer_than(RECOVERY);
    witness.holds(&ca).await;
}
