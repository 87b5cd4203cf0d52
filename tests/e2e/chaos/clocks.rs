//! Clocks that are five minutes off, of real processes: Debian's libfaketime moves them.

use mesh_tests::fake_clock::FakeClock;
use mesh_tests::invariants::{Witness, renew};
use mesh_tests::replicas::Replicas;
use mesh_tests::stranger::{Line, join};
use mesh_tests::waiting::eventually;
use runtime::Clock;

use super::hosts::Shop;

const ORDERS: &str = "spiffe://mesh.test/ns/shop/sa/orders";
const OFF: [&str; 2] = ["+300s", "-300s"];

#[tokio::test]
async fn a_replica_whose_clock_is_off_signs_nothing_and_goes_on_when_it_is_right() {
    let Some(clock) = FakeClock::obtain() else {
        return;
    };
    let Some((mesh, mut replicas)) = Replicas::start(1).await else {
        return;
    };
    replicas.remove(0).crash().await;
    let environment = clock.environment();
    let variables: Vec<_> = environment.iter().map(|(a, b)| (&**a, &**b)).collect();
    let ca = mesh.restart(0, &variables).await;
    ca.register("shop", "orders").await;
    let token = ca.join_token("web-7", &["shop/orders"]).await;
    let agent = join(&token, &Clock::system()).await;
    let mut witness = Witness::of(&ca).await;
    let line = Line::mutual(ca.agents_address(), &agent, &Clock::system()).await;
    for offset in OFF {
        clock.set(offset);
        eventually("it is not ready, and says why", || async {
            let refusal = ca.admin().get("/readyz").await.err()?;
            refusal.to_string().contains("clock-off").then_some(())
        })
        .await;
        assert_eq!(renew(&line, &agent, ORDERS).await, None);
        clock.set_right();
        let serial = eventually("it signs again", || renew(&line, &agent, ORDERS));
        witness.got(ORDERS, serial.await);
    }
    witness.holds(&ca).await;
}

#[tokio::test]
async fn a_host_whose_clock_is_off_uses_nothing_out_of_its_time_and_comes_back_when_it_is_right() {
    let Some(clock) = FakeClock::obtain() else {
        return;
    };
    let shop = Shop::open(clock.environment()).await;
    for offset in OFF {
        clock.set(offset);
        shop.calls.fail().await;
        clock.set_right();
        shop.calls.pass_by_the_new_clock().await;
    }
    shop.witness.holds(&shop.ca).await;
}
