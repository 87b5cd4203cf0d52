# The web listener of the CA that by_hand left running: its certificates and its REST interface.

web() {
    ca_url="https://127.0.0.1:$web_port"
    claim "openssl verifies the web chain strictly, to the root that the credential pins" verify_chain
    claim "the web listener speaks TLS 1.2 too, and nothing older" web_versions
    pin_leaf
    claim "REST answers 401 without a credential" without_credential
    claim "an object with an unknown field is answered with problem+json, pointer and suggestion" bad_object
    claim "a stale If-Match is answered with 412, a fresh one is not" preconditions
    claim "what is served at /openapi.json is docs/openapi.json" same_openapi
}

verify_chain() {
    local pinned
    pinned="$(sed -n 's/^root_sha256 = \["\([0-9a-f]*\)"\]/\1/p' "$admin")"
    fetch -k "$ca_url/v1/bundle" |
        python3 -c 'import base64, json, sys; sys.stdout.buffer.write(base64.b64decode(json.load(sys.stdin)["keys"][0]["x5c"][0]))' \
            >"$work/root.der"
    echo "$pinned  $work/root.der" | sha256sum -c
    openssl x509 -inform der -in "$work/root.der" -out "$work/root.pem"
    timeout 10 openssl s_client -connect "127.0.0.1:$web_port" -CAfile "$work/root.pem" \
        -verify_return_error -showcerts </dev/null >"$work/chain"
    # Each certificate of the chain in a file of its own, the leaf in chain-1.pem.
    awk -v to="$work/chain" '/BEGIN CERT/ {n++} /BEGIN CERT/,/END CERT/ {print > (to "-" n ".pem")}' "$work/chain"
    openssl verify -x509_strict -CAfile "$work/root.pem" -untrusted "$work/chain-2.pem" "$work/chain-1.pem"
    openssl x509 -in "$work/chain-1.pem" -noout -ext subjectAltName |
        grep 'URI:spiffe://try.example/countersign/ca/ca-1'
}

web_versions() {
    timeout 10 openssl s_client -tls1_2 -connect "127.0.0.1:$web_port" </dev/null
    ! timeout 10 openssl s_client -tls1_1 -cipher 'ALL:@SECLEVEL=0' -connect "127.0.0.1:$web_port" </dev/null
}

# As docs/api.md says: the leaf that was just verified, by its key.
pin_leaf() {
    pin="$(openssl x509 -in "$work/chain-1.pem" -noout -pubkey | openssl pkey -pubin -outform der |
        openssl dgst -sha256 -binary | base64)"
    (umask 077 && printf 'header = "Authorization: Bearer %s"\n' \
        "$(sed -n 's/^secret = "\(.*\)"/\1/p' "$admin")" >"$work/auth")
}

stranger() { fetch -k --pinnedpubkey "sha256//$pin" "$@"; }
rest() { stranger -K "$work/auth" "$@"; }

# problem STATUS CODE: the last answer in $work/answer (headers and body).
problem() {
    cat "$work/answer"
    grep -Eq "^HTTP/[0-9.]+ $1" "$work/answer"
    grep -qi '^content-type: application/problem+json' "$work/answer"
    tail -n 1 "$work/answer" | python3 -c '
import json, sys
problem = json.load(sys.stdin)
assert problem["status"] == int(sys.argv[1]), problem
assert all(problem[key] for key in ("type", "title", "detail", "code")), problem
for key, value in (pair.split("=", 1) for pair in sys.argv[2:]):
    assert value in str(problem.get(key)), (key, problem)
' "$@"
}

without_credential() {
    stranger -i "$ca_url/v1/workloads" >"$work/answer"
    problem 401
    stranger -i -H 'Authorization: Bearer csa1_wrong' "$ca_url/v1/workloads" >"$work/answer"
    problem 401
}

bad_object() {
    rest -i -X PUT -H 'Content-Type: application/json' "$ca_url/v1/policies/shop/typo" -d '{
        "apiVersion": "countersign.dev/v1", "kind": "Policy", "metadata": {"namespace": "shop", "name": "typo"},
        "spec": {"targets": [{"service": "orders", "port": "http"}], "alow": []}}' >"$work/answer"
    problem 422 pointer=/spec/alow suggestion=allow
}

preconditions() {
    local policy="$ca_url/v1/policies/shop/orders" etag
    rest -i "$policy" >"$work/answer"
    etag="$(tr -d '\r' <"$work/answer" | sed -n 's/^[eE][tT]ag: //p')"
    tail -n 1 "$work/answer" >"$work/policy.json"
    rest -i -X PUT -H 'If-Match: "00000000-1"' -H 'Content-Type: application/json' \
        --data-binary "@$work/policy.json" "$policy" >"$work/answer"
    problem 412
    rest -f -X PUT -H "If-Match: $etag" -H 'Content-Type: application/json' \
        --data-binary "@$work/policy.json" "$policy"
}

# Indented, so that a change can be read in a diff.
served_openapi() { fetch -k "https://127.0.0.1:$web_port/openapi.json" | python3 -m json.tool; }

same_openapi() {
    served_openapi >"$work/openapi.json"
    diff -u docs/openapi.json "$work/openapi.json" ||
        { echo "if this is meant: tests/interop/run --write-openapi"; return 1; }
}
