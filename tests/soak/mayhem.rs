//! What happens to the mesh, in an order that the seed decides.

use std::sync::Arc;
use std::time::Duration;

use crypto::random::{Random, SeededRandom};
use tokio::time::{Instant, sleep, sleep_until};

use crate::calls::Tally;
use crate::say;
use crate::world::World;

const SHORTEST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(6);
/// At the end nothing happens, so that what is in flight ends by itself.
const QUIET: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
enum Event {
    TakeOver,
    EndpointGoes,
    ProxyKilled,
    OrdersAgentKilled,
    CheckoutAgentKilled,
    CaKilled,
}

const EVENTS: [Event; 6] = [
    Event::TakeOver,
    Event::EndpointGoes,
    Event::ProxyKilled,
    Event::OrdersAgentKilled,
    Event::CheckoutAgentKilled,
    Event::CaKilled,
];

/// Returns the mesh when the time is over.
pub(crate) async fn run(
    mut world: World,
    tally: &Arc<Tally>,
    seed: u64,
    length: Duration,
) -> World {
    let mut random = SeededRandom::new(seed);
    let over = Instant::now() + length;
    loop {
        let pause = SHORTEST_PAUSE + (LONGEST_PAUSE - SHORTEST_PAUSE).mul_f64(random.unit());
        if Instant::now() + pause + QUIET >= over {
            break;
        }
        sleep(pause).await;
        let index = (random.unit() * EVENTS.len() as f64) as usize;
        let event = EVENTS[index.min(EVENTS.len() - 1)];
        say(&format!("{event:?}"));
        happen(&mut world, tally, event).await;
    }
    sleep_until(over).await;
    world
}

async fn happen(world: &mut World, tally: &Tally, event: Event) {
    match event {
        Event::TakeOver => {
            tally.event("takeovers");
            let mut old = world.stays.take_over().await;
            let ended = old.ended().await;
            assert!(ended.success(), "{ended}: {}", old.said());
        }
        Event::EndpointGoes => {
            tally.event("endpoints_gone_and_come");
            world.comes.proxy.ask_to_end();
            let ended = world.comes.proxy.ended().await;
            assert!(ended.success(), "{ended}: {}", world.comes.proxy.said());
            world.comes.start_proxy_again();
            world.comes.ready().await;
        }
        Event::ProxyKilled => {
            tally.event("proxies_killed");
            tally.killing(world.comes.crash_proxy()).await;
            world.comes.ready().await;
        }
        Event::OrdersAgentKilled => {
            tally.event("agents_killed");
            world.stays.crash_agent().await;
        }
        Event::CheckoutAgentKilled => {
            tally.event("agents_killed");
            world.checkout.crash_agent().await;
        }
        Event::CaKilled => {
            tally.event("cas_killed");
            if let Some(ca) = world.ca.take() {
                world.ca = Some(ca.crash_and_restart().await);
            }
        }
    }
}
