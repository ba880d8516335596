#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Compares docs/GUARANTEES.md with what there is: the tests and the patches of tests/mutants/ that it names
# exist, and no patch is missing there that tests of the whole library or of loom must notice.

set -u
cd "$(dirname "$0")/.." || exit 1
page=docs/GUARANTEES.md
bad=0

complain() {
	echo "$page: $*"
	bad=1
}

# Tests: second column of the tables with three; those of the shim may be parts of one program.
while read -r name; do
	[ -e "tests/c/$name.c" ] || grep -qw "$name" tests/preload/field.c || complain "there is no test $name"
done < <(awk -F'|' '/^\|/ && NF == 5 { print $3 }' "$page" | grep -oE '\b[a-z]+(_[a-z0-9]+)+\b' | sort -u)

breaks() { # patch...
	sed -n 's/^Breaks: //p' "$@"
}

while read -r name; do
	case $name in code | src/* | tests/* | make* | snapsend.h) continue ;; esac
	breaks tests/mutants/*.patch | grep -qxF "$name" || complain "there is no patch '$name'"
done < <(grep -oE '`[^`]+`' "$page" | tr -d '`')

while read -r name; do
	grep -qF "\`$name\`" "$page" || complain "'$name' is missing"
done < <(grep -lE '^Tests: (c|torture|chaos|loom)\b' tests/mutants/*.patch | while read -r patch; do breaks "$patch"; done)

exit $bad
