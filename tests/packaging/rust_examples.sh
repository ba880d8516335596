#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The examples in Rust: a server, fetched from with curl, and a sender, which sends a request to it.
#
#   tests/packaging/rust_examples.sh SERVER SENDER
# shellcheck source=server.sh
. "$(dirname "$0")/server.sh"
server_program=$1 sender=$2
command -v curl >/dev/null || {
	echo "SKIP: no curl"
	exit 77
}

for size in 0 1000 5000000; do head -c $size /dev/urandom >"$work/files/$size"; done
serve "$server_program" "$work/files"
for size in 0 1000 5000000; do
	curl -sS --max-time 60 "$url/$size" -o "$work/a" "$url/$size" -o "$work/b" || fail "curl: $?"
	cmp "$work/a" "$work/files/$size" && cmp "$work/b" "$work/files/$size"
done
[ "$(curl -sS --max-time 60 -o "$work/a" -w '%{http_code}' --path-as-is "$url/../out")" = 404 ] || fail "outside"
printf 'GET /1000 HTTP/1.1\r\n\r\n' >"$work/request"
"$sender" "$work/request" "${url#http://}" >"$work/said" || fail "$sender"
grep -q "^$(wc -c <"$work/request") bytes sent" "$work/said" || fail "$(cat "$work/said")"
echo "all as it should be"
