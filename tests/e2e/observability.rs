//! What is told of a call: metrics, traces, taps, and one word for each failure.

use std::fs;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use mesh_tests::caller::request;
use mesh_tests::collector::{Collector, attribute};
use mesh_tests::mesh::DRAIN;
use mesh_tests::outside::Authority;
use mesh_tests::shop::{ORDERS, Shop};
use mesh_tests::waiting::{DEADLINE, eventually};
use mesh_tests::workload::Workload;
use proxy::config::Tracing;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
const CALLER_SPAN: u64 = 0x00f0_67aa_0ba9_02b7;

#[tokio::test]
async fn a_trace_context_that_cannot_be_read_does_not_arrive() {
    let collector = Collector::start().await;
    let shop = Shop::open_traced(Tracing::to(&collector.endpoint())).await;
    let mut call = request(Method::GET, &format!("{ORDERS}/v1/orders"));
    let invalid = HeaderValue::from_static("00-nonsense-01");
    call.headers_mut().insert("traceparent", invalid);
    let seen = shop.checkout.caller().await.call(call).await.seen();
    assert_eq!(seen.header("traceparent"), None);
}

#[tokio::test]
async fn a_collector_that_is_away_holds_up_no_call_and_no_end() {
    let tracing = Tracing {
        ratio: 1.0,
        ..Tracing::to("http://127.0.0.1:1")
    };
    let shop = Shop::open_traced(tracing).await;
    let url = format!("{ORDERS}/v1/orders");
    let answer = shop.checkout.caller().await.get(&url).await;
    assert_eq!(answer.status, StatusCode::OK);
    let ended = timeout(DEADLINE, shop.checkout.proxy.drain(DRAIN)).await;
    ended.expect("in time").expect("in order");
}

#[tokio::test]
async fn spans_go_to_a_collector_that_proves_its_name_and_to_no_other() {
    let folder = tempfile::tempdir().expect("a directory");
    let (known, stranger) = (Authority::new(), Authority::new());
    for (authority, name) in [(&known, "known.pem"), (&stranger, "stranger.pem")] {
        fs::write(folder.path().join(name), authority.root()).expect("writable");
    }
    let collector = Collector::start_secure(&known).await;
    let believing = |name| Tracing {
        roots: Some(folder.path().join(name)),
        ..Tracing::to(&collector.secure_endpoint())
    };
    let shop = Shop::open_traced(believing("stranger.pem")).await;
    let call = || traced(request(Method::GET, &format!("{ORDERS}/v1/orders")), TRACE);
    shop.checkout.caller().await.call(call()).await.seen();
    shop.checkout.proxy.drain(DRAIN).await.expect("in order");
    assert_eq!(collector.received(), 0);
    let shop = Shop::open_traced(believing("known.pem")).await;
    shop.checkout.caller().await.call(call()).await.seen();
    collector.spans(&TRACE.to_be_bytes(), 2).await;
}

#[tokio::test]
async fn both_hops_of_a_sampled_call_are_spans_of_one_trace() {
    let collector = Collector::start().await;
    let shop = Shop::open_traced(Tracing::to(&collector.endpoint())).await;
    let call = traced(request(Method::GET, &format!("{ORDERS}/v1/orders")), TRACE);
    let seen = shop.checkout.caller().await.call(call).await.seen();

    let spans = collector.spans(&TRACE.to_be_bytes(), 2).await;

    let of = |direction: &str| {
        let is = |name| attribute(name, "countersign.direction").as_deref() == Some(direction);
        spans.iter().find(|span| is(span)).expect("a span")
    };
    let (client, server) = (of("outbound"), of("inbound"));
    assert_eq!(client.parent_span_id, CALLER_SPAN.to_be_bytes());
    assert_eq!(server.parent_span_id, client.span_id);
    let hex: String = server
        .span_id
        .iter()
        .map(|it| format!("{it:02x}"))
        .collect();
    assert_eq!(
        seen.header("traceparent"),
        Some(format!("00-{TRACE:032x}-{hex}-01").as_str())
    );
    assert_eq!(seen.header("tracestate"), Some("vendor=1"));
}

#[tokio::test]
async fn a_failure_has_one_word_in_header_record_metric_tap_and_span() {
    let collector = Collector::start().await;
    let shop = Shop::open_traced(Tracing::to(&collector.endpoint())).await;
    shop.mesh.workload("shop/intruder").register().await;
    shop.mesh.try_apply(GHOST).await.expect("a valid service");
    let orders = |path: &str| request(Method::GET, &format!("{ORDERS}{path}"));
    let upgrade = {
        let mut upgrade = orders("/v1/orders");
        let fields = upgrade.headers_mut();
        fields.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        fields.insert(header::UPGRADE, HeaderValue::from_static("HTTP/2.0"));
        upgrade
    };
    let provoked = [
        ("policy-denied", orders("/admin")),
        ("path-ambiguous", orders("/v1//orders")),
        ("no-route", request(Method::GET, "http://example.com/")),
        (
            "no-endpoints",
            request(Method::GET, "http://ghost.shop.mesh.internal/"),
        ),
        (
            "connect-failed",
            request(Method::GET, "http://gone.shop.mesh.internal/"),
        ),
        ("upgrade-refused", upgrade),
    ];
    for (at, (word, call)) in (1..).zip(provoked) {
        let mut tap = Tap::open(&shop.checkout, &format!("reason={word}")).await;
        let mut records = shop.checkout.proxy.calls();
        let answer = shop
            .checkout
            .caller()
            .await
            .call(traced(call, TRACE + at))
            .await;
        let record = timeout(DEADLINE, records.recv()).await.expect("in time");
        let record = record.expect("a record");

        assert_eq!(answer.reason(), Some(word), "{answer:?}");
        assert_eq!(record.reason.map(proxy::Reason::code), Some(word));
        assert_eq!(tap.call().await["error.type"], word);
        let metrics = shop.checkout.metrics().await;
        assert!(metrics.contains(&format!("reason=\"{word}\"")), "{metrics}");
        let spans = collector.spans(&(TRACE + at).to_be_bytes(), 1).await;
        for span in spans {
            assert_eq!(attribute(&span, "error.type").as_deref(), Some(word));
        }
    }
}

