#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# One of c-examples/event-loops, served to curl:  event_loop.sh PROGRAM
# shellcheck source=server.sh
. "$(dirname "$0")/server.sh"

mkdir "$work/got"
for size in 0 1 1000 65537 1048576 16777217; do
	head -c $size /dev/urandom >"$work/files/$size"
done
head -c 300000000 /dev/zero >"$work/files/large"
serve "$1" "$work/files"
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
exec 3<>"/dev/tcp/127.0.0.1/$port"
printf 'GET /1 HTTP/1.1\r\n\r\nGET /1000 HTTP/1.1\r\nConnection: close\r\n\r\n' >&3
timeout 20 cat <&3 >"$work/two"
exec 3<&-
[ "$(grep -ao "HTTP/1.1 200 " "$work/two" | wc -l)" = 2 ] || fail "two requests in one piece"
tail -c 1000 "$work/two" | cmp - "$work/files/1000"

# Clients that go in the middle do no harm; all descriptors come back.
go_in_the_middle
get -o "$work/got/after" "$url/16777217" && cmp "$work/files/16777217" "$work/got/after"
no_file_stays_open

end_server
[ ! -s "$work/errors" ] || fail "it says: $(cat "$work/errors")"
echo "all as it should be"
