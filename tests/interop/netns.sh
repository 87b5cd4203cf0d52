# Transparent mode: programs that know of no proxy, in two network namespaces joined by one cable.
# `checkout` is in the one, `orders` in the other; CA and agent are outside of both, and reached
# over Unix sockets.

net="$work/net"
caller="cs$$-c"
server="cs$$-o"
proxy_uid=64001
app_uid=64002

# The kernel must let a namespace redirect. CI skips nothing.
can_redirect() {
    [ "$(id -u)" = 0 ] && ip netns add "$caller" && ip netns add "$server" &&
        ip netns exec "$caller" nft -f - <<'NFT' && ip netns exec "$caller" nft flush ruleset
table inet probe {
    chain probe { type nat hook output priority -100; tcp dport 9 redirect to :9; }
}
NFT
}

transparent() {
    if ! can_redirect >"$work/netns.log" 2>&1; then
        remove_namespaces
        if [ -n "${CI:-}" ]; then
            failed=$((failed + 1))
            echo "FAIL  network namespaces and NAT are needed, and CI skips nothing"
            cat "$work/netns.log"
        else
            echo "SKIPPED: transparent mode needs root, network namespaces and a kernel with NAT"
            cat "$work/netns.log"
        fi
        return
    fi
    lay_cable
    prepare_transparent_mesh
    start_transparent_mesh
    claim "the rules are shown without being installed" dry_run_changes_nothing
    claim "without the right to change the network nothing is installed" needs_the_right
    claim "an application on every address is BYPASSABLE before the redirect" eventually bypassable
    claim "installing twice leaves one set of rules" install_redirects
    claim "an application behind the redirect is not BYPASSABLE" eventually not_bypassable
    claim "dig and getent find the addresses of a service, and no name of a missing one" names_resolve
    transparent_calls
    ip -n "$server" link set "${server}v" down
    claim "the cable cut, a call fails with the reason" fails_with_a_reason
    join_cable
    claim "the cable joined again, calls are answered" eventually answered_again
    claim "removing leaves the rules of others as they were" remove_redirects
    claim "without the redirect the application is BYPASSABLE again" eventually bypassable
    claim "iptables does it too" install_redirects --backend iptables
    transparent_calls
    claim "removing takes every chain of ours from iptables" remove_iptables
    for name in net-checkout net-orders net-agent net-ca; do
        claim "$name ends with 0 on SIGTERM" stop "$name"
    done
    remove_namespaces
}

transparent_calls() {
    claim "curl by name, without a proxy setting, is answered through the mesh" by_name -4
    claim "and over IPv6" by_name -6
    claim "a call that policy does not permit is refused with the reason" forbidden
    claim "a Host that names another service than the address is refused" other_host
    claim "an address of no service is refused" not_of_the_mesh
    claim "a host outside is reached by plain HTTP, wherever it is said to be" leads_out
    claim "a user who may not call is refused" other_user
    claim "a tcp service is reached by its name and by its address" tcp_service
    claim "plaintext to the application's port is refused with the reason" plaintext "10.77.0.2"
    claim "and over IPv6" plaintext "[fd77::2]"
    claim "plaintext to a tcp application is cut off" plaintext_tcp
    claim "who connects to the redirect ports themselves is refused" no_circles
}

lay_cable() {
    local space
    ip link add "${caller}v" netns "$caller" type veth peer name "${server}v" netns "$server"
    for space in "$caller" "$server"; do
        ip -n "$space" link set lo up
        # At once, without waiting whether somebody else has the address.
        ip netns exec "$space" sysctl -q -w net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 \
            "net.ipv6.conf.${space}v.accept_dad=0"
    done
    address "$caller" 1 2
    address "$server" 2 1
}

# address NAMESPACE OWN OTHER
address() {
    ip -n "$1" link set "${1}v" up
    ip -n "$1" address add "10.77.0.$2/24" dev "${1}v"
    ip -n "$1" address add "fd77::$2/64" dev "${1}v" nodad
    routes "$1" "$3"
}

# A cable that goes down takes its routes with it.
routes() {
    ip -n "$1" route replace default via "10.77.0.$2"
    ip -n "$1" -6 route replace default via "fd77::$2"
}

remove_namespaces() {
    ip netns delete "$caller" 2>/dev/null || true
    ip netns delete "$server" 2>/dev/null || true
}

