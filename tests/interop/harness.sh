# Claims, processes and waiting. Sourced by `run`, which sets $work.

# claim TEXT COMMAND...: runs it in a subshell where any failing step fails the claim.
claim() {
    local text="$1" status=0
    shift
    set +e
    (set -euo pipefail && "$@") >"$work/claim.log" 2>&1
    status=$?
    set -e
    if [ "$status" = 0 ]; then
        passed=$((passed + 1))
        echo "ok    $text"
    else
        failed=$((failed + 1))
        echo "FAIL  $text (exit $status)"
        tail -n 25 "$work/claim.log" | sed 's/^/      | /'
    fi
}

# start NAME COMMAND...: in the background, logging to NAME.log. Its id is in NAME.pid, and later
# its exit status in NAME.status.
start() {
    local name="$1"
    shift
    rm -f "$work/$name.status"
    (
        set +e
        "$@" >"$work/$name.log" 2>&1 </dev/null &
        echo "$!" >"$work/$name.pid"
        wait "$!" 2>/dev/null
        echo "$?" >"$work/$name.status"
    ) &
    until [ -s "$work/$name.pid" ]; do sleep 0.01; done
}

# stop NAME [SIGNAL]: as an operator would, and not forever. Returns its exit status.
stop() {
    local pid
    pid="$(cat "$work/$1.pid")"
    rm "$work/$1.pid"
    kill "-${2:-TERM}" "$pid" 2>/dev/null || true
    for _ in $(seq 200); do
        [ -s "$work/$1.status" ] && break
        sleep 0.1
    done
    if ! [ -s "$work/$1.status" ]; then
        echo "$1 did not end within 20 s"
        kill -KILL "$pid" 2>/dev/null || true
        return 1
    fi
    return "$(cat "$work/$1.status")"
}

# eventually COMMAND...: until it succeeds, for at most 30 s.
eventually() {
    local deadline=$((SECONDS + 30))
    until "$@" >"$work/attempt.log" 2>&1; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            echo "still failing after 30 s: $*"
            cat "$work/attempt.log"
            return 1
        fi
        sleep 0.2
    done
}

clean_up() {
    local file
    set +e
    for file in "$work"/*.pid; do
        [ -e "$file" ] && stop "$(basename "$file" .pid)" >/dev/null 2>&1
    done
    rm -rf "$work"
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

countersign() { timeout 60 "$binaries/countersign" "$@"; }
fetch() { curl -sS --max-time 10 "$@"; }

# refused STATUS PATTERN COMMAND...: ends with that status (`any` for every one but 0), and one
# line on standard error that says why.
refused() {
    local wanted="$1" pattern="$2" status=0
    shift 2
    timeout 20 "$@" >"$work/refused.out" 2>"$work/refused.err" </dev/null || status=$?
    cat "$work/refused.out" "$work/refused.err"
    if [ "$wanted" = any ]; then
        [ "$status" != 0 ] && [ "$status" != 124 ]
    else
        [ "$status" = "$wanted" ]
    fi || { echo "exit status $status, expected $wanted"; return 1; }
    [ "$(wc -l <"$work/refused.err")" = 1 ] || { echo "more or less than one line"; return 1; }
    grep -Eq -- "$pattern" "$work/refused.err" || { echo "no match for $pattern"; return 1; }
}
