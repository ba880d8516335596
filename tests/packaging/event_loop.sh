#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# One of c-examples/event-loops, served to curl:  event_loop.sh PROGRAM
set -eu
export LC_ALL=C
work=$(mktemp -d)
server=
cleanup() {
	[ -z "$server" ] || kill -9 "$server" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT
fail() {
	echo "failed: $*"
	exit 1
}

mkdir "$work/files" "$work/got"
for size in 0 1 1000 65537 1048576 16777217; do
	head -c $size /dev/urandom >"$work/files/$size"
done
head -c 300000000 /dev/zero >"$work/files/large"
"$1" "$work/files" >"$work/out" 2>"$work/errors" &
server=$!
for _ in $(seq 100); do
	url=$(sed -n 's/^listening on //p' "$work/out" 2>/dev/null) || true
	[ -z "$url" ] || break
	sleep 0.05
done
[ -n "$url" ] || fail "it does not listen: $(cat "$work/errors")"
get() { curl --silent --show-error --max-time 60 "$@"; }

# One connection for all of them.
args=()
for file in "$work"/files/[0-9]*; do args+=("$url/${file##*/}" -o "$work/got/${file##*/}"); done
connections=$(get -w '%{num_connects}\n' "${args[@]}" | awk '{ n += $1 } END { print n }')
[ "$connections" = 1 ] || fail "$connections connections"
for file in "$work"/files/[0-9]*; do cmp "$file" "$work/got/${file##*/}"; done

# Many at once.
args=()
for i in $(seq 60); do args+=("$url/1048576" -o "$work/got/p$i"); done
get --parallel --parallel-max 60 --parallel-immediate "${args[@]}" 2>"$work/progress" || fail "$(cat "$work/progress")"
for i in $(seq 60); do cmp "$work/files/1048576" "$work/got/p$i"; done

# What is not there, what may not be had, what is not understood; HEAD; HTTP/1.0; two requests in one piece.
[ "$(get -o /dev/null -w '%{http_code}' "$url/missing")" = 404 ] || fail "missing"
[ "$(get -o /dev/null -w '%{http_code}' --path-as-is "$url/../errors")" = 403 ] || fail "outside"
[ "$(get -o /dev/null -w '%{http_code}' -X PUT "$url/1")" = 405 ] || fail "PUT"
get -r 100-199 "$url/65537" | cmp - <(tail -c +101 "$work/files/65537" | head -c 100) || fail "Range"
get -I "$url/65537" | grep -q '^Content-Length: 65537' || fail "HEAD"
get --http1.0 -o "$work/got/old" "$url/65537" && cmp "$work/files/65537" "$work/got/old"
exec 3<>"/dev/tcp/127.0.0.1/${url##*:}"
printf 'GET /1 HTTP/1.1\r\n\r\nGET /1000 HTTP/1.1\r\nConnection: close\r\n\r\n' >&3
timeout 20 cat <&3 >"$work/two"
exec 3<&-
[ "$(grep -ao "HTTP/1.1 200 OK" "$work/two" | wc -l)" = 2 ] || fail "two requests in one piece"
tail -c 1000 "$work/two" | cmp - "$work/files/1000"

# Clients that go in the middle do no harm; all descriptors come back.
for _ in 1 2 3; do
	exec 3<>"/dev/tcp/127.0.0.1/${url##*:}"
	printf 'GET /large HTTP/1.1\r\n\r\n' >&3
	head -c 100000 <&3 >/dev/null
	exec 3<&-
done
get -o "$work/got/after" "$url/16777217" && cmp "$work/files/16777217" "$work/got/after"
for _ in $(seq 100); do
	open=$(find "/proc/$server/fd" -lname "$work/files/*" | wc -l)
	[ "$open" != 0 ] || break
	sleep 0.1
done
[ "$open" = 0 ] || fail "$open files stay open"

# Ended while a client that does not read is being answered.
exec 3<>"/dev/tcp/127.0.0.1/${url##*:}"
printf 'GET /large HTTP/1.1\r\n\r\n' >&3
head -c 100000 <&3 >/dev/null
kill -TERM "$server"
status=0
wait "$server" || status=$?
server=
[ "$status" = 0 ] || fail "status $status: $(cat "$work/errors")"
[ ! -s "$work/errors" ] || fail "it says: $(cat "$work/errors")"
echo "all as it should be"