prepare_transparent_mesh() {
    chmod 711 "$work"
    mkdir -p "$net/site"
    chmod 755 "$net" "$net/site"
    echo "hello from orders" >"$net/site/index.html"
    echo "nameserver 10.77.0.2" >"$net/resolv.conf"
    local web agents
    web="$(free_port)" agents="$(free_port)"
    sed "s/:8443/:$web/; s/:8444/:$agents/; s/:9443/:0/" deploy/local/ca.toml >"$net/ca.toml"
    sed "s/:9464/:0/; s/uid = 1000/uid = $proxy_uid/" deploy/local/agent.toml >"$net/agent.toml"
    for name in orders checkout; do
        cat >"$net/proxy-$name.toml" <<TOML
workload = "shop/$name"
feed = "feed.sock"
[transparent]
outbound = ["127.0.0.1:15001", "[::1]:15001"]
inbound = ["[::]:15006"]
allowed_uids = [$app_uid]
[dns]
listen = ["127.0.0.1:15053", "[::1]:15053"]
[listen]
admin_socket = "$net/run/$name/admin.sock"
[access_log]
format = "text"
[limits]
connect = "1s"
idle = "4s"
[external]
roots = "$net/outside"
allow = ["127.0.0.0/8", "::1"]
[mesh]
address = "::"
advertise = "$([ "$name" = orders ] && echo 10.77.0.2 || echo 10.77.0.1)"
TOML
    done
    printf 'ports = { "shop/orders:http" = 31006, "shop/ledger:lines" = 31007 }\n' >>"$net/proxy-orders.toml"
    mkdir "$net/run"
    install -d -o "$proxy_uid" "$net/run/orders" "$net/run/checkout"
    prepare_outside
    transparent_objects >"$net/mesh.yaml"
    net_admin="$net/ca/admin.toml"
}

# A host outside, vouched for by itself. It is the caller's own loopback, which is never redirected.
prepare_outside() {
    mkdir "$net/outside"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=outside \
        -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE -keyout "$net/outside.key" -out "$net/outside/roots.pem" 2>/dev/null
    cat >"$net/external.yaml" <<YAML
apiVersion: countersign.dev/v1
kind: External
metadata: {namespace: shop, name: outside}
spec:
  hosts: [localhost]
  port: 8443
  tls: {mode: originate, roots: {file: $net/outside/roots.pem}}
  from: [{workload: shop/checkout}]
YAML
}

transparent_objects() {
    local name
    for name in orders checkout; do
        printf -- '---\napiVersion: countersign.dev/v1\nkind: Workload\nmetadata: {namespace: shop, name: %s}\nspec: {selectors: {unix: {uid: %s}}}\n' \
            "$name" "$app_uid"
    done
    cat <<'YAML'
---
apiVersion: countersign.dev/v1
kind: Service
metadata: {namespace: shop, name: orders}
spec:
  workloads: [shop/orders]
  ports: [{name: http, port: 80, protocol: http, app: 8080}]
---
apiVersion: countersign.dev/v1
kind: Service
metadata: {namespace: shop, name: ledger}
spec:
  workloads: [shop/orders]
  ports: [{name: lines, port: 5432, protocol: tcp, app: 5433}]
---
apiVersion: countersign.dev/v1
kind: Policy
metadata: {namespace: shop, name: ledger}
spec:
  targets: [{service: ledger, port: lines}]
  allow: [{id: app, from: [{workload: shop/checkout}]}]
---
YAML
    cat deploy/examples/policy.yaml
}

# Where there is none when a proxy starts, its sandbox will not let it look later.
prepare_record() { install -d -m 755 /run/countersign-redirect; }

in_net() { cd "$net" && exec "$@"; }

start_transparent_mesh() {
    prepare_record
    start net-ca in_net countersign-ca --config ca.toml
    claim "the CA of the two namespaces starts" eventually countersign status --admin "$net_admin"
    (in_net countersign apply -f mesh.yaml --admin "$net_admin") >/dev/null
    (in_net countersign join-token create --agent web-1 --workload shop/orders \
        --workload shop/checkout --out join-token --admin "$net_admin") >/dev/null
    start net-app ip netns exec "$server" python3 -m http.server 8080 --bind :: --directory "$net/site"
    start net-outside ip netns exec "$caller" python3 tests/interop/https.py 8443 \
        "$net/outside/roots.pem" "$net/outside.key" "$net/site"
    start net-lines ip netns exec "$server" python3 tests/interop/lines.py 5433
    start net-agent in_net countersign-agent --config agent.toml
    eventually test -S "$net/feed.sock"
    local space
    for name in orders checkout; do
        [ "$name" = orders ] && space="$server" || space="$caller"
        # The group may use the agent's socket; the uid is the proxy's alone.
        start "net-$name" in_net ip netns exec "$space" setpriv --reuid "$proxy_uid" --regid 0 \
            --clear-groups countersign-proxy --config "proxy-$name.toml"
        claim "the proxy of $name is ready" ready "$name"
    done
}