#[tokio::test]
async fn one_tap_too_many_is_refused() {
    let shop = Shop::open().await;
    let mut taps = Vec::new();
    for _ in 0..16 {
        taps.push(Tap::open(&shop.orders, "").await);
    }
    assert_eq!(Tap::try_open(&shop.orders, "").await.err(), Some(429));
    assert_eq!(
        Tap::try_open(&shop.orders, "verdict=maybe").await.err(),
        Some(400)
    );
}

#[tokio::test]
async fn an_open_tap_does_not_hold_up_the_end() {
    let shop = Shop::open().await;
    let mut tap = Tap::open(&shop.orders, "").await;
    let ended = timeout(DEADLINE, shop.orders.proxy.drain(DRAIN)).await;
    ended.expect("in time").expect("in order");
    tap.ended().await;
}

#[tokio::test]
async fn calls_are_counted_by_who_called_whom() {
    let shop = Shop::open().await;
    let mut caller = shop.checkout.caller().await;
    for _ in 0..3 {
        caller.get(&format!("{ORDERS}/v1/orders")).await;
    }
    let labels = "direction=\"inbound\",source=\"spiffe://mesh.test/ns/shop/sa/checkout\",\
                  target=\"shop/orders:http\",protocol=\"http/2\"";
    let counted = format!(
        "countersign_proxy_calls_total{{{labels},verdict=\"allowed\",reason=\"\",status_class=\"2xx\"}} 3\n"
    );
    let timed = format!("countersign_proxy_call_duration_seconds_count{{{labels}}} 3\n");
    eventually("both are told", || async {
        let text = shop.orders.metrics().await;
        (text.contains(&counted) && text.contains(&timed)).then_some(())
    })
    .await;
}

/// `ghost` has no endpoint, and where `gone` should be nobody listens.
const GHOST: &str = r#"
apiVersion: countersign.dev/v1
kind: Service
metadata: {namespace: shop, name: ghost}
spec:
  workloads: [shop/intruder]
  ports: [{name: web, port: 80, protocol: http, app: 1}]
---
apiVersion: countersign.dev/v1
kind: Service
metadata: {namespace: shop, name: gone}
spec:
  workloads: [shop/intruder]
  ports: [{name: web, port: 80, protocol: http, app: 1}]
  endpoints: [{address: 127.0.0.1, ports: {web: 1}}]
"#;

fn traced(mut call: Request<Full<Bytes>>, trace: u128) -> Request<Full<Bytes>> {
    let parent = format!("00-{trace:032x}-{CALLER_SPAN:016x}-01");
    let parent = HeaderValue::try_from(parent).expect("digits");
    call.headers_mut().insert("traceparent", parent);
    let state = HeaderValue::from_static("vendor=1");
    call.headers_mut().insert("tracestate", state);
    call
}

/// An open tap of a proxy's administration socket.
struct Tap {
    stream: BufReader<UnixStream>,
}

impl Tap {
    async fn open(workload: &Workload, filter: &str) -> Self {
        let opened = Self::try_open(workload, filter).await;
        opened.unwrap_or_else(|status| panic!("refused: {status}"))
    }

    /// # Errors
    /// The status of the refusal.
    async fn try_open(workload: &Workload, filter: &str) -> Result<Self, u16> {
        let path = workload.proxy_config.listen.admin_socket.as_ref();
        let stream = UnixStream::connect(path.expect("configured")).await;
        let mut stream = BufReader::new(stream.expect("reachable"));
        let request = format!("GET /calls?{filter} HTTP/1.1\r\nhost: a\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = stream.read_line(&mut head).await.expect("a head");
            assert_ne!(read, 0, "ended within the head: {head}");
        }
        match head.get(9..12).and_then(|it| it.parse().ok()) {
            Some(200) => Ok(Self { stream }),
            status => Err(status.expect("a status")),
        }
    }

    /// The next call; the lines of chunked framing are no JSON objects.
    async fn call(&mut self) -> Value {
        let next = async {
            loop {
                let mut line = String::new();
                let read = self.stream.read_line(&mut line).await.expect("readable");
                assert_ne!(read, 0, "the tap ended");
                if line.starts_with('{') {
                    return serde_json::from_str(&line).expect("a whole line of JSON");
                }
            }
        };
        timeout(DEADLINE, next).await.expect("a call in time")
    }

    async fn ended(&mut self) {
        let mut rest = Vec::new();
        let end = timeout(DEADLINE, self.stream.read_to_end(&mut rest)).await;
        end.expect("in time").expect("in order");
    }
}
