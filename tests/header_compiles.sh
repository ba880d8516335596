#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The header alone, included first and twice, compiles as C11 and as C++17 without a warning.
#   tests/header_compiles.sh [INCLUDE_DIR]
set -eu
include=${1:-$(dirname "$0")/../include}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cat >"$folder/use.c" <<'CODE'
#include <snapsend.h>
#include <snapsend.h>

/* Uses each kind of thing, so that a missing extern "C" or type shows when it is linked or compiled. */
int use(snapsend_t *ctx);
int use(snapsend_t *ctx)
{
    struct snapsend_options options;
    struct snapsend_request request;
    struct snapsend_completion completion;
    struct snapsend_info info;
    struct snapsend_stats stats;
    options.flags = SNAPSEND_EAGER | SNAPSEND_WAS_COPIED;
    request.length = SNAPSEND_TO_EOF;
    completion.event = SNAPSEND_EVENT_DONE;
    info.engine = SNAPSEND_ENGINE_AUTO;
    stats.in_flight = SNAPSEND_VERSION;
    return snapsend_event_fd(ctx) + (int)(options.flags + request.length + completion.event + info.engine +
                                          stats.in_flight);
}
CODE
cp "$folder/use.c" "$folder/use.cpp"

${CC:-cc} -std=c11 -Wall -Wextra -Wpedantic -Werror -I"$include" -c "$folder/use.c" -o "$folder/c.o"
echo "C11: no warning"

cxx=${CXX:-c++}
if ! command -v "${cxx%% *}" >/dev/null 2>&1; then
	echo "SKIP: no C++ compiler, C11 alone was checked"
	exit 77
fi
$cxx -std=c++17 -Wall -Wextra -Wpedantic -Werror -I"$include" -c "$folder/use.cpp" -o "$folder/cpp.o"
echo "C++17: no warning"
# The functions must have C linkage there.
nm -u "$folder/cpp.o" | grep -q ' snapsend_event_fd$' || {
	echo "C++ sees no C linkage"
	exit 1
}