ready() { eventually proxy_says "$1" '"ready":true' || { cat "$work/net-$1.log"; return 1; }; }

# proxy_says NAME TEXT
proxy_says() {
    fetch --unix-socket "$net/run/$1/admin.sock" http://proxy/status >"$work/net-status"
    cat "$work/net-status"
    tr -d ' \n' <"$work/net-status" | grep -q "$2"
}

# From the network: whether others of this host reach it too is another question.
bypassable() { proxy_says orders '"reach":"network"'; }
not_bypassable() { ! bypassable; }

# redirect NAME ARGUMENTS...: installs in the namespace of that proxy.
redirect() {
    local name="$1" space="$caller" ports=(--port 9999)
    shift
    [ "$name" = orders ] && space="$server" && ports=(--port 8080 --port 5433)
    countersign redirect install --config "$net/proxy-$name.toml" --proxy-user "$proxy_uid" \
        --exempt-user 0 "${ports[@]}" --netns "$space" "$@"
}

rules() { ip netns exec "$1" nft list ruleset; }

dry_run_changes_nothing() {
    redirect orders --backend nft --dry-run | tee "$work/dry"
    grep -q 'tcp dport { 5433, 8080 } redirect to :15006' "$work/dry"
    [ -z "$(rules "$server")" ]
}

needs_the_right() {
    refused any 'CAP_NET_ADMIN' setpriv --bounding-set=-net_admin --inh-caps=-net_admin \
        "$binaries/countersign" redirect install --netns "$server" \
        --config "$net/proxy-orders.toml" --proxy-user "$proxy_uid" --port 8080
    [ -z "$(rules "$server")" ]
}

install_redirects() {
    # Somebody else's rules are there first.
    ip netns exec "$server" nft add table inet others
    ip netns exec "$server" nft add chain inet others kept
    local before once
    before="$(rules "$server")"
    [ -s "$work/rules.before" ] || echo "$before" >"$work/rules.before"
    redirect orders "$@"
    redirect checkout "$@"
    once="$(rules "$server" | sed 's/packets [0-9]* bytes [0-9]*//')"
    redirect orders "$@"
    [ "$once" = "$(rules "$server" | sed 's/packets [0-9]* bytes [0-9]*//')" ]
    countersign redirect status --netns "$server"
}

remove_redirects() {
    countersign redirect remove --netns "$server"
    countersign redirect remove --netns "$caller"
    countersign redirect remove --netns "$caller"
    diff "$work/rules.before" <(rules "$server")
    ! countersign redirect status --netns "$server"
}

remove_iptables() {
    countersign redirect remove --netns "$server"
    countersign redirect remove --netns "$caller"
    ! ip netns exec "$server" iptables-save | grep COUNTERSIGN
    ! ip netns exec "$server" ip6tables-save | grep COUNTERSIGN
    ip netns exec "$server" nft list table inet others
}

# in_caller COMMAND...: as the application, with a resolver that is nobody's.
in_caller() {
    ip netns exec "$caller" unshare -m bash -c \
        'mount --bind "$1" /etc/resolv.conf && exec setpriv --reuid "$2" --regid "$2" --clear-groups "${@:3}"' \
        in_caller "$net/resolv.conf" "$app_uid" "$@"
}

lookup() { in_caller dig +time=5 +tries=1 "$@"; }

names_resolve() {
    lookup +short orders.shop.mesh.internal A | tee "$work/a"
    grep -Eq '^24[0-9]\.' "$work/a"
    lookup +short +tcp orders.shop.mesh.internal AAAA | tee "$work/aaaa"
    grep -q '^fd' "$work/aaaa"
    lookup orders.shop.mesh.internal TXT | tee "$work/txt"
    grep -q 'status: NOERROR' "$work/txt" && grep -q 'ANSWER: 0' "$work/txt"
    lookup gone.shop.mesh.internal A | tee "$work/gone"
    grep -q 'status: NXDOMAIN' "$work/gone"
    lookup example.com A | tee "$work/other"
    grep -q 'status: REFUSED' "$work/other"
    in_caller getent ahosts orders.shop.mesh.internal | tee "$work/getent"
    grep -q '^fd' "$work/getent" && grep -q '^24' "$work/getent"
}

# mesh_call ARGUMENTS...: to $work/answer.
mesh_call() {
    in_caller curl -sS --noproxy '*' --max-time 10 -i "$@" >"$work/answer"
    cat "$work/answer"
}

