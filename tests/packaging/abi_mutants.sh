#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The comparison with the kept ABI must find what it is there for: each of these changes is refused, adding a
# function is not.
set -u
here=$(cd "$(dirname "$0")" && pwd)
header=$here/../../include/snapsend.h
map=$here/../../snapsend.map
command -v abidw >/dev/null || {
	echo "SKIP: no abigail-tools"
	exit 77
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
mutant() { # what, refused|accepted, sed for the header, sed for the map
	sed "$3" "$header" >"$work/snapsend.h"
	sed "${4:-}" "$map" >"$work/map"
	if cmp -s "$header" "$work/snapsend.h"; then
		echo "$1: the sed script changes nothing"
		failed=1
		return
	fi
	local status=0
	"$here/abi.sh" "$work/snapsend.h" "$work/map" >"$work/log" 2>&1 || status=$?
	case $2.$status in
	accepted.0 | refused.1) echo "$1: $2" ;;
	*)
		echo "$1: not $2 (status $status)"
		cat "$work/log"
		failed=1
		;;
	esac
}
mutant "a function added" accepted 's/^uint32_t snapsend_version(void);/&\nint snapsend_new(int a);/' \
	's/^};/};\nSNAPSEND_0.2 { global: snapsend_new; } SNAPSEND_0.1;/'
mutant "a function removed" refused '/^int snapsend_event_fd(/d' '/snapsend_event_fd/d'
mutant "a function in another version node" refused 's/$/ /' \
	's/\tsnapsend_poll;//; s/^};/};\nSNAPSEND_0.2 { global: snapsend_poll; } SNAPSEND_0.1;/'
mutant "a parameter of another type" refused 's/int timeout_ms);/long timeout_ms);/'
mutant "a field of another type" refused 's/^    uint32_t max_ops;/    uint64_t max_ops;/'
mutant "two fields that change places" refused \
	's/uint64_t file_bytes;/uint64_t other;/; s/uint64_t wire_bytes;/uint64_t file_bytes;/; s/uint64_t other;/uint64_t wire_bytes;/'
mutant "a completion that grows" refused 's/    uint32_t reserved\[5\];/    uint32_t reserved[7];/'
mutant "a flag with another value" refused 's/SNAPSEND_EXACT (1u << 1)/SNAPSEND_EXACT (1u << 7)/'
exit $failed
