# testssl.sh's judgement of the CA's web listener, which by_hand left running, and of a mesh
# listener. What it may still find is named here with its reason; anything else fails.

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
    stop proxy-orders
    stop agent
}

# judged_by_testssl NAME PORT
judged_by_testssl() {
    rm -f "$work/testssl-$1.json"
    timeout 300 testssl --quiet --color 0 --warnings batch --nodns none --ip 127.0.0.1 --sneaky \
        --protocols --std --server-preference --fs --server-defaults --vulnerable \
        --jsonfile "$work/testssl-$1.json" "127.0.0.1:$2" || true
    python3 - "$work/testssl-$1.json" "$tls_accepted" <<'PY'
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
