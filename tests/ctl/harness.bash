# SPDX-License-Identifier: LGPL-2.1-or-later
#
# For the tests of ctxctl: starts a daemon, runs ctxctl, waits, and prints TAP. The environment names the
# programs: $CTXD_PROGRAM and $CTXCTL_PROGRAM.

set -u
: "${CTXD_PROGRAM:?}" "${CTXCTL_PROGRAM:?}"
unset CTXD_CONTEXT SYSTEMD_PAGER PAGER COLUMNS SYSTEMD_COLORS
export LC_ALL=C.UTF-8

dir=$(mktemp -d /tmp/ctxd-test-ctl-XXXXXX) || exit 1
chmod 755 "$dir"
number=0
failed=0
daemon=

trap 'stop_daemon; rm -rf "$dir"' EXIT
trap 'exit 1' TERM INT HUP

# ---- the daemon

# start_daemon [CONFIGURATION]
start_daemon() {
        printf '[Daemon]\n%s\n' "${1-}" >"$dir/ctxd.conf"
        "$CTXD_PROGRAM" --embedded="$dir" --config="$dir/ctxd.conf" >"$dir/log" 2>&1 &
        daemon=$!
        export CTXD_ADDRESS=unix:path=$dir/bus
        until_true 60 serves && kill -0 "$daemon" && until_true 60 knows_probe && return
        echo "Bail out! ctxd did not come up"
        sed 's/^/# /' "$dir/log"
        exit 1
}

# stop_daemon [SIGNAL]
stop_daemon() {
        [ -n "$daemon" ] || return
        kill "-${1-TERM}" "$daemon" 2>/dev/null
        wait "$daemon" 2>/dev/null
        daemon=
}

# The daemon answers, or has ended.
serves() {
        "$CTXCTL_PROGRAM" status >/dev/null 2>&1 || ! kill -0 "$daemon" 2>/dev/null
}

# The daemon knows whether it has a probe.
knows_probe() {
        ctl --json=short status && ! matches "$output" 'has not answered yet'
}

# probe: prints bpf, proc or off
probe() {
        ctl --json=short status
        value 'd["probe_backend"]'
}

# ---- ctxctl

# ctl ARGUMENTS...: sets $output, $errors and $status
ctl() {
        output=$("$CTXCTL_PROGRAM" "$@" 2>"$dir/errors" </dev/null)
        status=$?
        errors=$(cat "$dir/errors")
        return $status
}

# ctl_as_nobody ARGUMENTS...: the same, as another user
ctl_as_nobody() {
        output=$("${as_nobody[@]}" "$@" 2>"$dir/errors")
        status=$?
        errors=$(cat "$dir/errors")
}
as_nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups "$dir/ctxctl")

# Prepares that. Fails where a test cannot change its user.
can_be_nobody() {
        [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null && install -m 755 "$CTXCTL_PROGRAM" "$dir/ctxctl"
}

# value EXPRESSION: prints a Python expression, in which d is the JSON in $output
value() {
        python3 -c 'import json, sys
d = json.loads(sys.argv[1])
print(eval(sys.argv[2]))' "$output" "$1"
}

# json EXPRESSION: the expression is true
json() {
        [ "$(value "bool($1)")" = True ]
}

# matches TEXT PATTERN: TEXT has a line that matches the extended regular expression
matches() {
        grep -q -E -e "$2" <<<"$1"
}

# ---- waiting, and processes to wait for

# until_true SECONDS COMMAND...: repeats COMMAND until it succeeds. Only a test that fails takes that long.
until_true() {
        local end=$((SECONDS + $1))
        shift
        until "$@"; do
                [ $SECONDS -lt $end ] || return 1
                sleep 0.05
        done
}

# becomes PID NAME: waits until the process has executed its program; before that it is a copy of this shell
becomes() {
        until_true 60 grep -q -x -e "$2" "/proc/$1/comm"
}

# member CONTEXT SECONDS: starts a process that gets no signal on cancel; $! is its pid
member() {
        sleep "$2" &
        becomes $! sleep
        "$CTXCTL_PROGRAM" attach "$1" $! || echo "# cannot attach"
}

# A command that writes to $dir/ready, and then blocks in a read from $dir/fifo until somebody writes to that.
# shellcheck disable=SC2034
blocked_reader=(python3 -c '
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
open(sys.argv[2], "w").write("x")
os.read(fd, 1)' "$dir/fifo" "$dir/ready")

# the_probe: $output is its pid
the_probe() {
        local pid
        for pid in $(cat "/proc/$daemon/task/$daemon/children"); do
                output=$pid
                grep -q -x ctxd-probe "/proc/$pid/comm" && return
        done
        return 1
}

is_stopped() {
        grep -q -E '^State:[[:space:]]+T' "/proc/$1/status"
}

is_running() {
        ! is_stopped "$1"
}

# gone PID: the process has ended; it may still be a zombie
gone() {
        ! grep -q -E '^State:[[:space:]]+[^ZX]' "/proc/$1/status" 2>/dev/null
}

# ---- TAP

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

# check NAME COMMAND...: COMMAND has to succeed
check() {
        local name=$1
        shift
        if "$@"; then ok "$name"; else not_ok "$name"; fi
}

# expect NAME STATUS ARGUMENTS...: ctxctl has to exit with STATUS
expect() {
        local name=$1 wanted=$2
        shift 2
        ctl "$@"
        if [ "$status" = "$wanted" ]; then ok "$name"; else not_ok "$name (not $wanted)"; fi
}

# expect_prepared NAME STATUS [OPTION...] SCRIPT: the same of a run whose deadline passes when SCRIPT, for sh, has
# written to $0, that is: has set its traps. A deadline that came before that is followed by a longer one.
expect_prepared() {
        local timeout
        for timeout in 100ms 2s 20s; do
                rm -f "$dir/prepared"
                ctl run --timeout=$timeout "${@:3:$#-3}" job -- sh -c "${!#}" "$dir/prepared"
                [ ! -e "$dir/prepared" ] || break
        done
        if [ "$status" = "$2" ]; then ok "$1"; else not_ok "$1 (not $2)"; fi
}

finish() {
        echo "1..$number"
        [ $failed = 0 ]
        exit
}
