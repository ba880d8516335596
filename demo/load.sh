#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# load.sh [SECONDS]: 1,000 connections at once fetch random ranges of a 1 GiB file and compare every
# byte.  It fails if a byte was wrong, or if the server held more than 64 MiB at any time (without
# the file's pages).
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
seconds=${1:-${LOAD_SECONDS:-30}}
connections=${LOAD_CONNECTIONS:-1000}
most_kib=65536

# For each client, the server needs two descriptors and fetch one.
# shellcheck disable=SC3045 # every shell in use has it
hard=$(ulimit -H -n)
if [ "$hard" != unlimited ] && [ "$hard" -lt $((2 * connections + 100)) ]; then
	# shellcheck disable=SC3045
	ulimit -n $((2 * connections + 100)) || {
		echo "FAILED: $connections clients need $((2 * connections + 100)) descriptors (ulimit -n)"
		exit 1
	}
else
	# shellcheck disable=SC3045
	ulimit -S -n "$hard"
fi

# Prints the memory of a process without mapped pages of files, in KiB.
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

# Runs the server with a time limit, and records its own process id.
# shellcheck disable=SC2016
timeout -k 10 $((seconds + 120)) sh -c 'echo $$ >"$1"; shift; exec "$@"' sh "$work/pid" \
	"$bin/http_server" "$work" >"$work/server.out" 2>"$work/server.err" &
server=$!
await_port "$work/server.out"
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
wait "$server" || {
	status=1
	echo "FAILED: http_server ended with an error"
}
server=
cat "$work/server.err"
echo "the server held $idle KiB before and at most $peak KiB under load (without pages of files)"
if [ "$peak" -gt "$most_kib" ]; then
	echo "FAILED: more than $most_kib KiB"
	status=1
fi
[ "$status" -eq 0 ] && echo "$connections connections for $seconds s: every byte correct"
exit "$status"
