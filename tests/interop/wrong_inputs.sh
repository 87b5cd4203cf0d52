# One clear line and an exit status that is not 0; the CA of by_hand still runs.

wrong_inputs() {
    wrong="$work/wrong"
    mkdir "$wrong"
    claim "an unknown key of each configuration is refused with 64, the nearest named" unknown_keys
    claim "a key-encryption key of another store is refused, the data untouched" wrong_kek
    claim "a port in use is refused" port_in_use
    claim "a directory that cannot be written is refused" unwritable
    claim "get of an unknown kind is refused with 64" refused 64 'nonsense' "$binaries/countersign" get nonsense
    claim "an object with a mistake is refused with its line or pointer and a suggestion" bad_file
    claim "without a credential the CLI says what to do" \
        refused 1 'countersign up' "$binaries/countersign" get workloads
    claim "a wrong option of each binary is refused with 64" wrong_options
    claim "a malformed workload name is refused with 64" \
        refused 64 'Shop' "$binaries/countersign" run --as Shop/Orders -- true
}

unknown_keys() {
    sed 's/^kek_file/kek_fiel/' "$hand/ca.toml" >"$wrong/ca.toml"
    refused 64 'kek_fiel.*kek_file' countersign-ca --config "$wrong/ca.toml"
    sed 's/^token_file/tokenfile/' "$hand/agent.toml" >"$wrong/agent.toml"
    refused 64 'tokenfile.*token_file' countersign-agent --config "$wrong/agent.toml"
    sed 's/^feed/fed/' "$hand/proxy-orders.toml" >"$wrong/proxy.toml"
    refused 64 'fed.*feed' countersign-proxy --config "$wrong/proxy.toml"
}

wrong_options() {
    local binary
    for binary in countersign countersign-ca countersign-agent countersign-proxy; do
        refused 64 'error: unexpected argument .--confg. found' "$binaries/$binary" --confg x
    done
}

wrong_kek() {
    local before
    mkdir -m 700 -p "$wrong/other"
    python3 -c 'print("0" * 63 + "1")' >"$wrong/other/kek"
    chmod 600 "$wrong/other/kek"
    cp -r "$hand/ca" "$wrong/ca"
    rm -f "$wrong/ca/control.sock"
    sed "s/127.0.0.1:[0-9]*/127.0.0.1:0/; s#ca/keys/kek#other/kek#; s/level = .*/level = \"error\"/" \
        "$hand/ca.toml" >"$wrong/kek.toml"
    cd "$wrong"
    before="$(sha256sum <ca/data/ca.sqlite)"
    refused any 'not the one that sealed this store' countersign-ca --config kek.toml
    [ "$before" = "$(sha256sum <ca/data/ca.sqlite)" ]
}

port_in_use() {
    mkdir -p "$wrong/port"
    cd "$wrong/port"
    sed "s/agents = .*/agents = \"127.0.0.1:0\"/; s/level = .*/level = \"error\"/" "$hand/ca.toml" >ca.toml
    refused any "$web_port.*in use" countersign-ca --config ca.toml
}

# Not even root can make a directory in /sys.
unwritable() {
    sed "s#ca/data/ca.sqlite#/sys/countersign/ca.sqlite#" "$hand/ca.toml" >"$wrong/unwritable.toml"
    cd "$wrong"
    refused any '/sys/countersign' countersign-ca --config unwritable.toml
    refused any '/sys/countersign' "$binaries/countersign" up --state /sys/countersign
}

bad_file() {
    sed 's/allow:/alow:/' "$hand/policy.yaml" >"$wrong/policy.yaml"
    refused any '/spec/alow.*allow' "$binaries/countersign" apply -f "$wrong/policy.yaml" --admin "$admin"
    printf 'kind: Policy\n  bad: [\n' >"$wrong/policy.yaml"
    refused any 'line' "$binaries/countersign" apply -f "$wrong/policy.yaml" --admin "$admin"
}
