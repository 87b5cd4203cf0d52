# Spans of a call through two proxies, as OpenTelemetry's own messages and gRPC's own server for
# Python read them. `./dev interop` installs both; without them the claims are skipped, and say so.

collector_python="${CARGO_TARGET_DIR:-target}/interop-python/bin/python"

traces() {
    if ! "$collector_python" -c 'import grpc, opentelemetry.proto' 2>/dev/null; then
        echo "SKIPPED: no OTLP receiver (PyPI grpcio and opentelemetry-proto) in $collector_python"
        [ -z "${CI:-}" ] || failed=$((failed + 1))
        return 0
    fi
    collector_port="$(free_port)"
    local name
    for name in orders checkout; do
        {
            cat "$hand/proxy-$name.toml"
            echo "[tracing]"
            echo "endpoint = \"http://127.0.0.1:$collector_port\""
            echo "ratio = 1.0"
        } >"$hand/proxy-$name-traced.toml"
    done
    start collector "$collector_python" tests/interop/collector.py "$collector_port"
    start agent in_hand countersign-agent --config agent.toml
    start proxy-orders in_hand countersign-proxy --config proxy-orders-traced.toml
    start proxy-checkout in_hand countersign-proxy --config proxy-checkout-traced.toml
    claim "curl is answered through proxies that trace" eventually answered 200 hello
    claim "OpenTelemetry reads a call as one trace: a client's span, and a server's below it" \
        eventually one_trace
    stop proxy-checkout
    stop proxy-orders
    stop agent
    stop collector || true
}

one_trace() {
    python3 - "$work/collector.log" <<'PY'
import json, sys
spans = [json.loads(line) for line in open(sys.argv[1]) if line.startswith("{")]
well = [it for it in spans if it["attributes"].get("http.response.status_code") == 200]
servers = [it for it in well if it["kind"] == "SPAN_KIND_SERVER"]
assert servers, spans
for server in servers:
    clients = [it for it in well if it["span"] == server["parent"]]
    assert len(clients) == 1, spans
    client = clients[0]
    assert client["kind"] == "SPAN_KIND_CLIENT" and client["trace"] == server["trace"]
    assert not client["parent"], "the call came without a context"
    assert len(server["trace"]) == 32 and len(server["span"]) == 16
    assert client["nanos"] >= server["nanos"] > 0
    for span in (client, server):
        said = span["attributes"]
        assert span["status"] == "STATUS_CODE_UNSET" and span["service"], span
        assert said["http.request.method"] == "GET" and said["url.path"] == "/", span
        assert said["countersign.target"] == "shop/orders:http", span
        assert said["countersign.source"].endswith("/ns/shop/sa/checkout"), span
        assert said["countersign.verdict"] == "allowed", span
PY
}
