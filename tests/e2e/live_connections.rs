//! What policy takes away, it takes from what it once began: requests in flight. Of TCP
//! connections the same is claimed in `tcp`.

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use mesh_tests::caller::request;
use mesh_tests::shop::{NOBODY_MAY_CALL, ORDERS, Shop};
use mesh_tests::waiting::DEADLINE;
use tokio::time::timeout;

#[tokio::test]
async fn a_stream_in_flight_is_reset_when_policy_forbids_it() {
    let shop = Shop::open().await;
    let mut caller = shop.checkout.caller().await;
    let stream = caller
        .start(request(Method::GET, &format!("{ORDERS}/stream")))
        .await;
    assert_eq!(stream.status(), StatusCode::OK);
    let mut body = stream.into_body();
    body.frame()
        .await
        .expect("a first chunk")
        .expect("it arrives");
    shop.mesh.apply(NOBODY_MAY_CALL).await;
    let ended = timeout(DEADLINE, async {
        while let Some(Ok(_)) = body.frame().await {}
    })
    .await;
    ended.expect("the stream ends");
}

#[tokio::test]
async fn a_stream_in_flight_outlives_a_change_that_still_allows_it() {
    let shop = Shop::open().await;
    let mut caller = shop.checkout.caller().await;
    let mut body = caller
        .start(request(Method::GET, &format!("{ORDERS}/stream")))
        .await
        .into_body();
    let unrelated = NOBODY_MAY_CALL.replace("orders", "ledger");
    shop.mesh.apply(&format!("{LEDGER}---{unrelated}")).await;
    for _ in 0..3 {
        body.frame()
            .await
            .expect("the stream goes on")
            .expect("it is not reset");
    }
}

const LEDGER: &str = r#"
apiVersion: countersign.dev/v1
kind: Service
metadata: {namespace: shop, name: ledger}
spec:
  workloads: [shop/orders]
  ports: [{name: http, port: 80, protocol: http, app: 8081}]
"#;
