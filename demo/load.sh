#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# load.sh [SECONDS]: 1,000 connections at once, each fetching random ranges of a 1 GiB file, every byte
# compared.  Fails if one was wrong or if the server ever held more than 64 MiB besides the file's
# pages.
#
#   SNAPSEND_ENGINE    auto, uring or portable: handed on to what is run
#   SNAPSEND_EXAMPLES  where the built examples are (target/c-examples)

set -eu

seconds=${1:-${LOAD_SECONDS:-30}}
connections=${LOAD_CONNECTIONS:-1000}
most_kib=65536
here=$(cd "$(dirname "$0")" && pwd)
bin=${SNAPSEND_EXAMPLES:-$("$here/../build/target-dir")/c-examples}
[ -x "$bin/fetch" ] || {
    echo "there is no $bin/fetch: build the examples first (make demo)" >&2
    exit 2
}
work=$(mktemp -d "${TMPDIR:-/tmp}/snapsend-load.XXXXXX")
server=
client=

cleanup() {
    trap - EXIT INT TERM
    for pid in $client $server; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Two descriptors a client in the server, one in fetch.
# shellcheck disable=SC3045 # every shell in use has it
hard=$(ulimit -H -n)
if [ "$hard" != unlimited ] && [ "$hard" -lt $((2 * connections + 100)) ]; then
    # shellcheck disable=SC3045
    ulimit -n $((2 * connections + 100)) || {
        echo "FAILED: at most $hard descriptors here, $connections connections need $((2 * connections + 100))"
        exit 1
    }
else
    # shellcheck disable=SC3045
    ulimit -S -n "$hard"
fi

# What the process holds besides mapped pages of files, in KiB.
held_kib() {
    sum=0
    while read -r name value _; do
        case $name in
        RssAnon: | RssShmem: | HugetlbPages:) sum=$((sum + value)) ;;
        esac
    done <"/proc/$1/status"
    echo "$sum"
}

"$bin/fetch" --make "$work/big.bin" 1073741824

# The server's own process id, with a limit of time all the same.
# shellcheck disable=SC2016
timeout -k 10 $((seconds + 120)) sh -c 'echo $$ >"$1"; shift; exec "$@"' sh "$work/pid" \
    "$bin/http_server" --root "$work" >"$work/server.out" 2>"$work/server.err" &
server=$!
for _ in $(seq 100); do
    read -r line 2>/dev/null <"$work/server.out" && break
    sleep 0.1
done
port=${line##*:}
pid=$(cat "$work/pid")
idle=$(held_kib "$pid")

timeout -k 10 $((seconds + 60)) "$bin/fetch" --port "$port" --root "$work" \
    --connections "$connections" --seconds "$seconds" big.bin &
client=$!
peak=$idle
while kill -0 "$client" 2>/dev/null; do
    now=$(held_kib "$pid")
    [ "$now" -le "$peak" ] || peak=$now
    sleep 0.2
done
status=0
wait "$client" || status=$?
client=
[ "$status" -eq 0 ] || echo "FAILED: fetch ended with status $status"

kill "$server"
wait "$server" || { status=1; echo "FAILED: http_server did not end well"; }
server=
cat "$work/server.err"
echo "the server held $idle KiB before, at most $peak KiB under load (files' pages not counted)"
if [ "$peak" -gt "$most_kib" ]; then
    echo "FAILED: more than $most_kib KiB"
    status=1
fi
[ "$status" -eq 0 ] && echo "$connections connections for $seconds s: every byte right"
exit "$status"
