# testssl.sh's judgement of the CA's web listener, which by_hand left running, of a mesh listener,
# and of a Gateway's, which curl calls too. What it may still find is named here with its reason; anything else fails.

# docs/conformance.md says why each of these stands. `engine_problem` is of this host's openssl.
tls_accepted='^(cert_chain_of_trust|cert_trust|cert_revocation|cert_expirationStatus|cert_notAfter|cipher_order|engine_problem)$'

tls() {
    claim "testssl.sh finds nothing wrong with the web listener but that its CA is private" \
        judged_by_testssl web "$web_port"
    claim "testssl.sh finds TLS 1.2 and 1.3 at the web listener, and nothing older" \
        offers web TLS1_2 TLS1_3
    start agent in_hand countersign-agent --config agent.toml
    start proxy-orders in_hand countersign-proxy --config proxy-orders.toml
    claim "the mesh listener is back" eventually refuses_strangers
    claim "testssl.sh finds nothing wrong with a mesh listener but that its CA is private" \
        judged_by_testssl mesh "$mesh_port"
    claim "testssl.sh finds TLS 1.3 at a mesh listener, and nothing older" offers mesh TLS1_3
    judge_gateway
    stop proxy-orders
    stop agent
}

judge_gateway() {
    prepare_gateway
    start proxy-gateway in_hand countersign-proxy --config proxy-gateway.toml
    claim "curl believes a Gateway's certificate, and is answered over HTTP/1.1" \
        eventually answered_at_gateway --http1.1 'HTTP/1.1 200'
    claim "curl is answered through a Gateway over HTTP/2" \
        answered_at_gateway --http2 'HTTP/2 200'
    claim "curl asks a Gateway for another host in vain" no_other_host
    claim "explain says of the request what curl was answered" explained_at_gateway
    claim "testssl.sh finds nothing wrong with a Gateway but that its certificate is our own" \
        judged_by_testssl gateway "$gateway_port" localhost secure_renego
    claim "testssl.sh finds TLS 1.2 and 1.3 at a Gateway, and nothing older" \
        offers gateway TLS1_2 TLS1_3
    stop proxy-gateway
}

# The proxy of shop/checkout opens it, with a certificate that curl is told to believe.
prepare_gateway() {
    gateway_port="$(free_port)"
    mkdir "$hand/certificates"
    (umask 077 && cd "$hand/certificates" && openssl req -x509 -nodes -days 90 \
        -newkey ec -pkeyopt ec_paramgen_curve:P-256 -keyout shop.key -out shop.pem -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE \
        -addext keyUsage=critical,digitalSignature -addext extendedKeyUsage=serverAuth) 2>/dev/null
    {
        cat "$hand/proxy-checkout.toml"
        echo "[gateway]"
        echo "certificates = \"$hand/certificates\""
        echo "address = \"127.0.0.1\""
        echo "ports = { 443 = $gateway_port }"
    } >"$hand/proxy-gateway.toml"
    cat >"$hand/gateway.yaml" <<YAML
apiVersion: countersign.dev/v1
kind: Gateway
metadata: {namespace: shop, name: public}
spec:
  workloads: [shop/checkout]
  listeners:
  - name: web
    port: 443
    hosts: [localhost]
    tls: {certificateFile: $hand/certificates/shop.pem, keyFile: $hand/certificates/shop.key}
    routes: [{service: shop/orders, port: http}]
YAML
    operator apply -f gateway.yaml >/dev/null 2>&1
}

at_gateway() {
    fetch -i --cacert "$hand/certificates/shop.pem" --connect-to "::127.0.0.1:$gateway_port" "$@"
}

# answered_at_gateway VERSION STATUS_LINE
answered_at_gateway() {
    at_gateway "$1" https://localhost/ >"$work/answer"
    cat "$work/answer"
    grep -q "^$2" "$work/answer"
    grep -q 'hello from orders' "$work/answer"
}

no_other_host() {
    ! at_gateway https://shop.example/
    ! at_gateway -H 'host: shop.example' --fail https://localhost/
}

explained_at_gateway() {
    operator explain --to https://localhost/ >"$work/answer"
    cat "$work/answer"
    grep -q '^verdict *allow' "$work/answer"
    grep -q '^gateway *Gateway shop/public' "$work/answer"
}

# judged_by_testssl NAME PORT [HOST [FINDING]]: that finding may stand besides.
judged_by_testssl() {
    # Where a certificate is asked for, the refusal may come before its openssl has ended, which it
    # takes for no connection at all, and stops.
    for _ in 1 2 3; do
        rm -f "$work/testssl-$1.json"
        scan "$1" "$2" "${3:-127.0.0.1}"
        grep -q 'Scan interrupted' "$work/testssl-$1.json" || break
    done
    python3 - "$work/testssl-$1.json" "$tls_accepted|^${4:-nothing}\$" <<'PY'
import json, re, sys
findings = json.load(open(sys.argv[1]))
assert len(findings) > 30, findings
wrong = [it for it in findings if it["severity"] in ("LOW", "MEDIUM", "HIGH", "CRITICAL", "WARN", "FATAL")]
wrong = [it for it in wrong if not re.match(sys.argv[2], it["id"].split(" ")[0])]
for it in wrong:
    print("WRONG", it["severity"], it["id"], it["finding"])
sys.exit(bool(wrong))
PY
}

# scan NAME PORT HOST
scan() {
    timeout 300 testssl --quiet --color 0 --warnings batch --nodns none --ip 127.0.0.1 --sneaky \
        --protocols --std --server-preference --fs --server-defaults --vulnerable \
        --jsonfile "$work/testssl-$1.json" "$3:$2" || true
}

# offers NAME VERSION...: exactly these.
offers() {
    local name="$1"
    shift
    python3 - "$work/testssl-$name.json" "$@" <<'PY'
import json, sys
versions = ("SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2", "TLS1_3")
findings = {it["id"]: it["finding"] for it in json.load(open(sys.argv[1])) if it["id"] in versions}
print(findings)
offered = {it for it in versions if findings[it].startswith("offered")}
assert offered == set(sys.argv[2:]), offered
PY
}
