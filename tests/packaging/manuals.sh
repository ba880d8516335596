#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The manual pages: manuals.sh lint|complete|filters|examples
set -u
export LC_ALL=C
root=$(cd "$(dirname "$0")/../.." && pwd)
man=$root/man
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
complain() {
	echo "$*"
	failed=1
}

functions() {
	${CC:-cc} -E -P "$root/include/snapsend.h" | tr '\n' ' ' | grep -o 'snapsend_[a-z_]*(' | tr -d '(' | sort -u
}

# Clean under mandoc -Tlint, but for manuals of other packages that may not be installed here; our own are looked
# for below.
lint() {
	command -v mandoc >/dev/null || {
		echo "SKIP: no mandoc"
		exit 77
	}
	mandoc -Tlint "$man"/*.[137] 2>/dev/null | grep -v 'referenced manual not found: Xr ' >"$work/lint"
	[ ! -s "$work/lint" ] || {
		cat "$work/lint"
		failed=1
	}
	local name section
	while read -r name section; do
		[ -e "$man/$name.$section" ] || complain "there is no $name($section), which is referred to"
	done < <(sed -n 's/^\.Xr \(snapsend[^ ]*\) \([0-9]\).*/\1 \2/p' "$man"/*.[137] | sort -u)
}

# The header's comment of a function.
comment() { # function
	awk -v name="$1(" '/^\/\*\*/ { text = "" } { text = text " " $0 } index($0, name) && !/^ *[\/*]/ { print text; exit }' \
		"$root/include/snapsend.h"
}

errors() { grep -o -- '-E[A-Z0-9]*'; }

# The errors that it names, and those of the function to which it refers.
all_errors() { # function
	local other
	comment "$1" | errors
	other=$(comment "$1" | grep -oE 'as (for )?snapsend_[a-z_]+\(' | grep -o 'snapsend_[a-z_]*' | head -n 1)
	[ -z "$other" ] || all_errors "$other"
}

# A page for each function, which has its signature and the same errors as the header.
complete() {
	local function page error
	for function in $(functions); do
		page=$man/$function.3
		[ -e "$page" ] || {
			complain "no page for $function()"
			continue
		}
		grep -q "^\.F[no] $function\b" "$page" || complain "$page: no synopsis of $function()"
		comment "$function" | errors | sort -u >"$work/errors"
		while read -r error; do
			# try_send, send and submit_many refer to snapsend_submit(3) for those that they share.
			grep -q -- "$error\b" "$page" || { grep -q '^Those of$' "$page" && grep -q -- "$error\b" "$man/snapsend_submit.3"; } ||
				complain "$page: $error is missing"
		done <"$work/errors"
	done
	# A page may describe several functions.
	for page in "$man"/snapsend_*.3; do
		[ ! -L "$page" ] || continue
		sed -n '/^\.Sh DESCRIPTION/q; s/^\.F[no] \(snapsend_[a-z_]*\).*/\1/p' "$page" | while read -r function; do
			all_errors "$function"
		done | sort -u >"$work/errors"
		sed '1,/^\.Sh ERRORS/d; /^\.Sh/,$d' "$page" | grep '^\.It Bq Er' | errors | while read -r error; do
			grep -qx -- "$error" "$work/errors" || echo "$page: the header does not name $error"
		done >"$work/more"
		[ ! -s "$work/more" ] || complain "$(cat "$work/more")"
	done
	# What DONE may say.
	awk '/^ \* status: 0/,/\*\//' "$root/include/snapsend.h" | grep -o -- '-E[A-Z0-9]*' | sort -u >"$work/errors"
	[ -s "$work/errors" ] || complain "no statuses found in the header"
	while read -r error; do
		grep -q "^.It Er.* $error\b" "$man/snapsend_poll.3" || complain "snapsend_poll.3: status $error is missing"
	done <"$work/errors"
}

# snapsend(7) and docs/KERNELS.md list the same system calls.
filters() {
	sed -n '/^## System calls of the library/,/^## The shim/p' "$root/docs/KERNELS.md" |
		awk -F'|' '/^\|/ { print $2 }' | grep -oE '`[a-z0-9_]+`' | tr -d '`' | sort -u >"$work/kernels"
	# What follows the colon, in each item and in the sentence on probes.
	sed -n '/^\.Ss Filters of system calls/,/^\.Ss Conventions/p' "$man/snapsend.7" | awk '
		/^\./ { on = 0; next }
		sub(/^[^:]*: /, "") { on = 1 }
		on
		/[;.]$/ { on = 0 }' | tr -s ' ,;.' '\n' | grep -vxE 'or|and|with|' | sort -u >"$work/manual"
	diff -u "$work/kernels" "$work/manual" >"$work/diff" ||
		complain "system calls in docs/KERNELS.md and snapsend(7) differ: $(cat "$work/diff")"
	[ -s "$work/kernels" ] || complain "no system calls found in docs/KERNELS.md"
}

# Each example is a piece of C that compiles by itself.
examples() {
	local page number=0 file package packages
	for page in "$man"/*.[37]; do
		[ ! -L "$page" ] || continue
		awk -v to="$work/$(basename "$page")" '
            /^\.Sh / { on = $2 == "EXAMPLES" }
            on && /^\.Bd -literal/ { file = to "-" ++n ".c"; next }
            /^\.Ed/ { file = "" }
            file != "" { gsub(/\\e/, "\\"); sub(/^\\&/, ""); print > file }' "$page"
	done
	for page in "$man"/snapsend_*.3; do
		[ -L "$page" ] || [ -e "$work/$(basename "$page")-1.c" ] || complain "$page has no example"
	done
	for file in "$work"/*.c; do
		packages=snapsend
		grep -q '<event2/' "$file" && packages+=" libevent_core"
		grep -q '<uv.h>' "$file" && packages+=" libuv"
		grep -q '<tevent.h>' "$file" && packages+=" tevent talloc"
		for package in $packages; do
			pkg-config --exists "$package" || {
				echo "not compiled: $(basename "$file"), no $package"
				continue 2
			}
		done
		# shellcheck disable=SC2046,SC2086
		${CC:-cc} -std=gnu11 -Wall -Wextra -Werror -c "$file" -o "$work/o" $(pkg-config --cflags $packages) ||
			complain "$(basename "$file") does not compile"
		number=$((number + 1))
	done
	echo "$number examples compiled"
	[ "$number" -ge 15 ] || complain "too few"
}

"$1"
exit $failed
