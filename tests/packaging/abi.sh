#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Compares the ABI of this tree with the kept description of the last release, abi/libsnapsend.abi.
#
#   tests/packaging/abi.sh [--write] [HEADER [MAP]]     --write: writes the description instead (make abi)
#
# abidiff reads C, and not what rustc writes about the same functions.  So what is described is a library of
# empty functions made from snapsend.h and snapsend.map: what a program compiled against the header relies on.
# That the real library exports these very functions is another test (tests/run-packaging symbols).
set -euo pipefail
export LC_ALL=C
root=$(cd "$(dirname "$0")/../.." && pwd)
kept=$root/abi/libsnapsend.abi
write=
[ "${1:-}" != --write ] || {
	write=yes
	shift
}
header=$(realpath "${1:-$root/include/snapsend.h}")
map=$(realpath "${2:-$root/snapsend.map}")
command -v abidw >/dev/null || {
	echo "SKIP: no abigail-tools"
	exit 77
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Each declaration behind `extern "C" {` with a body instead of its semicolon.
cp "$header" "$work/snapsend.h"
{
	echo '#include "snapsend.h"'
	sed -e '1,/^extern "C" {/d' -e '/^#ifdef __cplusplus/,$d' "$work/snapsend.h" |
		sed -e '/^ *\/\*\*/,/\*\//d' -e 's/^#endif.*//' -e 's/);$/)\n{ return 0; }/'
} >"$work/shape.c"
cp "$map" "$work/map"
cd "$work"
${CC:-cc} -g -O0 -std=gnu11 -w -fPIC -shared shape.c -o libsnapsend.so -Wl,-soname,libsnapsend.so.0 -Wl,--version-script=map
sed -n '/^#define SNAPSEND_VERSION/d; s/^#define \(SNAPSEND_[A-Z_]* .*\)/\1/p' snapsend.h | sort >constants
describe=(abidw --no-corpus-path --no-show-locs --no-comp-dir-path --no-elf-needed --no-architecture
	--exported-interfaces-only --type-id-style hash)

if [ -n "$write" ]; then
	"${describe[@]}" libsnapsend.so | sed '1a <!-- SPDX-License-Identifier: MIT OR Apache-2.0 -->' >abi
	cp abi "$kept"
	{
		echo '# SPDX-License-Identifier: MIT OR Apache-2.0'
		cat constants
	} >"$root/abi/constants"
	echo "written: abi/libsnapsend.abi, abi/constants"
	exit 0
fi

failed=
# Functions may be added.  A struct that comes with its size may grow at the end, too, but what abidiff offers to
# let that pass (has_data_member_inserted_at = end) lets a changed field pass with it, as of 2.2: so somebody looks
# at it, and writes the description anew with `make abi`.
abidiff --no-architecture --no-added-syms "$kept" libsnapsend.so || failed="abidiff: $?"
gone=$(grep -v '^#' "$root/abi/constants" | comm -23 - constants)
[ -z "$gone" ] || failed+=" constants gone or changed: $gone"
[ -z "$failed" ] || {
	echo "not compatible with abi/: $failed"
	exit 1
}
echo "no incompatible change"
