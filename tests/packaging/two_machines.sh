#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Examples that send the page cache itself, to a client on another machine; run by tests/examples/two_machines.c:
#   two_machines.sh HTTP_SERVER THREE_MOMENTS
# shellcheck source=server.sh
. "$(dirname "$0")/server.sh"
here=$(cd "$(dirname "$0")" && pwd)
# Of the system's file systems some may be stacked.
export TMPDIR=/dev/shm
files=$(mktemp -d)
trap 'cleanup; rm -rf "$files"' EXIT
far() { nsenter --net="$FAR" "$@"; }

# One operation whose peer reads late: SENT comes before the peer reads, the others after.
far python3 "$here/late_reader.py" 10.99.0.2 >"$work/peer" &
peer=$!
while [ ! -s "$work/peer" ]; do sleep 0.05; done
"$2" 10.99.0.2 "$(head -n 1 "$work/peer")" >"$work/moments" 2>"$work/errors" || fail "three_moments: status $?"
wait "$peer"
cat "$work/moments"
[ "$(tail -n 1 "$work/peer")" = 262144 ] || fail "the peer got $(tail -n 1 "$work/peer") bytes"
awk '{ at[$3] = $1 } END { exit !(at["SENT:"] < 500 && at["SNAPSHOT:"] >= 500 && at["DONE:"] >= 500) }' "$work/moments" ||
	fail "the moments"
grep -qx '262144 bytes were sent from the page cache itself' "$work/moments" || fail "it has copied"

for size in 1000 70000 1048577 16777215; do head -c $size /dev/urandom >"$files/$size"; done
serve "$1" --zerocopy "$files" 0 10.99.0.1 1
url=http://10.99.0.1:$port
get() { far curl --silent --show-error --max-time 60 "$@"; }

# Many answers over one connection, and many connections at once.
args=()
for round in 1 2 3 4; do
	for file in "$files"/*; do args+=("$url/${file##*/}" -o "$work/${file##*/}.$round"); done
done
[ "$(get -w '%{num_connects}\n' "${args[@]}" | awk '{ n += $1 } END { print n }')" = 1 ] || fail "several connections"
get --parallel --parallel-max 16 --parallel-immediate "${args[@]}" 2>"$work/progress" || fail "$(cat "$work/progress")"
for file in "$work"/*.[1-4]; do
	name=${file##*/}
	cmp "$file" "$files/${name%.*}" || fail "$name"
done

# The second answer follows the first, all of which is in the socket, though nothing has been read.
answer=$(far timeout 20 bash -c 'exec 3<>"/dev/tcp/10.99.0.1/$0"
	printf "GET /70000 HTTP/1.1\r\n\r\nGET /1000 HTTP/1.1\r\nConnection: close\r\n\r\n" >&3
	sleep 0.5; grep -ao "HTTP/1.1 200 " <&3 | wc -l' "$port")
[ "$answer" = 2 ] || fail "pipelined: $answer answers"

# A client that reads nothing: it is disconnected soon after the server is told to end.
far bash -c 'exec 3<>"/dev/tcp/10.99.0.1/$0"; printf "GET /16777215 HTTP/1.1\r\n\r\n" >&3; exec sleep 60' "$port" &
idler=$!
sleep 0.5
begun=$SECONDS
kill -TERM "$server"
status=0
wait "$server" || status=$?
server=""
kill "$idler"
[ "$status" = 0 ] || fail "status $status"
[ $((SECONDS - begun)) -lt 8 ] || fail "it ended after $((SECONDS - begun)) seconds"
sent=$(sed -n 's/.* bytes, \([0-9]*\) of them from the page cache$/\1/p' "$work/errors")
[ "${sent:-0}" -ge 50000000 ] || fail "${sent:-0} bytes were sent from the page cache"
echo "all as it should be"
