# SPDX-License-Identifier: LGPL-2.1-or-later
#
# For the tests of ctxctl: a daemon of its own, and TAP. $CTXD_PROGRAM and $CTXCTL_PROGRAM say what is tried.

set -u
: "${CTXD_PROGRAM:?}" "${CTXCTL_PROGRAM:?}"
unset CTXD_CONTEXT SYSTEMD_PAGER PAGER COLUMNS SYSTEMD_COLORS
export LC_ALL=C.UTF-8

dir=$(mktemp -d /tmp/ctxd-test-ctl-XXXXXX) || exit 1
chmod 755 "$dir"
number=0
failed=0

cleanup() {
        [ -n "${daemon-}" ] && kill "$daemon" 2>/dev/null && wait "$daemon" 2>/dev/null
        rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' TERM INT HUP

serves() {
        "$CTXCTL_PROGRAM" status >/dev/null 2>&1 || ! kill -0 "$daemon" 2>/dev/null
}

# Its probe is there, or it is known why not: the daemon itself only waits for a while.
probed() {
        output=$("$CTXCTL_PROGRAM" --json=short status 2>/dev/null) && ! matches "$output" 'has not answered yet'
}

# start_daemon [CONFIGURATION]
start_daemon() {
        printf '[Daemon]\n%s\n' "${1-}" >"$dir/ctxd.conf"
        "$CTXD_PROGRAM" --embedded="$dir" --config="$dir/ctxd.conf" >"$dir/log" 2>&1 &
        daemon=$!
        export CTXD_ADDRESS=unix:path=$dir/bus
        until_true 60 serves && kill -0 "$daemon" && until_true 60 probed && return
        echo "Bail out! ctxd did not come up"
        sed 's/^/# /' "$dir/log"
        exit 1
}

# ctl ARGUMENTS...: $output, $errors, $status
ctl() {
        output=$("$CTXCTL_PROGRAM" "$@" 2>"$dir/errors" </dev/null)
        status=$?
        errors=$(cat "$dir/errors")
}

ok() {
        number=$((number + 1))
        echo "ok $number - $1"
}

not_ok() {
        number=$((number + 1))
        failed=$((failed + 1))
        echo "not ok $number - $1"
        printf 'status %s\noutput: %s\nerrors: %s\n' "${status-}" "${output-}" "${errors-}" | sed 's/^/# /'
}

skip() {
        number=$((number + 1))
        echo "ok $number - $1 # SKIP $2"
}

# check NAME CONDITION...: a command that is to succeed
check() {
        local name=$1
        shift
        if "$@"; then ok "$name"; else not_ok "$name"; fi
}

# expect NAME STATUS ARGUMENTS...: ctxctl is to exit with that
expect() {
        local name=$1 wanted=$2
        shift 2
        ctl "$@"
        if [ "$status" = "$wanted" ]; then ok "$name"; else not_ok "$name (not $wanted)"; fi
}

# matches TEXT PATTERN: an extended regular expression
matches() {
        grep -q -E -e "$2" <<<"$1"
}

# json EXPRESSION: of python, with d as what ctxctl printed
json() {
        python3 -c 'import json, sys
d = json.loads(sys.argv[1])
sys.exit(0 if eval(sys.argv[2]) else 1)' "$output" "$1"
}

# until_true SECONDS COMMAND...: no test takes that long but where it fails
until_true() {
        local end=$((SECONDS + $1))
        shift
        until "$@"; do
                [ $SECONDS -lt $end ] || return 1
                sleep 0.05
        done
}

# becomes PID NAME: waits until the process has executed its program; before that it still is this shell.
becomes() {
        until_true 60 grep -q -x -e "$2" "/proc/$1/comm"
}

# gone PID: a zombie has gone, too, though whoever adopted it may not collect it
gone() {
        ! grep -q -E '^State:[[:space:]]+[^ZX]' "/proc/$1/status" 2>/dev/null
}

finish() {
        echo "1..$number"
        [ $failed = 0 ]
        exit
}
