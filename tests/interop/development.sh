# `countersign up` and `run`, as the README tells it, and the demonstration judged by its JSON.

development() {
    local port
    port="$(free_port)"
    dev="$work/dev"
    mkdir "$work/pages"
    echo "hello from orders" >"$work/pages/index.html"
    claim "up starts a mesh, and its credential works" start_up
    start run-orders "$binaries/countersign" run --admin "$dev/admin.toml" --as shop/orders \
        --port "http=$port" -- python3 -m http.server "$port" --bind 127.0.0.1 --directory "$work/pages"
    claim "run: curl is refused while nobody said it may call" eventually run_curl 403
    claim "apply takes effect, and run's curl is answered" apply_and_call
    claim "explain names the rule" explain_names_rule
    claim "run ends with its program's exit status" run_exit_status
    claim "what a killed run created goes with the next run" run_killed
    claim "run ends on SIGTERM, its program with it, and nothing stays registered" run_ends
    claim "a second up in the same place is refused" \
        refused any 'another|in use|locked|held' "$binaries/countersign" up --state "$dev"
    claim "up ends with 0 on SIGTERM" stop up
    claim "up --demo renews, permits and refuses, and says so as JSON" demonstration
}

start_up() {
    start up "$binaries/countersign" up --state "$dev"
    eventually countersign status --admin "$dev/admin.toml"
}

# run_curl STATUS [WORD]
run_curl() {
    countersign run --admin "$dev/admin.toml" --as shop/checkout -- \
        curl -s --max-time 10 -i http://orders.shop.mesh.internal/ >"$work/answer"
    cat "$work/answer"
    grep -q "^HTTP/1.1 $1" "$work/answer" && grep -q "${2:-}" "$work/answer"
}

apply_and_call() {
    countersign apply --admin "$dev/admin.toml" -f deploy/examples/policy.yaml
    run_curl 200 'hello from orders'
}

explain_names_rule() {
    countersign explain --admin "$dev/admin.toml" --from shop/checkout --to shop/orders:http \
        --method GET --path / | tee "$work/explained"
    grep -q 'checkout-reads' "$work/explained"
}

run_exit_status() {
    local status=0
    countersign run --admin "$dev/admin.toml" --as shop/checkout -- sh -c 'exit 42' || status=$?
    [ "$status" = 42 ]
}

run_killed() {
    start run-late "$binaries/countersign" run --admin "$dev/admin.toml" --as shop/late -- sleep 60
    eventually registered late
    stop run-late KILL || true
    countersign run --admin "$dev/admin.toml" --as shop/late -- true
    ! registered late
}

registered() { countersign get workloads --admin "$dev/admin.toml" -o json | grep -q "\"$1\""; }

run_ends() {
    countersign delete --admin "$dev/admin.toml" policy shop/orders
    stop run-orders || true
    ! fetch "http://127.0.0.1:$port/"
    countersign get workloads --admin "$dev/admin.toml" -o json | tee "$work/left"
    ! grep -q orders "$work/left"
}

demonstration() {
    countersign up --demo --for 20s --json --state "$work/demo" >"$work/demo.json" 2>"$work/demo.err" || {
        cat "$work/demo.json" "$work/demo.err"
        return 1
    }
    cat "$work/demo.json"
    python3 - "$work/demo.json" <<'PYTHON'
import json, sys
lines = open(sys.argv[1]).read().splitlines()
assert len(lines) == 1, lines
outcome = json.loads(lines[0])
assert set(outcome) == {"identities", "calls", "revision"}, outcome
names = {identity["spiffe_id"].rsplit("/", 1)[1] for identity in outcome["identities"]}
assert names == {"orders", "checkout", "intruder"} and len(outcome["identities"]) == 3, names
for identity in outcome["identities"]:
    assert set(identity) == {"spiffe_id", "serial", "not_after", "renewals"}, identity
    assert identity["renewals"] >= 1, identity
calls = outcome["calls"]
assert set(calls) == {"allowed", "denied", "failed"}, calls
assert calls["allowed"] > 20 and calls["denied"] > 20 and calls["failed"] == 0, calls
assert outcome["revision"], outcome
PYTHON
}
