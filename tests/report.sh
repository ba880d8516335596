# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Sourced by runners of tests that are not programs of their own: a line for each test, "ok", "SKIP" or "FAIL", and at the
# end "N passed, N failed, N skipped".
#
# Sets parts, the names that the runner was called with, and counts in passed, failed and skipped.

parts=("$@")
passed=0 failed=0 skipped=0

ok() {
	echo "ok   $*"
	passed=$((passed + 1))
}

skip() {
	echo "SKIP $*"
	skipped=$((skipped + 1))
}

bad() { # name, then text that says more
	echo "FAIL $1"
	[ $# -lt 2 ] || tail -n 40 <<<"$2" | sed 's/^/     | /'
	failed=$((failed + 1))
}

bad_log() { # name, then a file that says more
	bad "$1" "$(tail -n 40 "$2" 2>/dev/null | tr -d '\0')"
}

is() { # name got wanted
	if [ "$2" = "$3" ]; then
		ok "$1"
	else
		bad "$1" "got '$2', wanted '$3'"
	fi
}

does() { # name command...: ok if it ends with status 0
	local name=$1 said
	shift
	if said=$("$@" 2>&1); then
		ok "$name"
	else
		bad "$name" "$said"
	fi
}

# The same with a time limit, and 77 means skipped. What the command prints stays in the file.
check_in() { # file name command...
	local log=$1 name=$2 status
	shift 2
	timeout -k 5 "${seconds:?}" "$@" >"$log" 2>&1 </dev/null
	status=$?
	case $status in
	0) ok "$name" ;;
	77) skip "$name: $(sed -n 's/^SKIP: //p' "$log" | tail -n 1)" ;;
	*) bad_log "$name (status $status)" "$log" ;;
	esac
}

# Whether the runner was called without names, or with a part of this one.
wanted() {
	local part
	[ ${#parts[@]} -gt 0 ] || return 0
	for part in "${parts[@]}"; do
		case $1 in *"$part"*) return 0 ;; esac
	done
	return 1
}

# From Debian, as root and without NO_INSTALL. No service is started.
install_packages() { # package...
	local policy=/usr/sbin/policy-rc.d made="" package
	[ $# -gt 0 ] || return 0
	if [ "$(id -u)" != 0 ] || [ -n "${NO_INSTALL:-}" ] || ! command -v apt-get >/dev/null; then
		echo "not installed: $*; the tests that need them are skipped"
		return 0
	fi
	echo "installing $*"
	if [ ! -e $policy ]; then
		printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy && made=yes
	fi
	apt-get -qq update >/dev/null 2>&1
	for package in "$@"; do
		apt-get -qqy -o DPkg::Lock::Timeout=300 --no-install-recommends install "$package" >/dev/null 2>&1 ||
			echo "could not install $package: the tests that need it are skipped"
	done
	[ -z "$made" ] || rm -f $policy
}

finish() {
	echo "$passed passed, $failed failed, $skipped skipped"
	[ "$failed" = 0 ]
	exit
}
