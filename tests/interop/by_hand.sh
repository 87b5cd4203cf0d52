# The four binaries, each from its own file in deploy/local, as deploy/README.md tells it.

hand="$work/hand"

# Free ports in place of the documented ones; the rest of the files is as it is shipped.
prepare_hand_mesh() {
    web_port="$(free_port)" agents_port="$(free_port)" app_port="$(free_port)"
    mesh_port="$(free_port)" outbound_port="$(free_port)"
    mkdir -p "$hand/site"
    echo "hello from orders" >"$hand/site/index.html"
    cp deploy/local/* deploy/examples/policy.yaml "$hand"
    sed -i "s/\buid\(:\| =\) 1000/uid\1 $(id -u)/; s/:8443/:$web_port/; s/:8444/:$agents_port/
        s/:9443/:0/; s/:9464/:0/; s/:1509[01]/:0/; s/= 31006/= $mesh_port/; s/:15001/:$outbound_port/
        s/app: 8080/app: $app_port/" "$hand"/*.toml "$hand"/*.yaml
    admin="$hand/ca/admin.toml"
}

start_ca() {
    start ca in_hand countersign-ca --config ca.toml
    eventually countersign status --admin "$admin"
}

in_hand() { cd "$hand" && exec "$@"; }
operator() { (cd "$hand" && countersign "$@" --admin "$admin"); }

by_hand() {
    prepare_hand_mesh
    claim "the CA starts from its file and answers its operator" start_ca
    claim "check-config accepts each file" check_configs
    operator apply -f shop.yaml >/dev/null 2>&1
    operator join-token create --agent web-1 --workload shop/orders --workload shop/checkout \
        --out join-token >/dev/null 2>&1
    start app python3 -m http.server "$app_port" --bind 127.0.0.1 --directory "$hand/site"
    start agent in_hand countersign-agent --config agent.toml
    start proxy-orders in_hand countersign-proxy --config proxy-orders.toml
    start proxy-checkout in_hand countersign-proxy --config proxy-checkout.toml
    claim "curl through the proxies is denied before there is a policy" eventually answered 403 no-policy
    operator apply -f policy.yaml >/dev/null 2>&1
    claim "curl is answered by Python's server once policy permits it" eventually answered 200 hello
    claim "curl speaks HTTP/2 with prior knowledge through the outbound listener" answered_over_http2
    claim "curl is answered through a tunnel, and out of the mesh none is opened" answered_in_tunnel
    claim "a method that no rule names is denied to the same caller" denied_method
    claim "the mesh listener refuses TLS 1.2 from openssl" refuses_tls12
    claim "the mesh listener refuses openssl without a certificate" refuses_strangers
    claim "a join token admits one agent only" token_is_used_up
    claim "calls go on while the CA is down, and an agent restarts without it" survives_without_ca
    claim "proxies, agent and CA end with 0 on SIGTERM" end_in_order
    claim "the sealed store holds after a restart" restart_ca
}

check_configs() {
    (in_hand countersign-ca --config ca.toml --check-config)
    (in_hand countersign-agent --config agent.toml --check-config)
    (in_hand countersign-proxy --config proxy-orders.toml --check-config)
    (in_hand countersign-proxy --config proxy-checkout.toml --check-config)
}

call() {
    fetch --noproxy '' --proxy "http://127.0.0.1:$outbound_port" \
        -i "$@" http://orders.shop.mesh.internal/
}

# answered STATUS WORD
answered() {
    call >"$work/answer"
    cat "$work/answer"
    grep -q "^HTTP/1.1 $1" "$work/answer" && grep -q "$2" "$work/answer"
}

answered_over_http2() {
    fetch -i --http2-prior-knowledge --connect-to "::127.0.0.1:$outbound_port" \
        http://orders.shop.mesh.internal/ >"$work/answer"
    cat "$work/answer"
    grep -q '^HTTP/2 200' "$work/answer"
    grep -q 'hello from orders' "$work/answer"
}

answered_in_tunnel() {
    local tunnel=(--proxytunnel --proxy "http://127.0.0.1:$outbound_port")
    fetch -i "${tunnel[@]}" http://orders.shop.mesh.internal/ >"$work/answer"
    cat "$work/answer"
    [ "$(grep -c '^HTTP/1.1 200' "$work/answer")" = 2 ]
    grep -q 'hello from orders' "$work/answer"
    ! fetch -i "${tunnel[@]}" http://example.com/ >"$work/answer"
    grep -qi '^countersign-reason: no-route' "$work/answer"
}

denied_method() {
    call -X DELETE >"$work/answer"
    cat "$work/answer"
    grep -q '^HTTP/1.1 403' "$work/answer"
    grep -qi '^countersign-reason: policy-denied' "$work/answer"
    grep -q 'no-rule-matched' "$work/answer"
}

refuses_tls12() {
    if timeout 10 openssl s_client -tls1_2 -connect "127.0.0.1:$mesh_port" </dev/null >"$work/tls" 2>&1; then
        cat "$work/tls"
        return 1
    fi
    cat "$work/tls"
    grep -qi 'alert protocol version' "$work/tls"
}

# In TLS 1.3 the client hears of it when it reads.
refuses_strangers() {
    { printf 'GET / HTTP/1.1\r\nhost: orders\r\n\r\n' && sleep 1; } |
        timeout 10 openssl s_client -tls1_3 -ign_eof -connect "127.0.0.1:$mesh_port" >"$work/tls" 2>&1 || true
    cat "$work/tls"
    grep -qi 'alert certificate required' "$work/tls"
    ! grep -q '^HTTP/' "$work/tls"
}

# An agent waits for another token, which its operator may bring; `run` has nobody to wait for.
token_is_used_up() {
    mkdir "$hand/second"
    cp "$hand/join-token" "$hand/agent.toml" "$hand/second/"
    start second-agent in_hand env -C second countersign-agent --config agent.toml
    eventually grep 'the join token was already used by another key' "$work/second-agent.log"
    fetch --unix-socket "$hand/second/agent/admin.sock" http://agent/status | tee "$work/status"
    grep -q '"identities":\[\]' "$work/status"
    stop second-agent
    refused any 'the join token was already used by another key' "$binaries/countersign" \
        run --log-level error --as shop/checkout --token "$hand/join-token" -- true
}

survives_without_ca() {
    stop ca
    answered 200 hello
    stop agent KILL || true
    start agent in_hand countersign-agent --config agent.toml
    eventually fetch --unix-socket "$hand/agent/admin.sock" http://agent/status
    eventually answered 200 hello
    refused 1 'cannot reach the CA' "$binaries/countersign" status --admin "$admin"
    start_ca
}

end_in_order() {
    local name
    for name in proxy-checkout proxy-orders agent ca; do
        stop "$name" || { echo "$name ended with $?"; return 1; }
    done
}

restart_ca() {
    start_ca
    operator get policy shop/orders
}
