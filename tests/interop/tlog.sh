# The transparency log of the CA that by_hand left running, in the eyes of Go's own implementation
# (golang.org/x/mod/sumdb, pinned in tests/interop/tlog).

transparency() {
    if ! command -v go >/dev/null; then
        echo "skip  Go is missing: its implementation of transparency logs judges nothing here" >&2
        [ -z "${CI:-}" ] || failed=$((failed + 1))
        return
    fi
    claim "Go's implementation builds from what go.sum pins" build_go_log
    claim "the log is served as files" mirror "$work/log-1"
    # A CA that starts again has a new intermediate and a new certificate: two more leaves.
    stop ca || true
    start_ca
    verify_chain >/dev/null 2>&1
    pin_leaf
    claim "what is issued is in the log soon after" eventually longer_than "$(sed -n 2p "$work/log-1/checkpoint")"
    claim "Go verifies checkpoint, tiles, inclusion of every leaf and consistency" go_verifies_log
    claim "Go refuses a tile that was changed" go_refuses_changed_tile
    claim "countersign log verify agrees, and finds the web listener's leaf" verify_agrees
    claim "countersign log verify refuses another key, and a certificate that is not there" verify_refuses
}

build_go_log() { (cd tests/interop/tlog && go build -mod=readonly -o "$work/go-log" .); }

# mirror DIRECTORY: the checkpoint and every tile of its tree, as they are served.
mirror() {
    mkdir -p "$1"
    rest -f "$ca_url/v1/log/checkpoint" >"$1/checkpoint"
    python3 - "$1/checkpoint" <<'PY' >"$1/paths"
import sys
size = int(open(sys.argv[1]).read().split("\n")[1])
def path(kind, number, width):
    groups = [f"{number % 1000:03}"]
    while number >= 1000:
        number //= 1000
        groups.insert(0, f"x{number % 1000:03}")
    return f"tile/{kind}/" + "/".join(groups) + ("" if width == 256 else f".p/{width}")
level, hashes = 0, size
while hashes:
    for number in range((hashes + 255) // 256):
        width = min(256, hashes - 256 * number)
        print(path(level, number, width))
        if level == 0:
            print(path("entries", number, width))
    level, hashes = level + 1, hashes // 256
PY
    local path
    while read -r path; do
        mkdir -p "$(dirname "$1/$path")"
        rest -f "$ca_url/v1/log/$path" >"$1/$path"
    done <"$1/paths"
}

log_key() {
    rest "$ca_url/v1/log" | python3 -c 'import json, sys; print(json.load(sys.stdin)["key"])'
}

go_verifies_log() {
    mirror "$work/log-2"
    "$work/go-log" "$(log_key)" "$work/log-2" "$work/log-1/checkpoint"
}

longer_than() {
    [ "$(rest -f "$ca_url/v1/log/checkpoint" | sed -n 2p)" -gt "$1" ]
}

go_refuses_changed_tile() {
    cp -r "$work/log-2" "$work/log-3"
    local tile
    tile="$(grep -m 1 '^tile/0/' "$work/log-3/paths")"
    printf 'x' | dd of="$work/log-3/$tile" bs=1 seek=5 conv=notrunc status=none
    ! "$work/go-log" "$(log_key)" "$work/log-3"
}

verify_agrees() {
    operator log verify
    operator log verify --certificate "$work/chain-1.pem" --key "$(log_key)"
    operator log show --last 1 -o json | grep -q '"x509-'
}

verify_refuses() {
    ! operator log verify --key 'try.example/countersign-log+00000000+AAAA'
    ! operator log verify --serial 7f
}
