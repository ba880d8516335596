#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# prefork_server: files fetched and compared, before and after workers were killed; SIGTERM ends all of it, in the
# middle of an answer to a slow client, too.
# shellcheck source=../demo/common.sh
. "$(dirname "$0")/../demo/common.sh"

fail() {
	echo "FAILED: $*"
	sed 's/^/  | /' "$work/server.err"
	exit 1
}

# Waits until so many workers have been started in all.
await_workers() {
	for _ in $(seq 100); do
		[ "$(grep -c ' serves$' "$work/server.err")" -ge "$1" ] && return 0
		sleep 0.1
	done
	fail "no $1 workers within ten seconds"
}

# The last so many workers that were started.
last_workers() {
	sed -n 's/^worker \([0-9]*\) serves$/\1/p' "$work/server.err" | tail -n "$1"
}

fetch() {
	what=$1
	shift
	timeout -k 10 100 "$bin/fetch" --port "$port" --root root --limit 90 "$@" || fail "fetch, $what"
}

mkdir "$work/root"
cd "$work/root"
make_files 0 1 4096 102400 1048577 16777215
"$bin/fetch" --make ../secret.bin 1000
set -- *.bin sub/more.bin
cd "$work"

"$bin/prefork_server" root 0 4 >server.out 2>server.err &
server=$!
await_workers 4
await_port server.out

fetch "4 connections" --connections 4 --ranges 60 "$@"
fetch "as many connections as workers and twice" --connections 8 --ranges 20 --pipeline 4 --seed 2 "$@"

# Were a byte another, or the file shorter, fetch would notice.
mkdir wrong
for size in 4096 1048577; do
	"$bin/fetch" --make "wrong/size-$size.bin" "$size"
done
printf x | dd of=wrong/size-1048577.bin bs=1 seek=1048576 conv=notrunc 2>/dev/null
truncate -s 4095 wrong/size-4096.bin
for path in size-4096.bin size-1048577.bin; do
	timeout -k 10 100 "$bin/fetch" --port "$port" --root wrong --ranges 0 "$path" >wrong.out 2>&1 && fail "a wrong byte passes"
	grep -q '^WRONG: ' wrong.out || fail "fetch does not say what is wrong"
done

# One worker is killed, then all: others take their places.
kill -KILL "$(last_workers 1)"
fetch "one worker less" --connections 3 --ranges 10 --seed 3 "$@"
await_workers 5
for pid in $(last_workers 5); do
	kill -KILL "$pid" 2>/dev/null || true # one of them is dead already
done
await_workers 9
fetch "all workers new" --connections 4 --ranges 20 --seed 4 "$@"

# Nothing outside the root.
if command -v curl >/dev/null 2>&1; then
	status=$(curl -s -o "$work/body" -w '%{http_code}' --path-as-is "http://127.0.0.1:$port/../secret.bin") || true
	[ "$status" = 403 ] || fail "a file outside the root: status $status"
	status=$(curl -s -o "$work/body" -w '%{http_code}' -X DELETE "http://127.0.0.1:$port/size-1.bin") || true
	[ "$status" = 405 ] || fail "DELETE: status $status"
fi

# SIGTERM: all end, and soon; who is in the middle of an answer after a few seconds.
most_killed=5
if command -v curl >/dev/null 2>&1; then
	curl -s --limit-rate 100k -o /dev/null "http://127.0.0.1:$port/size-16777215.bin" &
	client=$!
	most_killed=6
	sleep 0.5
fi
workers=$(last_workers 4)
kill "$server"
for _ in $(seq 100); do
	kill -0 "$server" 2>/dev/null || break
	sleep 0.1
done
kill -0 "$server" 2>/dev/null && fail "the server goes on ten seconds after SIGTERM"
status=0
wait "$server" || status=$?
server=
[ "$status" = 0 ] || fail "the server ended with status $status"
for pid in $workers; do
	kill -0 "$pid" 2>/dev/null && fail "worker $pid goes on without its parent"
done
killed=$(grep -c ': Killed$' server.err) || true
[ "$killed" -ge 5 ] || fail "only $killed workers were killed"
[ "$killed" -le "$most_killed" ] || fail "workers had to be killed at the end"
grep -v -e ' serves$' -e ': Killed$' server.err && fail "the server complains"
echo "prefork_server: every byte was right, dead workers were replaced, SIGTERM ended all"
