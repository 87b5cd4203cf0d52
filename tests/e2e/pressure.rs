//! Many calls at once, large bodies, slow readers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use mesh_tests::application::FLOOD;
use mesh_tests::caller::{Caller, post, request};
use mesh_tests::shop::{CHECKOUT_MAY_CALL, NOBODY_MAY_CALL, ORDERS, Shop};
use mesh_tests::waiting::{DEADLINE, eventually};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

const CALLERS: usize = 200;
/// How often in a row a number must be the same to count as settled.
const SETTLED: usize = 50;

#[tokio::test]
async fn nothing_forbidden_passes_once_the_change_is_enforced() {
    let shop = Shop::open().await;
    let crowd = Crowd::gather(&shop).await;
    for _ in 0..2 {
        crowd.calls_under(Rule::Allows).await;
        crowd.during(shop.mesh.apply(NOBODY_MAY_CALL)).await;
        crowd.calls_under(Rule::Forbids).await;
        crowd.during(shop.mesh.apply(CHECKOUT_MAY_CALL)).await;
    }
    crowd.disperse().await;
}

#[tokio::test]
async fn a_large_body_arrives_whole_both_ways() {
    let shop = Shop::open().await;
    let words = (0..1_000_000u64).map(|place| place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let body: Bytes = words.flat_map(u64::to_le_bytes).collect();
    for mut caller in [
        shop.checkout.caller().await,
        shop.checkout.h2_caller().await,
    ] {
        let echo = caller.call(post(&format!("{ORDERS}/v1/echo"), body.clone()));
        let answer = timeout(DEADLINE, echo).await.expect("in time");
        assert!(answer.body == body, "{} bytes came back", answer.body.len());
    }
}

#[tokio::test]
async fn a_slow_reader_slows_the_application() {
    let shop = Shop::open().await;
    for mut caller in [
        shop.checkout.caller().await,
        shop.checkout.h2_caller().await,
    ] {
        let before = shop.application.flooded();
        let flood = request(Method::GET, &format!("{ORDERS}/v1/flood"));
        let _unread = caller.start(flood).await;
        let let_go = settled(|| shop.application.flooded()).await - before;
        assert!(let_go < FLOOD / 4, "{let_go} bytes are on their way");
    }
}

#[tokio::test]
async fn a_slow_reader_does_not_hold_up_others() {
    let shop = Shop::open().await;
    let mut caller = shop.checkout.h2_caller().await;
    let flood = request(Method::GET, &format!("{ORDERS}/v1/flood"));
    let mut unread = caller.start(flood).await.into_body();
    unread
        .frame()
        .await
        .expect("it begins")
        .expect("it arrives");
    settled(|| shop.application.flooded()).await;
    let other = shop
        .checkout
        .caller()
        .await
        .get(&format!("{ORDERS}/v1/orders"))
        .await;
    let same = caller.get(&format!("{ORDERS}/v1/orders")).await;
    assert_eq!(
        (other.status, same.status),
        (StatusCode::OK, StatusCode::OK)
    );
}

/// The number, once it no longer changes.
async fn settled(number: impl Fn() -> usize) -> usize {
    let (mut last, mut same) = (number(), 0);
    eventually("the number settles", || {
        let now = number();
        same = if now == last && now > 0 { same + 1 } else { 0 };
        last = now;
        async move { (same > SETTLED).then_some(now) }
    })
    .await
}

/// What holds for a call that begins and ends under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Allows,
    Forbids,
    /// Either may hold.
    Changes,
    Dispersed,
}

/// Callers that call without a pause and check every answer.
struct Crowd {
    rule: watch::Sender<(u32, Rule)>,
    judged: Arc<AtomicUsize>,
    callers: JoinSet<()>,
    _connection: Caller,
}

impl Crowd {
    async fn gather(shop: &Shop) -> Self {
        let (rule, told) = watch::channel((0, Rule::Allows));
        let judged = Arc::<AtomicUsize>::default();
        let connection = shop.checkout.h2_caller().await;
        let mut callers = JoinSet::new();
        for number in 0..CALLERS {
            let caller = match number % 2 {
                0 => shop.checkout.caller().await,
                _ => connection.another(),
            };
            let outbound = shop.checkout.outbound();
            callers.spawn(calls(caller, outbound, told.clone(), Arc::clone(&judged)));
        }
        Self {
            rule,
            judged,
            callers,
            _connection: connection,
        }
    }

    /// Until as many calls as there are callers began and ended under it.
    async fn calls_under(&self, rule: Rule) {
        self.tell(rule);
        let enough = self.judged.load(Ordering::Relaxed) + CALLERS;
        eventually("calls are judged", || async {
            assert!(self.callers.len() == CALLERS, "a caller gave up");
            (self.judged.load(Ordering::Relaxed) >= enough).then_some(())
        })
        .await;
    }

    async fn during<T>(&self, change: impl Future<Output = T>) {
        self.tell(Rule::Changes);
        change.await;
    }

    async fn disperse(mut self) {
        self.tell(Rule::Dispersed);
        while let Some(caller) = self.callers.join_next().await {
            caller.expect("every answer was as it had to be");
        }
    }

    fn tell(&self, rule: Rule) {
        self.rule.send_modify(|told| *told = (told.0 + 1, rule));
    }
}

async fn calls(
    mut caller: Caller,
    outbound: SocketAddr,
    told: watch::Receiver<(u32, Rule)>,
    judged: Arc<AtomicUsize>,
) {
    loop {
        let before = *told.borrow();
        if before.1 == Rule::Dispersed {
            return;
        }
        let answer = caller.try_get(&format!("{ORDERS}/v1/orders")).await;
        let changes = before.1 == Rule::Changes || before != *told.borrow();
        let answer = match answer {
            Ok(answer) => answer,
            // A permission that goes ends the answers that are on their way.
            Err(error) => {
                assert!(changes, "{before:?}: {error}");
                caller = Caller::connect(outbound).await;
                continue;
            }
        };
        let possible: &[StatusCode] = match before.1 {
            _ if before != *told.borrow() => &[StatusCode::OK, StatusCode::FORBIDDEN],
            Rule::Allows => &[StatusCode::OK],
            Rule::Forbids => &[StatusCode::FORBIDDEN],
            Rule::Changes | Rule::Dispersed => &[StatusCode::OK, StatusCode::FORBIDDEN],
        };
        assert!(possible.contains(&answer.status), "{before:?}: {answer:?}");
        judged.fetch_add(1, Ordering::Relaxed);
    }
}
