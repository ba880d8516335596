#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The examples in Rust: file_server, fetched from with curl; send_file, which sends a request to it.
set -eu
export LC_ALL=C
programs=$1
command -v curl >/dev/null || {
	echo "SKIP: no curl"
	exit 77
}
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$work"' EXIT
fail() {
	echo "failed: $*"
	cat "$work/errors"
	exit 1
}

mkdir "$work/files"
for size in 0 1000 5000000; do head -c $size /dev/urandom >"$work/files/$size"; done
"$programs/file_server" "$work/files" >"$work/out" 2>"$work/errors" &
server=$!
for _ in $(seq 100); do
	url=$(sed -n 's/^listening on //p' "$work/out" 2>/dev/null) || true
	[ -z "$url" ] || break
	sleep 0.05
done
[ -n "$url" ] || fail "it does not listen"
for size in 0 1000 5000000; do
	curl -sS --max-time 60 "$url/$size" -o "$work/a" "$url/$size" -o "$work/b" || fail "curl: $?"
	cmp "$work/a" "$work/files/$size" && cmp "$work/b" "$work/files/$size"
done
[ "$(curl -sS --max-time 60 -o "$work/a" -w '%{http_code}' --path-as-is "$url/../out")" = 404 ] || fail "outside"
printf 'GET /1000 HTTP/1.1\r\n\r\n' >"$work/request"
"$programs/send_file" "$work/request" "${url#http://}" >"$work/said" || fail "send_file"
grep -q "^$(wc -c <"$work/request") bytes sent" "$work/said" || fail "$(cat "$work/said")"
echo "all as it should be"