by_name() {
    eventually mesh_call "$1" http://orders.shop.mesh.internal/
    # Shown if it is not what was expected.
    cat "$work/answer"
    grep -q '^HTTP/1.1 200' "$work/answer"
    grep -q 'hello from orders' "$work/answer"
}

forbidden() {
    mesh_call -X DELETE http://orders.shop.mesh.internal/
    grep -q '^HTTP/1.1 403' "$work/answer"
    grep -qi '^countersign-reason: policy-denied' "$work/answer"
}

other_host() {
    mesh_call -H 'Host: ledger.shop.mesh.internal' http://orders.shop.mesh.internal/
    grep -q '^HTTP/1.1 502' "$work/answer"
    grep -qi '^countersign-reason: no-route' "$work/answer"
}

# proxy_logged NAME PATTERN
proxy_logged() { grep -Eq -- "$2" "$work/net-$1.log"; }

not_of_the_mesh() {
    closed http://10.77.0.2:8080/
    eventually proxy_logged checkout 'no-route'
}

leads_out() {
    countersign apply -f "$net/external.yaml" --admin "$net_admin"
    eventually outside_answers
    grep -q 'hello from orders' "$work/answer"
    # Another Host leads nowhere, and TLS of the program's own is closed at once.
    mesh_call -H 'Host: example.com' http://10.77.0.2/
    grep -q '^HTTP/1.1 502' "$work/answer"
    closed -k https://10.77.0.2/
    countersign delete external shop/outside --admin "$net_admin"
    eventually outside_answers_no_more
}

outside_answers() { mesh_call -H 'Host: localhost' http://10.77.0.2/ && grep -q '^HTTP/1.1 200' "$work/answer"; }

outside_answers_no_more() { closed -H 'Host: localhost' http://10.77.0.2/; }

# closed ARGUMENTS...: whether curl gets no answer at all.
closed() {
    if in_caller curl -sS --noproxy '*' --max-time 10 -o /dev/null "$@"; then
        return 1
    fi
}

other_user() {
    ip netns exec "$caller" setpriv --reuid 64003 --regid 64003 --clear-groups \
        curl -sS --noproxy '*' --max-time 10 -i -H 'Host: orders.shop.mesh.internal' \
        "http://$(lookup +short orders.shop.mesh.internal A)/" >"$work/answer"
    cat "$work/answer"
    grep -q '^HTTP/1.1 403' "$work/answer"
    grep -qi '^countersign-reason: caller-not-local' "$work/answer"
}

# say HOST PORT: sends a line, and prints the one that comes back.
say() {
    in_caller bash -c 'exec 3<>"/dev/tcp/$0/$1" && echo hello >&3 && read -r -t 10 line <&3 && echo "$line"' "$1" "$2"
}

tcp_service() {
    local address
    for address in "$(lookup +short ledger.shop.mesh.internal A)" \
        "$(lookup +short ledger.shop.mesh.internal AAAA)" ledger.shop.mesh.internal; do
        say "$address" 5432 | tee "$work/said"
        grep -q '^heard hello$' "$work/said"
    done
}

# From the other namespace, as a user whom the redirect there exempts.
plaintext() {
    ip netns exec "$caller" curl -sS -g --noproxy '*' --max-time 10 -i "http://$1:8080/" >"$work/answer"
    cat "$work/answer"
    grep -q '^HTTP/1.1 403' "$work/answer"
    grep -qi '^countersign-reason: plaintext-refused' "$work/answer"
    ! grep -q 'hello from orders' "$work/answer"
}

plaintext_tcp() {
    ! ip netns exec "$caller" bash -c 'exec 3<>/dev/tcp/10.77.0.2/5433 && echo hello >&3 && read -r -t 10 <&3'
    eventually proxy_logged orders 'plaintext-refused'
}

no_circles() {
    ! in_caller curl -sS --noproxy '*' --max-time 10 http://127.0.0.1:15001/
    ! ip netns exec "$caller" curl -sS --noproxy '*' --max-time 10 http://10.77.0.2:15006/
    by_name -4
}

fails_with_a_reason() {
    mesh_call http://orders.shop.mesh.internal/ || true
    grep -Eq '^HTTP/1.1 50[234]' "$work/answer"
    grep -Eqi '^countersign-reason: (connect-timeout|connect-failed|upstream-reset|deadline)' "$work/answer"
}

# Its IPv6 address and routes went with the cable.
join_cable() {
    ip -n "$server" link set "${server}v" up
    ip -n "$server" address replace fd77::2/64 dev "${server}v" nodad
    routes "$server" 1
    routes "$caller" 2
}

answered_again() {
    mesh_call http://orders.shop.mesh.internal/ && grep -q 'hello from orders' "$work/answer"
}
