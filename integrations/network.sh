# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Sourced by nginx/server.sh and samba/server.sh: tests and benchmarks of a server in a network namespace of its own.

# Begins the script anew in a network of its own, in which there is a loopback interface with these addresses besides its
# own ones.
in_own_network() { # address... -- the script's arguments
	local addresses=() address
	while [ "$1" != -- ]; do
		addresses+=("$1")
		shift
	done
	shift
	if [ -z "${SNAPSEND_OWN_NETWORK:-}" ]; then
		SNAPSEND_OWN_NETWORK=yes exec unshare -n -- "$0" "$@"
	fi
	ip link set lo up
	for address in "${addresses[@]}"; do ip address add "$address/32" dev lo; done
}

# Ends a benchmark that cannot run here, with status 77, and says why; else it begins anew in a network of its own, with
# the congestion control that is asked for. server_lacks and in_network are those of a server.sh.
begin_benchmark() { # the script's arguments
	local lacks
	if lacks=$(server_lacks); then
		lack "$lacks"
	fi
	in_network "$@"
	[ -z "${SNAPSEND_CONGESTION:-}" ] || echo "$SNAPSEND_CONGESTION" >/proc/sys/net/ipv4/tcp_congestion_control
}

lack() {
	echo "bench.sh: $*" >&2
	exit 77
}
