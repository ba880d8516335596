#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# docs/GUARANTEES.md against what there is: the tests that it names exist, so do the mistakes, and no mistake
# that breaks a promise, or that loom catches, is missing there.

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

mistakes() {
	grep -oE "^(breaks|mutant|races) [a-z_/]+\.rs '[^']*'" tests/mutants.sh | grep "^$1" | sed "s/^[^']*'//; s/'$//"
}

while read -r name; do
	case $name in code | src/* | tests/* | make* | snapsend.h) continue ;; esac
	{
		mistakes breaks
		mistakes mutant
		mistakes races
	} | grep -qxF "$name" || complain "there is no mistake '$name'"
done < <(grep -oE '`[^`]+`' "$page" | tr -d '`')

while read -r name; do
	grep -qF "\`$name\`" "$page" || complain "'$name' is missing"
done < <(
	mistakes breaks
	mistakes races
)

exit $bad
