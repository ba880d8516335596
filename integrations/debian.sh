# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Sourced by nginx/build.sh and samba/build.sh: what building a module for a server that Debian ships has in common.
# Everything is built in target/SERVER.
#
# The caller sets server, the name of Debian's package, of this folder's directory and of the one in target. Sets here,
# root, work, and, in install_packages, version and upstream.

export LC_ALL=C DEBIAN_FRONTEND=noninteractive
# Debian's own tools: another Python in front does not have the modules that Samba's configure looks for.
PATH=/usr/sbin:/usr/bin:/sbin:/bin

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034 # for the script that sources this
here=$root/integrations/${server:?}
work=$root/target/$server
mkdir -p "$work"

say() { echo "$server-module: $*"; }

missing() {
	say "$*"
	exit 77
}

quietly() { # name command...: its output is shown only when it fails
	local name=$1
	shift
	"$@" >"$work/$name.log" 2>&1 </dev/null || {
		tail -n 30 "$work/$name.log"
		say "$name failed; all of it is in $work/$name.log"
		exit 1
	}
}

is_root() { [ "$(id -u)" = 0 ]; }

# The server, and what else is needed. Ends the script where something is missing and cannot be installed.
install_packages() { # package...
	local wanted=() package policy=/usr/sbin/policy-rc.d
	command -v apt-get >/dev/null || missing "this is not Debian: the module is built with packages of Debian's"
	for package in "$server" "$@"; do
		dpkg -s "$package" >/dev/null 2>&1 || wanted+=("$package")
	done
	if [ ${#wanted[@]} -gt 0 ]; then
		is_root || missing "not installed: ${wanted[*]}"
		quietly update apt-get -q update
		# Not started: whoever wants it started does so.
		if [ ! -e $policy ]; then
			printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy && trap 'rm -f /usr/sbin/policy-rc.d' EXIT
		fi
		quietly install apt-get -qy -o DPkg::Lock::Timeout=300 --no-install-recommends install "${wanted[@]}"
	fi
	# shellcheck disable=SC2034 # for the script that sources this
	version=$(dpkg-query -W -f '${Version}' "$server")
	# shellcheck disable=SC2034
	upstream=$(dpkg-query -W -f '${source:Upstream-Version}' "$server")
}
