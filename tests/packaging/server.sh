# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Sourced by tests of a server among the examples: it is started, its clients go in the middle, and it is ended.
#
# Sets work, with files/ for the server, and, in serve, server, port and url.

set -eu
export LC_ALL=C

work=$(mktemp -d "${TMPDIR:-/tmp}/snapsend-server.XXXXXX")
mkdir "$work/files"
server=""

cleanup() {
	[ -z "$server" ] || { kill -9 "$server" && wait "$server"; } 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT

fail() {
	echo "failed: $*"
	cat "$work/errors"
	exit 1
}

serve() { # program argument...
	# The server's process may come to it only after sed.
	: >"$work/out"
	"$@" >"$work/out" 2>"$work/errors" &
	server=$!
	for _ in $(seq 100); do
		port=$(sed -n 's/^listening on .*://p' "$work/out")
		[ -z "$port" ] || break
		sleep 0.05
	done
	[ -n "$port" ] || fail "it does not listen"
	# shellcheck disable=SC2034 # for the script that sources this
	url=http://127.0.0.1:$port
}

# Descriptor 3 is then a connection on which the answer with $work/files/large has begun.
begin_large() {
	exec 3<>"/dev/tcp/127.0.0.1/$port"
	printf 'GET /large HTTP/1.1\r\n\r\n' >&3
	head -c 100000 <&3 >/dev/null
}

go_in_the_middle() {
	for _ in 1 2 3; do
		begin_large
		exec 3<&- 3>&-
	done
}

no_file_stays_open() {
	local open=""
	for _ in $(seq 100); do
		open=$(find "/proc/$server/fd" -lname "$work/files/?*" | wc -l)
		[ "$open" != 0 ] || return 0
		sleep 0.1
	done
	fail "$open files stay open"
}

# While a client that does not read is being answered.
end_server() {
	local status=0
	begin_large
	kill -TERM "$server"
	wait "$server" || status=$?
	server=""
	[ "$status" = 0 ] || fail "status $status"
}
