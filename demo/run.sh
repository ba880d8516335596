#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Serves real files with http_server, fetches them whole and by range with concurrent clients and
# compares every byte.  Then shows the purpose of the library.  The exit status is 0 only if
# everything was correct.
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
failed=

# Runs one step with a time limit, and records its failure.
step() {
	what=$1
	shift
	timeout -k 10 "$@" || {
		echo "FAILED: $what (status $?)"
		failed="$failed $what"
	}
}

mkdir "$work/root"
cd "$work/root"
make_files 0 1 4095 4096 4097 65536 102400 1048576 1048577 16777215 67108864
cp "$root/demo/run.sh" run.txt
cd "$work"

echo "== the calls, one after another (tour, try_send, cancel, three_moments)"
step tour 60 "$bin/tour"
step try_send 60 "$bin/try_send"
step cancel 60 "$bin/cancel"
step three_moments 60 "$bin/three_moments"

echo
echo "== one file over one connection (send_file)"
timeout -k 10 60 "$bin/fetch" --receive root/size-16777215.bin >receive.out 2>&1 &
client=$!
await_port receive.out
step send_file 60 "$bin/send_file" root/size-16777215.bin 127.0.0.1 "$port"
wait "$client" || failed="$failed receive"
client=
tail -n 1 receive.out

echo
echo "== files over HTTP, whole and by range (http_server)"
timeout -k 10 600 "$bin/http_server" root >server.out 2>server.err &
server=$!
await_port server.out
cd root
set -- *.* sub/more.bin
cd ..
step "fetch, 16 connections" 200 \
	"$bin/fetch" --port "$port" --root root --connections 16 --limit 180 "$@"
step "fetch, 64 connections, pipelined" 200 \
	"$bin/fetch" --port "$port" --root root --connections 64 --pipeline 8 --seed 2 --limit 180 "$@"
kill "$server"
wait "$server" || failed="$failed http_server"
server=
tail -n 1 server.err

echo
echo "== what arrives if a file is overwritten after it was reported as sent (before_after)"
step before_after 60 "$bin/before_after"

echo
if [ -n "$failed" ]; then
	echo "The demonstration FAILED:$failed"
	exit 1
fi
echo "Every byte was correct: each file arrived unchanged, whole and by range, and no later write"
echo "changed data that snapsend had reported as sent."
