#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# c-examples/http_server, by hand-written requests:  http_server.sh PROGRAM [OPTION...]
# (demo/run.sh fetches whole files and ranges from it, demo/load.sh with 1,000 clients.)
# shellcheck source=server.sh
. "$(dirname "$0")/server.sh"

mkdir "$work/files/directory"
printf 0123456789 >"$work/files/ten"
printf secret >"$work/secret"
mkfifo "$work/files/pipe"
head -c 100000000 /dev/zero >"$work/files/large"
serve "$@" "$work/files" 0 127.0.0.1 1

# Sends a request, as printf has it, and reads until the server closes; what came is in $answer.
ask() {
	exec 3<>"/dev/tcp/127.0.0.1/$port"
	# shellcheck disable=SC2059 # the request is a format
	printf "$1" >&3
	answer=$(timeout 20 cat <&3) || fail "$1: not closed"
	exec 3<&- 3>&-
}
expect() { # request status [what stands at the end]
	ask "$1"
	case $answer in
	"HTTP/1.1 $2 "*"${3-}") ;;
	*) fail "$1: $answer" ;;
	esac
}
closes='Connection: close\r\n\r\n'
expect "GET /ten HTTP/1.1\r\n$closes" 200 0123456789
expect "GET /ten?query HTTP/1.0\r\n\r\n" 200 0123456789
expect "GET /ten HTTP/1.1\r\nRange: bytes=3-4\r\n$closes" 206 34
expect "GET /ten HTTP/1.1\r\nRange: bytes=-2\r\n$closes" 206 89
expect "GET /missing HTTP/1.1\r\n$closes" 404
expect "GET /directory HTTP/1.1\r\n$closes" 404
expect "GET /pipe HTTP/1.1\r\n$closes" 404
expect "GET / HTTP/1.1\r\n$closes" 404
expect "GET /../secret HTTP/1.1\r\n$closes" 403
expect "GET /%%2e%%2e%%2fsecret HTTP/1.1\r\n$closes" 404
expect "GET /ten HTTP/1.1\r\nRange: bytes=10-\r\n$closes" 416
# Closed by itself: what follows cannot be understood.
expect 'GET /ten\r\n\r\n' 400
expect 'GET /ten HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc' 400
expect 'GET /ten HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n' 400
expect 'PUT /ten HTTP/1.1\r\n\r\n' 405
expect "GET /$(printf 'a%.0s' $(seq 5000)) HTTP/1.1\r\n$closes" 404
ask "HEAD /ten HTTP/1.1\r\n$closes"
case $answer in *"Content-Length: 10"*close*[0-9]) fail "HEAD: $answer" ;; *"Content-Length: 10"*close*) ;; *) fail "HEAD: $answer" ;; esac

# Two requests in one piece; one in many.
ask "GET /ten HTTP/1.1\r\n\r\nGET /ten HTTP/1.1\r\nRange: bytes=0-1\r\n$closes"
[[ $answer == "HTTP/1.1 200 "*"0123456789HTTP/1.1 206 "*01 ]] || fail "two: $answer"
exec 3<>"/dev/tcp/127.0.0.1/$port"
request=$'GET /ten HTTP/1.1\r\nConnection: close\r\n\r\n'
for ((i = 0; i < ${#request}; i++)); do printf %s "${request:i:1}" >&3; done
answer=$(timeout 20 cat <&3)
exec 3<&- 3>&-
[[ $answer == *0123456789 ]] || fail "byte by byte: $answer"

# An idle client, one that begins a request and does not go on, and one whose request is too long are closed; the last
# with a reset, perhaps.
for begun in '' 'GET /t' "GET /$(printf 'a%.0s' $(seq 9000))"; do
	exec 3<>"/dev/tcp/127.0.0.1/$port"
	printf %s "$begun" >&3
	status=0
	timeout 10 cat <&3 >/dev/null 2>&1 || status=$?
	[ "$status" != 124 ] || fail "a client is kept that sent ${#begun} bytes"
	exec 3<&- 3>&-
done

# Clients that send anything, and clients that go in the middle of their answer, do no harm.  Too long requests are reset.
trap '' PIPE
for i in $(seq 60); do
	exec 3<>"/dev/tcp/127.0.0.1/$port"
	{
		head -c $((i * 300)) /dev/urandom
		printf '\r\n\r\n'
	} >&3 2>/dev/null || true
	exec 3<&- 3>&-
done
go_in_the_middle
expect "GET /ten HTTP/1.1\r\n$closes" 200 0123456789
no_file_stays_open

end_server
grep -qx '[0-9]* bytes, [0-9]* of them from the page cache' "$work/errors" || fail "no count"
[ "$(wc -l <"$work/errors")" = 1 ] || fail "it complains"
echo "all as it should be"
