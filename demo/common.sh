# shellcheck shell=sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Sourced by scripts that run the examples and compare what arrives: sets $root (the sources), $bin (the programs) and
# $work (a temporary directory), and ends the processes $server and $client at the end.
#
#   SNAPSEND_ENGINE    auto, uring or portable: passed to the programs
#   SNAPSEND_EXAMPLES  the directory of the built examples (target/c-examples)

set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
bin=${SNAPSEND_EXAMPLES:-$("$root/build/target-dir")/c-examples}
[ -x "$bin/fetch" ] || {
	echo "$0: cannot run $bin/fetch: no such file (run make demo)" >&2
	exit 2
}
bin=$(cd "$bin" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/snapsend-demo.XXXXXX")
server=
client=

cleanup() {
	trap - EXIT INT TERM
	for pid in $client $server; do
		kill "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Waits until a program has printed its address into that file; sets $port.
await_port() {
	port=
	for _ in $(seq 100); do
		read -r line 2>/dev/null <"$1" || line=
		case $line in
		*:*)
			# shellcheck disable=SC2034 # for the script that sources this
			port=${line##*:}
			return 0
			;;
		esac
		sleep 0.1
	done
	echo "FAILED: the program did not print its address within 10 s"
	exit 1
}

# Makes files of those sizes below the current directory, and one in a directory.
make_files() {
	mkdir sub
	for size in "$@"; do
		"$bin/fetch" --make "size-$size.bin" "$size"
	done
	"$bin/fetch" --make sub/more.bin 30001
}
